.PHONY: bench-formats
bench-formats: $(VENV)/.test ## Cost of a call beside each format's own library
	$(BIN)/python benchmarks/formats/hosted.py
