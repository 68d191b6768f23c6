# PMML beside the engines of others, and exported on the spot. Both need Java 11 or newer, and an
# environment of their own: the exporters know other versions than martlet is tested with.

PMML_BENCH := run/pmml-bench
PMML_JAVA  := command -v java > /dev/null || { echo "This needs Java: install a JRE 17 and try again"; exit 1; }

.PHONY: pmml-bench pmml-exporters pmml-random
pmml-bench: $(PMML_BENCH)/.venv ## Measure PMML against jpmml-evaluator, pypmml, native libraries and ONNX (needs Java)
	$(PMML_BENCH)/venv/bin/python benchmarks/pmml/models.py $(PMML_BENCH)/models
	$(PMML_BENCH)/venv/bin/python benchmarks/pmml/compare.py $(PMML_BENCH)/models $(BENCH)

pmml-exporters: $(PMML_BENCH)/.venv ## Train models, export them as PMML and compare with their libraries (needs Java)
	cd tests/contracts && $(abspath $(PMML_BENCH))/venv/bin/python -m pytest -q -p no:cacheprovider \
	  --noconftest test_pmml_exporters.py $(PMML)

pmml-random: $(PMML_BENCH)/.venv ## Make PMML documents at random and compare each cell with JPMML-Evaluator (needs Java)
	cd tests/contracts && $(abspath $(PMML_BENCH))/venv/bin/python -m pmml_random $(PMML)

$(PMML_BENCH)/.venv: make/pmml_bench.mk pyproject.toml $(NATIVE)
	@$(PMML_JAVA)
	@test -d $(PMML_BENCH)/venv || $(PYTHON) -m venv $(PMML_BENCH)/venv
	PIP_CONSTRAINT= $(PMML_BENCH)/venv/bin/pip install --quiet --editable . 'jpype1>=1.5' \
	  'jpmml_evaluator>=0.16' 'pypmml>=1.5' 'sklearn2pmml>=0.133' 'scikit-learn>=1.5,<1.9' \
	  'lightgbm>=4.5' 'xgboost>=3,<3.3' 'onnx>=1.16' onnxmltools skl2onnx pandas pytest hypothesis
	@touch $@
