"""Small PMML files, written on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from martlet import formats
from martlet.tensors import DType

NUMBERS = '<DataField name="x" optype="continuous" dataType="double"/>'
LETTERS = '<DataField name="k" optype="categorical" dataType="string"/>'
TARGET = '<DataField name="y" optype="continuous" dataType="double"/>'
SCHEMA = '<MiningField name="y" usageType="target"/><MiningField name="x"/><MiningField name="k"/>'
COPY = (
    '<RegressionTable intercept="0"><NumericPredictor name="x" coefficient="1"/></RegressionTable>'
)


def pmml(model: str, *, fields: str = NUMBERS + LETTERS + TARGET, shared: str = "") -> str:
    """A whole file around *model*."""
    return (
        '<?xml version="1.0"?>\n<PMML version="4.4" xmlns="http://www.dmg.org/PMML-4_4">'
        f"<Header/>\n<DataDictionary>{fields}</DataDictionary>\n"
        f"<TransformationDictionary>{shared}</TransformationDictionary>\n{model}\n</PMML>"
    )


def regression(
    *, schema: str = SCHEMA, local: str = "", output: str = "", table: str = COPY
) -> str:
    """A RegressionModel that gives x, unless *table* says otherwise."""
    return (
        f'<RegressionModel functionName="regression"><MiningSchema>{schema}</MiningSchema>'
        f"<Output>{output}</Output><LocalTransformations>{local}</LocalTransformations>"
        f"{table}</RegressionModel>"
    )


def computed(expression: str, kind: str = "double", fields: str = NUMBERS + LETTERS) -> str:
    """A file whose output ``out`` is *expression*."""
    schema = "".join(
        f'<MiningField name="{part.split(chr(34))[0]}"/>' for part in fields.split('name="')[1:]
    )
    output = (
        f'<OutputField name="out" feature="transformedValue" dataType="{kind}" '
        f'optype="categorical">{expression}</OutputField>'
    )
    table = '<RegressionTable intercept="0"/>'
    return pmml(regression(schema=schema, output=output, table=table), fields=fields)


def load(text: str | bytes, folder: Path) -> formats.Servable:
    path = folder / "model.pmml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return formats.load(path)


def ask(model: formats.Servable, **columns: list[Any]) -> dict[str, list[Any]]:
    """The answers of *columns*: in one batch, and checked to be those of each row alone."""
    inputs = model.signatures["serving_default"].inputs
    arrays = {name: _array(cells, inputs[name].dtype) for name, cells in columns.items()}
    rows = len(next(iter(arrays.values())))
    # Two more rows than asked: a batch of one takes the path of a record.
    padded = {name: np.concatenate([a, a[-1:], a[-1:]]) for name, a in arrays.items()}
    found = {name: plain(values)[:rows] for name, values in model.predict(padded).items()}
    for row in range(rows):
        alone = model.predict({name: a[row : row + 1] for name, a in arrays.items()})
        for name, values in alone.items():
            assert plain(values) == [found[name][row]], (name, row)
    return found


def _array(cells: list[Any], dtype: DType) -> np.ndarray:
    if dtype is DType.FLOAT64 and all(isinstance(each, int | float) for each in cells):
        return np.array(cells, dtype=np.float64)
    found = np.empty(len(cells), dtype=object)
    found[:] = cells
    return found


def plain(values: np.ndarray) -> list[Any]:
    return [None if isinstance(v, float) and v != v else v for v in values.tolist()]
