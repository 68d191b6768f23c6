# The protocols: their fuzzing, the conformance script, and the clients that need a venv of their own.

KSERVE := .venv-kserve

.PHONY: fuzz conformance doors clients proto

fuzz: $(VENV)/.test ## Fuzz the wire's readers (SECONDS=120)
	MARTLET_FUZZ_SECONDS=$(or $(SECONDS),120) $(BIN)/python -m pytest -q -n 2 tests/unit/wire/test_fuzz.py

conformance: $(VENV)/.test ## Check TensorFlow Serving's contract, black box (needs the shared data)
	$(BIN)/python -m pytest -q tests/journeys/test_tensorflow_serving_api.py -k conformance

doors: $(VENV)/.test ## Ask many real models in every protocol (needs the shared data)
	MARTLET_DOORS=all $(BIN)/python -m pytest -q tests/contracts/test_doors_real.py

clients: $(KSERVE)/.made ## Set up the clients that cannot live beside our tests

$(KSERVE)/.made: constraints-kserve.txt
	$(PYTHON) -m venv $(KSERVE)
	$(KSERVE)/bin/python -m pip --quiet install --upgrade 'pip>=25.1'
	PIP_CONSTRAINT= $(KSERVE)/bin/python -m pip --quiet install -r constraints-kserve.txt
	@touch $@

proto: ## Compile the .proto files again (needs grpcio-tools)
	$(PYTHON) src/martlet/wire/protos/compile.py
