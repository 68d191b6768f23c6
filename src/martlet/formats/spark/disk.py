"""A stage as MLWritable leaves it on disk: metadata, parameters, rows of Parquet."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.errors import UnsupportedModel
from martlet.formats.spark.footer import claims

Floats = NDArray[np.float64]

# A pipeline or a tuned model that holds a stage written in Python is saved by Python.
PACKAGES = (
    "org.apache.spark.ml.", "pyspark.ml.", "ml.dmlc.xgboost4j.", "xgboost.spark.",
    "com.microsoft.azure.synapse.ml.lightgbm.", "com.microsoft.ml.spark.",
)  # fmt: skip
_MAX_METADATA_BYTES = 64 << 20
_MAX_PARTS = 100_000
_MAX_DATA_BYTES = 8 << 30
_MAX_VALUES = 1 << 30
_ANY_VALUES = 1 << 24  # however few bytes they are packed into: a column of one value is nothing
_MAX_VALUES_A_BYTE = 100

# What a stage has where its metadata is silent: Spark before 2.4 wrote no defaults down.
_DEFAULTS: Mapping[str, Any] = {
    "featuresCol": "features",
    "predictionCol": "prediction",
    "probabilityCol": "probability",
    "rawPredictionCol": "rawPrediction",
    "labelCol": "label",
    "userCol": "user",
    "itemCol": "item",
    "handleInvalid": "error",
    "leafCol": "",
    "varianceCol": "",
}


@dataclass(frozen=True, slots=True)
class Saved:
    """One folder that a stage was saved to."""

    path: Path
    kind: str
    uid: str
    spark: tuple[int, int]
    extra: Mapping[str, Any]
    params: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> Saved:
        """
        Read the metadata at *path*.

        Raises:
            UnsupportedModel: there is none, or it is not Spark ML's.
        """
        found = _json(path)
        if not isinstance(found, dict) or not isinstance(found.get("class"), str):
            raise UnsupportedModel(f"{path}: the metadata names no class")
        if not found["class"].startswith(PACKAGES):
            raise UnsupportedModel(
                f"{path}: {found['class']} is not a stage of Spark ML, and is not supported"
            )
        defaults = found.get("defaultParamMap") or {}
        given = found.get("paramMap") or {}
        if not isinstance(defaults, dict) or not isinstance(given, dict):
            raise UnsupportedModel(f"{path}: the parameters are not a map")
        kind = found["class"].rsplit(".", 1)[1]
        uid = str(found.get("uid", ""))
        return cls(
            path, kind, uid, _version(found.get("sparkVersion")), found, {**defaults, **given}
        )

    @property
    def name(self) -> str:
        """For messages: what it is, its id, and the folder."""
        return f"{self.kind} {self.uid} ({self.path})"

    def param(self, name: str, default: Any = None) -> Any:
        """Return a parameter: as given, else as defaulted in the file, else *default*."""
        found = self.params.get(name)
        if found is None:
            return _DEFAULTS.get(name) if default is None else default
        return found

    def text(self, name: str, default: str | None = None) -> str:
        """Return a parameter that must be text."""
        found = self.param(name, default)
        if not isinstance(found, str):
            raise UnsupportedModel(f"{self.name}: {name} is {found!r}, not text")
        return found

    def number(self, name: str, default: float | None = None) -> float:
        """Return a parameter that must be a number. JSON has no infinities: Spark spells them."""
        return number(self.param(name, default), f"{self.name}: {name}")

    def numbers(self, name: str) -> list[float] | None:
        """Return a parameter that is a list of numbers, None where it is not set."""
        found = self.param(name)
        return None if found is None else [number(v, f"{self.name}: {name}") for v in found]

    def inputs(self) -> list[str]:
        """Return ``inputCols``, or ``inputCol`` alone."""
        return self._columns("inputCol")

    def outputs(self) -> list[str]:
        """Return ``outputCols``, or ``outputCol`` alone."""
        if self.params.get("inputCols") is not None and self.params.get("outputCols") is None:
            return [self.text("outputCol", f"{self.uid}__output")]
        return self._columns("outputCol", f"{self.uid}__output")

    def _columns(self, name: str, default: str | None = None) -> list[str]:
        several = self.params.get(f"{name}s")
        if several is None:
            return [self.text(name, default)]
        if not isinstance(several, list) or not all(isinstance(each, str) for each in several):
            raise UnsupportedModel(f"{self.name}: {name}s is not a list of names")
        return several

    def rows(self, folder: str = "data") -> list[dict[str, Any]]:
        """
        Return the rows of Parquet below *folder*.

        Raises:
            UnsupportedModel: there are none, or they are broken or too many.
        """
        found: list[dict[str, Any]] = self.table(folder).to_pylist()
        if not found:
            raise UnsupportedModel(f"{self.name}: there is no row in {folder}")
        return found

    def row(self, folder: str = "data") -> dict[str, Any]:
        """Return the only row (or the first)."""
        return self.rows(folder)[0]

    def inner(self) -> Mapping[str, Any]:
        """Return the metadata of the model of Spark's older library that lies in ``data``."""
        found = _json(self.path / "data")
        return found if isinstance(found, dict) else {}

    def table(self, folder: str) -> Any:
        """Return an Arrow table of the Parquet below *folder*."""
        return read_parquet(self.path / folder)


