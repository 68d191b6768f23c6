"""PMML converted to ONNX, as the callable that the shared PMML checker (check_pmml.py) runs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pmml_adapter

from martlet import formats
from martlet.convert.asking.draws import take
from martlet.convert.asking.ranges import answers
from martlet.convert.to_onnx.pmml import from_pmml
from martlet.convert.to_onnx.strict import Strict
from martlet.convert.to_onnx.task import Task
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import DType, Signature, Tensor


def score(path: str, data: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """
    Score *data* by the ONNX graph that *path* converts to.

    A row that the graph refuses must be one that the reader has no whole answer for; it is given
    as the reader has it, since no graph can say that.

    Raises:
        UnsupportedModel: it does not convert.
        AssertionError: the graph refuses what the reader answers, or answers what it refuses.
    """
    rows = len(data[next(iter(data))])
    whole = pmml_adapter.score(path, data)
    with closing(pmml_adapter.load(path)) as model:
        strict = Strict(model, empty=True)
        signature = strict.signatures[DEFAULT_SIGNATURE]
        inputs, sound = _inputs(signature, data, rows)
        with closing(_converted(Path(path), signature)) as graph:
            for some in _answered(graph, inputs, np.flatnonzero(sound)):
                asked = take(inputs, some)
                assert answers(strict, DEFAULT_SIGNATURE, asked) is not None, (
                    f"it answers rows {some[0]} to {some[-1]}, of which one is refused"
                )
                for name, values in graph.predict(asked).items():
                    whole[name] = whole[name].astype(object)
                    whole[name][some] = values
                sound[some] = False
        for row in np.flatnonzero(sound):
            alone = take(inputs, np.array([row]))
            assert answers(strict, DEFAULT_SIGNATURE, alone) is None, f"it refuses row {row}"
    return whole


def _converted(path: Path, signature: Signature) -> formats.Servable:
    graph = from_pmml(Task(path, DEFAULT_SIGNATURE, signature, {}))
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(graph, f"{folder}/model.onnx")
        return formats.load(Path(folder, "model.onnx"))


def _inputs(
    signature: Signature, data: Mapping[str, Any], rows: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the inputs, and which rows an ONNX graph can be asked: text is no number to it."""
    sound = np.ones(rows, bool)
    found = {}
    for name, spec in signature.inputs.items():
        cells = data.get(name, [None] * rows)
        if spec.dtype is DType.STRING:
            found[name] = np.array(["" if cell is None else str(cell) for cell in cells], object)
            continue
        texts = np.array([isinstance(cell, str) for cell in cells])
        sound &= ~texts
        numbers = [np.nan if v is None or t else v for v, t in zip(cells, texts, strict=True)]
        found[name] = np.array(numbers, np.float64)
    return found, sound


def _answered(model: formats.Servable, inputs: dict[str, Tensor], some: Tensor) -> Iterator[Tensor]:
    """Give runs of the rows *some* that are answered, as long as they come."""
    if not len(some):
        return
    if answers(model, DEFAULT_SIGNATURE, take(inputs, some)) is not None:
        yield some
    elif len(some) > 1:
        yield from _answered(model, inputs, some[: len(some) // 2])
        yield from _answered(model, inputs, some[len(some) // 2 :])
