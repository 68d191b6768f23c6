# The shared PMML corpus (see MARTLET_SHARED in CONTRIBUTING.md), and the speed of PMML.

.PHONY: pmml pmml-onnx
pmml: $(VENV)/.test ## Score the shared PMML corpus and count what agrees
	cd tests/contracts && $(abspath $(BIN))/python $(abspath $(or $(MARTLET_SHARED),../shared))/pmml/check_pmml.py \
	  pmml_adapter:score $(abspath $(or $(MARTLET_SHARED),../shared))/pmml/open.json --as dict --quiet $(PMML)

pmml-onnx: $(VENV)/.test ## Score what converts of the shared PMML corpus as ONNX; the rest is skipped, with why
	MARTLET_PMML=whole $(BIN)/python -m pytest -q -rs -p no:cacheprovider tests/contracts/test_pmml_onnx_corpus.py
