.PHONY: faults
faults: $(VENV)/.test ## Break the server in every way of docs/reliability.md, at length, and print the figures
	MARTLET_FAULTS=long $(BIN)/python -m pytest -q -p no:cacheprovider tests/faults
