# Spark's own answers, from a Spark that runs here. Needs Java 17 and pyspark, which nothing else does.

.PHONY: spark-parity
spark-parity: $(VENV)/.test ## Train every Spark ML stage with pyspark and compare (needs Java)
	@command -v java > /dev/null || { echo "Spark needs Java: install a JRE 17 and try again"; exit 1; }
	@$(PYTHON) -m venv run/spark && run/spark/bin/pip install --quiet 'pyspark>=4,<5' numpy
	run/spark/bin/python tests/fixtures/spark/make.py run/spark-models
	MARTLET_SPARK_MODELS=run/spark-models $(BIN)/python -m pytest -q tests/unit/formats/test_spark.py
