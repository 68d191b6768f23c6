# PMML engines side by side, each in its own process. Needs Java 11 or newer for the JVM's, and for
# the exporters that write the models.

PMML_BENCH := run/pmml-bench

.PHONY: pmml-bench
pmml-bench: ## Measure PMML against jpmml-evaluator, pypmml, native libraries and ONNX (needs Java)
	@command -v java > /dev/null || { echo "This needs Java: install a JRE 17 and try again"; exit 1; }
	@test -d $(PMML_BENCH)/venv || $(PYTHON) -m venv $(PMML_BENCH)/venv
	$(PMML_BENCH)/venv/bin/pip install --quiet --editable . 'jpype1>=1.5' 'jpmml_evaluator>=0.16' \
	  'pypmml>=1.5' 'sklearn2pmml>=0.133' 'scikit-learn>=1.5,<1.9' 'lightgbm>=4.5' 'xgboost>=3,<3.3' \
	  'onnx>=1.16' onnxmltools skl2onnx
	$(PMML_BENCH)/venv/bin/python benchmarks/pmml/models.py $(PMML_BENCH)/models
	$(PMML_BENCH)/venv/bin/python benchmarks/pmml/compare.py $(PMML_BENCH)/models $(BENCH)
