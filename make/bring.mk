# What bringing a model online gains, model by model. The published models come from the shared data.
.PHONY: bench-import
bench-import: $(VENV)/.test ## Measure what martlet import gains, step by step (MODELS="deepfm NeuralCF")
	$(BIN)/python benchmarks/bring/compare.py run/bench-import $(MODELS)
