"""Folders as Spark ML's own writers leave them, in the layouts of its versions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


def vector(values: Any) -> dict[str, Any]:
    """Return a dense vector as a cell of Parquet."""
    return {"type": 1, "size": None, "indices": None, "values": [float(v) for v in values]}


def sparse(size: int, entries: dict[int, float]) -> dict[str, Any]:
    """Return a sparse vector as a cell of Parquet."""
    return {
        "type": 0, "size": size, "indices": list(entries), "values": [*map(float, entries.values())]
    }  # fmt: skip


def matrix(values: Any, transposed: bool = False) -> dict[str, Any]:
    """Return a dense matrix as a cell of Parquet, by columns unless *transposed*."""
    array = np.asarray(values, float)
    return {
        "type": 1, "numRows": array.shape[0], "numCols": array.shape[1],
        "colPtrs": None, "rowIndices": None, "isTransposed": transposed,
        "values": array.ravel(order="C" if transposed else "F").tolist(),
    }  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """How a version of Spark writes a stage down."""

    version: str = "3.5.1"
    codec: str = "snappy"
    parts: int = 1
    litter: bool = True

    @property
    def apart(self) -> bool:
        """Whether defaults are kept apart: before 2.4 they stood among the parameters."""
        return tuple(map(int, self.version.split(".")[:2])) >= (2, 4)


LAYOUTS = {
    "2.0": Layout("2.0.2", "snappy"),
    "2.3": Layout("2.3.4", "gzip", parts=3),
    "2.4": Layout("2.4.8", "none", litter=False),
    "3.0": Layout("3.0.3", "lz4", parts=2),
    "3.5": Layout("3.5.1", "snappy"),
    "4.0": Layout("4.0.1", "zstd", parts=2, litter=False),
}


def write_stage(
    folder: Path,
    kind: str,
    params: dict[str, Any],
    rows: Any = None,
    *,
    defaults: dict[str, Any] | None = None,
    extra: dict[str, Any] | None = None,
    tables: dict[str, list[dict[str, Any]]] | None = None,
    layout: Layout = LAYOUTS["3.5"],
) -> Path:
    """Write a stage of the class *kind* (``feature.Tokenizer``): metadata, and its rows."""
    defaults = defaults or {}
    metadata: dict[str, Any] = {
        "class": f"org.apache.spark.ml.{kind}",
        "timestamp": 1,
        "sparkVersion": layout.version,
        "uid": uid(kind),
        "paramMap": params if layout.apart else {**defaults, **params},
        **(extra or {}),
    }
    if layout.apart:
        metadata["defaultParamMap"] = defaults
    write_text(folder / "metadata", json.dumps(metadata), layout)
    for name, table in {"data": rows, **(tables or {})}.items():
        if table is not None:
            write_rows(folder / name, table, layout)
    return folder


def uid(kind: str) -> str:
    """Return the id of a stage of the class *kind*."""
    return f"{kind.rsplit('.', 1)[-1].removesuffix('Model')}_0a1b2c"


def write_text(folder: Path, text: str, layout: Layout) -> None:
    """Write one line as Hadoop's text writer does: a part of it, and parts that are empty."""
    folder.mkdir(parents=True)
    (folder / "part-00000").write_text(text + "\n")
    for i in range(1, layout.parts):
        (folder / f"part-{i:05}").write_text("")
    _litter(folder, layout)


def write_rows(folder: Path, rows: Any, layout: Layout) -> None:
    """Write *rows* (or an Arrow table) as Parquet, in as many parts as the layout has."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    whole = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows)
    step = -(-len(whole) // layout.parts)
    for i in range(layout.parts):
        part = whole.slice(i * step, step)
        name = f"part-{i:05}-0a1b-c000.{layout.codec}.parquet"
        pq.write_table(part, folder / name, compression=layout.codec)
    _litter(folder, layout)


def _litter(folder: Path, layout: Layout) -> None:
    """Leave what Hadoop leaves beside its parts."""
    if layout.litter:
        for part in sorted(folder.glob("part-*")):
            (folder / f".{part.name}.crc").write_bytes(b"crc\0\0\0\2\0")
        (folder / "_SUCCESS").write_bytes(b"")
        (folder / "._SUCCESS.crc").write_bytes(b"crc\0\0\0\2\0")


def write_pipeline(folder: Path, uids: list[str], layout: Layout = LAYOUTS["3.5"]) -> list[Path]:
    """Write a pipeline's own metadata; return the folders for its stages."""
    write_stage(folder, "PipelineModel", {"stageUids": uids}, layout=layout)
    width = len(str(len(uids)))
    return [folder / "stages" / f"{i:0{width}}_{each}" for i, each in enumerate(uids)]
