"""A PFA engine as a servable: its types as tensors, its rows one after another."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from martlet.errors import InvalidInput, ServableFailed
from martlet.formats.pfa.avrojson import writer
from martlet.formats.pfa.document import engine
from martlet.formats.pfa.failure import Failure
from martlet.formats.pfa.inputs import JSON, Given, Inputs, spec_of
from martlet.formats.pfa.types import Array, Record, Type
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import DType, Signature, Spec, Tensor, Tensors

OUTPUT = "output"


def _give(of: Type, spec: Spec, depth: int) -> Callable[[list[Any]], Tensor]:
    """Return what turns the rows' values into an output tensor."""
    dtype = spec.dtype.numpy
    if depth < 0:
        write = writer(of)

        def text(rows: list[Any]) -> Tensor:
            out = np.empty(len(rows), dtype=object)
            out[:] = [json.dumps(write(each), ensure_ascii=False) for each in rows]
            return out

        return text
    if depth == 0:
        missing: Any = np.nan if spec.dtype.is_float else None

        def plain(rows: list[Any]) -> Tensor:
            out = np.empty(len(rows), dtype=dtype)
            out[:] = [missing if each is None else each for each in rows]
            return out

        return plain
    return lambda rows: _stacked(rows, depth, dtype)


def _stacked(rows: list[Any], depth: int, dtype: Any) -> Tensor:
    """Stack the rows' arrays; shorter ones are filled up: with NaN, or None in text."""
    sizes = [0] * depth

    def measure(value: Any, axis: int) -> None:
        sizes[axis] = max(sizes[axis], len(value))
        if axis + 1 < depth:
            for each in value:
                measure(each, axis + 1)

    for row in rows:
        measure(row, 0)
    fill: Any = np.nan if dtype.kind == "f" else None
    out = np.full((len(rows), *sizes), fill if dtype.kind in "fO" else 0, dtype=dtype)

    def put(target: Tensor, value: Any, axis: int) -> None:
        if axis + 1 == depth:
            target[: len(value)] = value
        else:
            for i, each in enumerate(value):
                put(target[i], each, axis + 1)
        if dtype.kind not in "fO" and len(value) != sizes[axis]:
            raise InvalidInput(
                f"the rows' answers are arrays of different lengths ({len(value)} and "
                f"{sizes[axis]}), which {dtype} has no missing value for: ask for one row at a time"
            )

    for i, row in enumerate(rows):
        put(out[i], row, 0)
    return out


class PfaServable:
    """
    One engine.

    A record is one input (or output) a field, by its name; anything else is ``input`` (or
    ``output``). What no tensor holds (maps, unions, records within) is JSON text. Rows run one
    after another; an engine with state keeps it from call to call, and runs one call at a time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine = engine(path)
        self._inputs = Inputs(self._engine.input)
        outputs, self._writers = self._outputs()
        self.signatures: Mapping[str, Signature] = {
            DEFAULT_SIGNATURE: Signature.of(self._inputs.specs, outputs)
        }

    def _outputs(self) -> tuple[list[Spec], list[tuple[str, Callable[[list[Any]], Tensor]]]]:
        of = self._engine.output
        if self._engine.method == "emit":
            # Each row emits none, one or many: a JSON array of them.
            of = Array(of)
            spec = Spec(OUTPUT, DType.STRING, (-1,), description=f"{JSON}what the row emitted")
            return [spec], [(OUTPUT, _give(of, spec, -1))]
        if isinstance(of, Record) and of.fields:
            specs, writers = [], []
            for name, each in of.fields.items():
                spec, depth = spec_of(name, each)
                give = _give(each, spec, depth)
                specs.append(spec)
                writers.append((name, _field(name, give)))
            return specs, writers
        spec, depth = spec_of(OUTPUT, of)
        return [spec], [(OUTPUT, _give(of, spec, depth))]

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """
        Run the action on each row, in order.

        Raises:
            InvalidInput: a value is not of its type, or the action raised a PFA exception; the
                text is PFA's, with its number.
        """
        given, running = Given(self._inputs, inputs), self._engine
        count = given.count()
        walked = [grove.walk(given.tested, count) for grove in running.groves]
        rows: Sequence[Any] = [None] * count
        if running.reads_input:
            rows = given.rows()
        else:
            given.check()
        if running.bare:
            answers = walked[0]
        elif running.stateful:
            with running.lock:
                answers = self._run(rows, walked)
        else:
            answers = self._run(rows, walked)
        return {name: give(answers) for name, give in self._writers}

    def _run(self, rows: Sequence[Any], walked: Sequence[Sequence[Any]]) -> list[Any]:
        act, emitted = self._engine.act, self._engine.emitted
        emits = self._engine.method == "emit"
        answers = []
        try:
            for row, *found_for_it in zip(rows, *walked, strict=True):
                found = act(row, *found_for_it)
                if emits:
                    found = emitted.copy()
                    emitted.clear()
                answers.append(found)
        except Failure as exc:
            emitted.clear()
            raise InvalidInput(f"PFA exception in row {len(answers)}: {exc}") from None
        except RecursionError:
            emitted.clear()
            raise InvalidInput(f"row {len(answers)} recurs too deeply") from None
        except MemoryError:
            emitted.clear()
            raise InvalidInput(f"row {len(answers)} takes more memory than there is") from None
        except (ArithmeticError, LookupError, TypeError, ValueError) as exc:
            emitted.clear()
            raise ServableFailed(f"{self._path} failed in row {len(answers)}: {exc}") from exc
        return answers

    def close(self) -> None:
        """Run the document's ``end``."""
        try:
            self._engine.finish()
        except Failure as exc:
            raise ServableFailed(f"{self._path}: its end failed: {exc}") from None


def _field(name: str, give: Callable[[list[Any]], Tensor]) -> Callable[[list[Any]], Tensor]:
    return lambda rows: give([row[name] for row in rows])
