"""Spark ML's ``MLWritable`` folders, Spark 2 to 4, read without a JVM."""

from __future__ import annotations

from pathlib import Path

from martlet.formats import Format, LoadOptions
from martlet.servable import Servable


def _load(path: Path, options: LoadOptions) -> Servable:
    from martlet.formats.spark.pipeline import load

    return load(path)


def _sniff(path: Path) -> bool:
    metadata = path / "metadata"
    try:
        if not metadata.is_dir():
            return False
        for part in sorted(metadata.glob("part-*"))[:8]:
            with part.open("rb") as file:
                head = file.read(512)
            if head.strip():
                return b'"org.apache.spark.ml.' in head or b'"pyspark.ml.' in head
    except OSError:
        return False
    return False


FORMAT = Format(name="spark", suffixes=(), sniff=_sniff, load=_load, extra="spark")