def number(value: Any, where: str) -> float:
    """
    Return *value*, which may be spelled "Inf", "-Inf" or "NaN".

    Raises:
        UnsupportedModel: it is no number.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    known = {"Inf": math.inf, "-Inf": -math.inf, "NaN": math.nan,
             "Infinity": math.inf, "-Infinity": -math.inf}  # fmt: skip
    if isinstance(value, str) and value in known:
        return known[value]
    raise UnsupportedModel(f"{where} is {value!r}, not a number")


def _version(text: Any) -> tuple[int, int]:
    try:
        major, minor = str(text).split(".")[:2]
        return int(major), int(minor)
    except ValueError:
        return (3, 0)


def _parts(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UnsupportedModel(f"{folder} is missing")
    found = sorted(p for p in folder.iterdir() if p.name.startswith("part-") and p.is_file())
    if not found or len(found) > _MAX_PARTS:
        raise UnsupportedModel(f"{folder} holds {len(found)} part files")
    return found


def _json(path: Path) -> Any:
    try:
        return json.loads(_first_line(path / "metadata"))
    except (ValueError, RecursionError) as exc:
        raise UnsupportedModel(f"{path}: the metadata is not JSON: {exc}") from None


def _first_line(folder: Path) -> str:
    for line in text_lines(folder, _MAX_METADATA_BYTES):
        if line.strip():
            return line
    raise UnsupportedModel(f"{folder} is empty")


def text_lines(folder: Path, most: int = _MAX_DATA_BYTES) -> Iterator[str]:
    """
    Yield the lines of the text in *folder*, in the order of its part files, packed or not.

    Raises:
        UnsupportedModel: a part holds more than *most* bytes, or is no text.
    """
    for part in _parts(folder):
        try:
            with gzip.open(part) if part.suffix == ".gz" else part.open("rb") as file:
                text = file.read(most + 1)
            if len(text) > most:
                raise UnsupportedModel(f"{part} is larger than {most} bytes")
            yield from text.decode().split("\n")
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as exc:
            raise UnsupportedModel(f"{part} is no text that reads: {exc}") from None


def read_parquet(folder: Path) -> Any:
    """
    Return one Arrow table of the part files in *folder*, which claim no more than is sane.

    Raises:
        UnsupportedModel: a file is missing or broken, or their sizes are past the limits.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    sizes = values = packed = 0
    for part in _parts(folder):
        try:
            more, many = claims(part)
            sizes, values = sizes + more, values + many
            packed += part.stat().st_size
            most = min(_MAX_VALUES, max(_ANY_VALUES, packed * _MAX_VALUES_A_BYTE))
            if min(more, many) < 0 or sizes > _MAX_DATA_BYTES or values > most:
                raise UnsupportedModel(
                    f"{part} claims {values} values in {sizes} bytes, past the limits of "
                    f"{most} and {_MAX_DATA_BYTES}"
                )
            with pq.ParquetFile(part) as file:
                tables.append(file.read(use_threads=False))
        except (pa.ArrowException, OSError, ValueError) as exc:
            raise UnsupportedModel(f"{part} is not Parquet that reads: {exc}") from None
    filled = [table for table in tables if table.num_rows] or tables[:1]
    try:
        return pa.concat_tables(filled)
    except pa.ArrowException as exc:
        raise UnsupportedModel(f"{folder}: the part files differ: {exc}") from None


