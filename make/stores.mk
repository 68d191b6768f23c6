.PHONY: bench-retrieval
bench-retrieval: $(VENV)/.test ## Measure nearest neighbours: recall, time, build, size (ROWS="10000 100000")
	$(BIN)/python benchmarks/retrieval.py $(if $(ROWS),--rows $(ROWS))

.PHONY: bench-tables
bench-tables: $(VENV)/.test ## Measure rows that change while W1 is served, and what workers share (TABLES="--rate 200")
	$(BIN)/python benchmarks/tables.py $(TABLES)
	$(BIN)/python benchmarks/one_copy.py
