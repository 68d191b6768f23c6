"""Spark ML's ``MLWritable`` folders, Spark 2 to 4, read without a JVM."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path

from martlet.formats import Format, LoadOptions
from martlet.servable import Servable


def _load(path: Path, options: LoadOptions) -> Servable:
    from martlet.formats.spark import packed
    from martlet.formats.spark.pipeline import load

    if path.is_file():
        with packed.unpacked(path) as folder:
            return load(folder)
    return load(packed.model_in(path))


_CLASS = re.compile(rb'^\s*\{.*"class"\s*:\s*"[\w.$]+"')
_SPARK = (b'"sparkVersion"', b'"org.apache.spark.', b'"pyspark.ml.')


def _sniff(path: Path) -> bool:
    """Stages of other packages too: the reader says which class it does not know."""
    from martlet.formats.spark import packed

    try:
        if path.is_file():
            return packed.is_packed(path)
        metadata = packed.model_in(path) / "metadata"
        if not metadata.is_dir():
            return False
        for part in sorted(metadata.glob("part-*"))[:8]:
            with gzip.open(part) if part.suffix == ".gz" else part.open("rb") as file:
                head = file.read(512)
            if head.strip():
                return bool(_CLASS.match(head)) and any(mark in head for mark in _SPARK)
    except (OSError, EOFError, zlib.error):
        return False
    return False


FORMAT = Format(name="spark", suffixes=(), sniff=_sniff, load=_load, extra="spark")
