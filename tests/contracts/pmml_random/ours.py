"""martlet, asked as the reference is: each row alone, and all in one batch."""

from __future__ import annotations

import contextlib
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from martlet.errors import UnsupportedModel
from martlet.formats import load
from martlet.tensors import DType

REASON = "_reason"
Answer = dict[str, Any] | str
"""The outputs of a row, or why there are none."""


class Ours:
    """
    One document as martlet loads it.

    Raises:
        UnsupportedModel: it does not.
    """

    def __init__(self, path: Path) -> None:
        self._model = load(path, format="pmml")
        signature = self._model.signatures["serving_default"]
        self._inputs = signature.inputs

    def _columns(self, rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
        return {
            name: _column([row.get(name) for row in rows], spec.dtype)
            for name, spec in self._inputs.items()
        }

    def together(self, rows: list[dict[str, Any]]) -> list[Answer]:
        """Return the answers of *rows* in one batch."""
        # One more row: a batch of one is a record.
        return self._answers([*rows, rows[-1]])[:-1]

    def alone(self, row: dict[str, Any]) -> Answer:
        """Return the answer of one record."""
        return self._answers([row])[0]

    def _answers(self, rows: list[dict[str, Any]]) -> list[Answer]:
        columns = self._columns(rows)
        found = self._model.predict(columns)
        names = [name for name in found if name != REASON]
        listed = {name: found[name].tolist() for name in found}
        count = len(listed[REASON])
        return [
            listed[REASON][at % count] or {name: _plain(listed[name][at % count]) for name in names}
            for at in range(len(rows))
        ]


_COMPUTED = re.compile(
    r'<DerivedField name="([lt]\d+)" optype="continuous" dataType="(double|float)"'
)


def is_endless(text: str, row: dict[str, Any], path: Path) -> bool:
    """
    Whether some field that the document *text* computes for *row* is infinite.

    Args:
        path: Where the document is written with those fields as outputs.
    """
    fields = [
        f'<OutputField name="{name}" feature="transformedValue" optype="continuous"'
        f' dataType="{kind}"><FieldRef field="{name}"/></OutputField>'
        for name, kind in dict(_COMPUTED.findall(text)).items()
    ]
    before, schema, after = text.partition("</MiningSchema>")
    after = after.removeprefix("<Output>") if after.startswith("<Output>") else f"</Output>{after}"
    path.write_text(f"{before}{schema}<Output>{''.join(fields)}{after}", encoding="utf-8")
    try:
        found = Ours(path).alone(row)
    except UnsupportedModel:
        return False
    return isinstance(found, dict) and any(
        isinstance(each, float) and math.isinf(each) for each in found.values()
    )


_SEGMENT = re.compile(r"<Segment[ >].*?</Segment>", re.DOTALL)


def alone_in_median(text: str, row: dict[str, Any], path: Path) -> list[Answer]:
    """
    Return what each segment answers to *row* where *text* is a median of classifiers.

    Args:
        path: Where the document is written with one segment at a time.
    """
    if 'functionName="classification"><MiningSchema>' not in text or '"median"' not in text:
        return []
    segments = _SEGMENT.findall(text)
    before, after = text[: text.index(segments[0])], text[text.rindex("</Segment>") :]
    found: list[Answer] = []
    for segment in segments:
        path.write_text(before + segment + after.removeprefix("</Segment>"), encoding="utf-8")
        with contextlib.suppress(UnsupportedModel):
            found.append(Ours(path).alone(row))
    return found


def _column(cells: list[Any], dtype: DType) -> np.ndarray:
    if dtype is DType.FLOAT64 and all(c is None or type(c) in (int, float) for c in cells):
        return np.array([np.nan if c is None else c for c in cells], dtype=np.float64)
    found = np.empty(len(cells), dtype=object)
    for place, cell in enumerate(cells):
        found[place] = cell
    return found


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and value != value else value


__all__ = ["Answer", "Ours", "UnsupportedModel"]
