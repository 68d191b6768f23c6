"""A list of stages as a servable: what it asks for, what it answers, and the run itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from martlet.errors import InvalidInput, ServableFailed, UnsupportedModel
from martlet.formats.stages import columns, wiring
from martlet.formats.stages.stage import Kind, Port, Stage
from martlet.formats.stages.vectors import Bools
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import DType, Signature, Tensor, Tensors

PREDICTION = "prediction"
COLUMNS = "columns"

_SCALARS = frozenset(Kind) - {Kind.ANY, Kind.VECTOR, Kind.WORDS, Kind.HASHES}


@dataclass(frozen=True, slots=True)
class Step:
    """
    A stage as it runs: the columns that it takes and gives, by name.

    Args:
        widths: Of the inputs whose width only a request tells: the place, and the width wanted.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    run: Callable[..., Any]
    keep: Callable[..., Bools] | None
    widths: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class _Plan:
    signature: Signature
    readers: list[tuple[str, Callable[[Tensor], columns.Column]]]
    steps: list[Step]
    writers: list[tuple[str, Callable[[columns.Column], Tensor], DType]]


class Plan:
    """
    The servable that a pipeline's stages make.

    Inputs are the columns that no stage makes. Three signatures take them:

    - the default answers what the model stages give, then every number and text that a stage
      before them made (Spark's ``transform`` adds them too);
    - ``prediction`` answers what the model stages give, nothing else, and runs nothing else;
    - ``columns`` answers every column that any stage made, vectors spread out.

    A pipeline without a model answers the columns that none of its stages uses again.
    """

    def __init__(self, where: str, stages: Sequence[Stage]) -> None:
        if not stages:
            raise UnsupportedModel(f"{where} holds no stage to run")
        stages = list(stages)
        lean = wiring.answers(stages)
        raw = wiring.asked(wiring.needed(stages, lean))
        made = [port for stage in stages for port in stage.outputs]
        within = {port.name for port in wiring.reachable(stages, set(raw))}
        extra = [p for p in made if p.name in within and p.kind in _SCALARS]
        self._plans = {
            DEFAULT_SIGNATURE: _plan(stages, [*lean, *extra]),
            PREDICTION: _plan(stages, lean),
            COLUMNS: _plan(stages, [*lean, *made]),
        }
        self.signatures: Mapping[str, Signature] = {
            name: plan.signature for name, plan in self._plans.items()
        }

    def steps(self, signature_name: str) -> list[Step]:
        """Return what a call of *signature_name* runs, in order."""
        return self._plans[signature_name].steps

    @property
    def vocabularies(self) -> Mapping[str, Sequence[str]]:
        """The words that its text inputs were learnt from."""
        found: dict[str, Sequence[str]] = {}
        for step in self._plans[COLUMNS].steps:
            found |= dict(zip(step.inputs, getattr(step.run, "labels", ()), strict=False))
        return {name: found[name] for name in self.signatures[COLUMNS].inputs if name in found}

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """
        Run the stages over all rows at once.

        Raises:
            InvalidInput: a stage refuses a value; says which stage, column and value.
        """
        plan = self._plans[signature_name]
        frame: dict[str, columns.Column] = {name: read(inputs[name]) for name, read in plan.readers}
        rows = _rows(plan.signature, inputs)
        kept: Bools | None = None
        for step in plan.steps:
            try:
                columns = [frame[name] for name in step.inputs]
                for place, width in step.widths:
                    _check(step.inputs[place], columns[place], width)
                if step.keep is not None:
                    stay = step.keep(*columns)
                    if not stay.all():
                        frame = {name: _take(column, stay) for name, column in frame.items()}
                        kept = _narrowed(kept, stay)
                        columns = [frame[name] for name in step.inputs]
                # A stage without inputs is the same for every row: it is told how many there are.
                found = step.run(*columns) if columns else step.run(_left(rows, kept))
            except InvalidInput as exc:
                raise InvalidInput(f"{step.name}: {exc}") from None
            except (ArithmeticError, IndexError, TypeError, ValueError) as exc:
                raise ServableFailed(f"{step.name} failed: {exc}") from exc
            if len(step.outputs) == 1:
                frame[step.outputs[0]] = found
            else:
                frame.update(zip(step.outputs, found, strict=True))
        answers = {name: write(frame[name]) for name, write, _ in plan.writers}
        if kept is None:
            return answers
        return {name: _spread(answers[name], kept, rows, dtype) for name, _, dtype in plan.writers}

    def close(self) -> None:
        """Nothing to free but memory."""


def _rows(signature: Signature, inputs: Tensors) -> int:
    counts = {name: len(inputs[name]) for name in signature.inputs}
    sizes = set(counts.values())
    if len(sizes) > 1:
        raise InvalidInput(f"the inputs differ in rows: {counts}")
    return sizes.pop() if sizes else 0


def _plan(stages: list[Stage], answers: list[Port]) -> _Plan:
    chosen = wiring.needed(stages, answers)
    asked = wiring.asked(chosen)
    unique = {port.name: port for port in reversed(answers)}
    ordered = {port.name: unique[port.name] for port in answers}
    signature = Signature.of(
        [columns.spec(port, given=True) for port in asked.values()],
        [columns.spec(port, given=False) for port in ordered.values()],
    )
    return _Plan(
        signature,
        [(port.name, columns.READERS.get(port.kind, np.asarray)) for port in asked.values()],
        [
            Step(
                stage.name,
                tuple(port.name for port in stage.inputs),
                tuple(port.name for port in stage.outputs),
                stage.run,
                stage.keep,
                widths,
            )
            for stage, widths in zip(chosen, wiring.open_widths(chosen, asked), strict=True)
        ],
        [
            (port.name, columns.WRITERS.get(port.kind, columns.written), columns.DTYPES[port.kind])
            for port in ordered.values()
        ],
    )


def _check(name: str, column: Any, width: int) -> None:
    found = getattr(column, "width", None)
    if found != width:
        held = "one number a row" if found is None else f"{found} elements"
        raise InvalidInput(f"column {name!r} has {held}; {width} elements are wanted")


def _take(column: columns.Column, rows: Bools) -> columns.Column:
    return column[rows] if isinstance(column, np.ndarray) else column.take(rows)


def _left(rows: int, kept: Bools | None) -> int:
    return rows if kept is None else int(kept.sum())


def _narrowed(kept: Bools | None, stay: Bools) -> Bools:
    if kept is None:
        return stay
    out = kept.copy()
    out[np.flatnonzero(kept)[~stay]] = False
    return out


def _spread(values: Tensor, kept: Bools, rows: int, dtype: DType) -> Tensor:
    """Put the rows that stayed in their places; those that went are missing."""
    missing: object = None
    if dtype.is_float:
        missing = np.nan
    elif dtype.is_integer:
        missing = -1
    out = np.full((rows, *values.shape[1:]), missing, dtype=values.dtype)
    out[kept] = values
    return out
