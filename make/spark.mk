# Spark's own answers, from a Spark that runs here. Needs Java 17 and pyspark, which nothing else does.

SPARK_DRAWN ?= 60

.PHONY: spark-parity
spark-parity: $(VENV)/.test ## Train every Spark ML stage, and pipelines drawn at random, with pyspark and compare (needs Java)
	@command -v java > /dev/null || { echo "Spark needs Java: install a JRE 17 and try again"; exit 1; }
	@$(PYTHON) -m venv run/spark && run/spark/bin/pip install --quiet 'pyspark>=4,<5' numpy
	run/spark/bin/python tests/fixtures/spark/make.py run/spark-models
	run/spark/bin/python tests/fixtures/spark/draw.py run/spark-models $(SPARK_DRAWN)
	MARTLET_SPARK_MODELS=run/spark-models $(BIN)/python -m pytest -q tests/unit/formats/test_spark.py tests/unit/formats/test_spark_drawn.py
