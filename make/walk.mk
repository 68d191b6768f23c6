.PHONY: walk
walk: $(VENV)/.bench ## The files of martlet that one predict enters
	$(BIN)/python benchmarks/walk.py
