# martlet: `make run` shows the main job, `make test` passes the tests, `make help` lists the rest.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check
LOCKED := --constraint constraints.txt
# pip builds in a venv of its own; the lock holds there too.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
NATIVE := setup.py $(wildcard src/martlet/native/*.[ch])

.DEFAULT_GOAL := help
.PHONY: help run test check format lint types docs bench clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

run: $(VENV)/.demo ## Set up .venv and run the main job (DATA=path for real MovieLens data)
	@$(BIN)/martlet demo $(if $(DATA),--data $(DATA)) $(DEMO)

test: $(VENV)/.test ## Set up .venv and pass the tests
	$(BIN)/python -m pytest -n 2 --dist worksteal -q $(TESTS)

check: lint types docs test ## All that a change must pass: format, lint, types, docs, tests

format: $(VENV)/.check ## Put the code in its one format
	$(BIN)/ruff format src tests benchmarks setup.py
	$(BIN)/ruff check --fix src tests benchmarks setup.py

lint: $(VENV)/.check
	$(BIN)/ruff format --check src tests benchmarks setup.py
	$(BIN)/ruff check src tests benchmarks setup.py

types: $(VENV)/.check
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/.test ## Check that README and docs tell the truth
	$(BIN)/python -m pytest -q tests/unit/test_docs.py

bench: $(VENV)/.bench ## Measure the server against a peer and the floor (needs wrk)
	$(BIN)/python benchmarks/serve.py $(BENCH)

clean: ## Remove what make made
	rm -rf $(VENV) build dist run

# -- the environment --------------------------------------------------------------------------

$(VENV)/.pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "martlet needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.demo: $(VENV)/.pip pyproject.toml constraints.txt $(NATIVE)
	@echo "Setting up $(VENV) (once) ..."
	@$(PIP) install $(LOCKED) --editable '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/.pip pyproject.toml constraints.txt $(NATIVE)
	@echo "Setting up $(VENV) with every extra (once) ..."
	@$(PIP) install $(LOCKED) --editable '.[all]' --group test
	@touch $@

$(VENV)/.check: $(VENV)/.test
	@$(PIP) install $(LOCKED) --group check
	@touch $@

$(VENV)/.bench: $(VENV)/.test
	@$(PIP) install $(LOCKED) --group bench
	@touch $@

include $(wildcard make/*.mk)