def vector(cell: Any, where: str) -> Floats:
    """
    Return a vector as Spark's VectorUDT keeps it: type 0 sparse, 1 dense.

    Raises:
        UnsupportedModel: it is not one.
    """
    if not isinstance(cell, dict) or "values" not in cell:
        raise UnsupportedModel(f"{where} is not a vector")
    values = np.array(cell["values"] or [], dtype=np.float64)
    if cell.get("type") == 1:
        return values
    size = cell.get("size")
    indices = np.array(cell.get("indices") or [], dtype=np.int64)
    if not isinstance(size, int) or not 0 <= size <= 1 << 28 or len(indices) != len(values):
        raise UnsupportedModel(f"{where} is a sparse vector of size {size}")
    if indices.size and not (indices.min() >= 0 and indices.max() < size):
        raise UnsupportedModel(f"{where}: an index is outside its {size} elements")
    out = np.zeros(size)
    out[indices] = values
    return out


def is_sparse(cell: Any) -> bool:
    """Return whether a vector or a matrix lists only what is not 0."""
    return isinstance(cell, dict) and cell.get("type") == 0


def matrix(cell: Any, where: str) -> Floats:
    """
    Return a matrix as Spark's MatrixUDT keeps it: by columns unless transposed; type 0 sparse.

    Raises:
        UnsupportedModel: it is not one.
    """
    if not isinstance(cell, dict) or "values" not in cell:
        raise UnsupportedModel(f"{where} is not a matrix")
    rows, columns = cell["numRows"], cell["numCols"]
    values = np.array(cell["values"] or [], dtype=np.float64)
    if rows < 0 or columns < 0 or rows * columns > 1 << 28:
        raise UnsupportedModel(f"{where} is a matrix of {rows} x {columns}")
    transposed = bool(cell.get("isTransposed"))
    if cell.get("type") == 1:
        if len(values) != rows * columns:
            raise UnsupportedModel(f"{where}: {len(values)} values in {rows} x {columns}")
        if transposed:
            return values.reshape(rows, columns)
        return np.ascontiguousarray(values.reshape(columns, rows).T)
    starts = np.array(cell["colPtrs"] or [], dtype=np.int64)
    inner = np.array(cell["rowIndices"] or [], dtype=np.int64)
    outer_size, inner_size = (rows, columns) if transposed else (columns, rows)
    fits = (
        len(starts) == outer_size + 1
        and len(inner) == len(values)
        and (np.diff(starts) >= 0).all()
        and (len(starts) == 0 or (starts[0] == 0 and starts[-1] == len(values)))
        and (inner.size == 0 or (inner.min() >= 0 and inner.max() < inner_size))
    )
    if not fits:
        raise UnsupportedModel(f"{where} is a sparse matrix whose parts do not fit")
    out = np.zeros((outer_size, inner_size))
    out[np.repeat(np.arange(outer_size), np.diff(starts)), inner] = values
    return out if transposed else np.ascontiguousarray(out.T)
