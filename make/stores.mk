.PHONY: bench-retrieval
bench-retrieval: $(VENV)/.test ## Measure nearest neighbours: recall, time, build, size (ROWS="10000 100000")
	$(BIN)/python benchmarks/retrieval.py $(if $(ROWS),--rows $(ROWS))
