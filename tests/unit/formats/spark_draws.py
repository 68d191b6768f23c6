"""What is drawn for a stage of Spark ML, and how a drawn stage is asked."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from spark_files import write_stage

import martlet

NUMBERS = st.floats(-9, 9, allow_subnormal=False)
COLUMNS = {
    "featuresCol": "x", "predictionCol": "prediction", "probabilityCol": "probability",
    "rawPredictionCol": "raw",
}  # fmt: skip


def lists(values: st.SearchStrategy[Any], least: int, most: int | None = None) -> Any:
    return st.lists(values, min_size=least, max_size=most or least)


@st.composite
def matrices(draw: st.DrawFn, width: int, values: Any = NUMBERS, least: int = 1) -> np.ndarray:
    return np.array(draw(lists(lists(values, width), least, 6)))


def ask(
    kind: str,
    params: dict[str, Any],
    rows: Any,
    inputs: dict[str, Any],
    extra: dict[str, Any] | None = None,
    tables: dict[str, Any] | None = None,
) -> dict[str, np.ndarray]:
    """Write a stage, load it, and return its columns."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_stage(Path(folder) / "m", kind, params, rows, extra=extra, tables=tables)
        with martlet.load(path) as model:
            return model.predict(inputs, "columns")


def close(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
