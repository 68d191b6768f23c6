.PHONY: bench-formats
bench-formats: $(VENV)/.test ## Cost of a call beside each format's own library, and of the formats read here
	$(BIN)/python benchmarks/formats/hosted.py
	$(BIN)/python benchmarks/formats/readers.py

.PHONY: bench-real
bench-real: $(VENV)/.test ## Cost of a call for real files (MARTLET_SHARED) beside each one's own library
	$(BIN)/python benchmarks/formats/real.py
