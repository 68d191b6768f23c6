"""A list of stages as a servable: what it asks for, what it answers, and the run itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.errors import InvalidInput, ServableFailed, UnsupportedModel
from martlet.formats.stages.vectors import Bools, Dense, Vector
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import DType, Signature, Spec, Tensor, Tensors

PREDICTION = "prediction"
COLUMNS = "columns"

Column = NDArray[Any] | Vector
"""Numbers [rows], text (object) [rows], word lists (object of lists) [rows], or vectors."""


class Kind(Enum):
    """What a column holds."""

    NUMBER = "number"
    INTEGER = "int32"
    LONG = "int64"
    SINGLE = "float32"
    TEXT = "text"
    CATEGORY = "text or numbers"
    ANY = "number or vector"
    VECTOR = "vector"
    WORDS = "words"
    HASHES = "hashes"


_DTYPES = {
    Kind.NUMBER: DType.FLOAT64,
    Kind.INTEGER: DType.INT32,
    Kind.LONG: DType.INT64,
    Kind.SINGLE: DType.FLOAT32,
    Kind.TEXT: DType.STRING,
    Kind.CATEGORY: DType.STRING,
    Kind.ANY: DType.FLOAT64,
    Kind.VECTOR: DType.FLOAT64,
    Kind.WORDS: DType.STRING,
    Kind.HASHES: DType.FLOAT64,
}
# When several stages ask for one raw column: a number reads as a category too, and a vector
# that an assembler takes is a vector.
_STRICTER = [
    Kind.HASHES,
    Kind.WORDS,
    Kind.VECTOR,
    Kind.LONG,
    Kind.INTEGER,
    Kind.NUMBER,
    Kind.ANY,
    Kind.TEXT,
    Kind.CATEGORY,
]


_SCALARS = frozenset(Kind) - {Kind.ANY, Kind.VECTOR, Kind.WORDS, Kind.HASHES}


@dataclass(frozen=True, slots=True)
class Port:
    """A column that a stage takes or gives. ``width`` is of a vector, -1 where unknown."""

    name: str
    kind: Kind
    width: int = -1


@dataclass(frozen=True, slots=True)
class Stage:
    """
    One step of a pipeline.

    Args:
        name: Its id and class, for messages.
        inputs, outputs: Its columns, in the order in which *run* takes and gives them.
        run: Computes the outputs (one, or a tuple of them). Raises InvalidInput. Where it is a
            formula it is an object that shows it (`StandardScaler`), for who writes it elsewhere.
        keep: Says which rows stay; None: all. A row that goes answers NaN (text: None).
        predicts: Whether it is a model, not a step that prepares for one.
        same_width: Its first output is as wide as its first input.
        parts: An assembler: its output is its inputs side by side.
    """

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    run: Callable[..., Any]
    keep: Callable[..., Bools] | None = None
    predicts: bool = False
    same_width: bool = False
    parts: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """A stage as it runs: the columns that it takes and gives, by name."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    run: Callable[..., Any]
    keep: Callable[..., Bools] | None


@dataclass(frozen=True, slots=True)
class _Plan:
    signature: Signature
    readers: list[tuple[str, Callable[[Tensor], Column]]]
    steps: list[Step]
    writers: list[tuple[str, Callable[[Column], Tensor], DType]]


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
        lean = _answers(stages)
        raw = _asked(where, _needed(stages, lean))
        made = [port for stage in stages for port in stage.outputs]
        within = {port.name for port in _reachable(stages, set(raw))}
        extra = [p for p in made if p.name in within and p.kind in _SCALARS]
        self._plans = {
            DEFAULT_SIGNATURE: _plan(where, stages, [*lean, *extra]),
            PREDICTION: _plan(where, stages, lean),
            COLUMNS: _plan(where, stages, [*lean, *made]),
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
        frame: dict[str, Column] = {name: read(inputs[name]) for name, read in plan.readers}
        rows = _rows(plan.signature, inputs)
        kept: Bools | None = None
        for step in plan.steps:
            try:
                columns = [frame[name] for name in step.inputs]
                if step.keep is not None:
                    stay = step.keep(*columns)
                    if not stay.all():
                        frame = {name: _take(column, stay) for name, column in frame.items()}
                        kept = _narrowed(kept, stay)
                        columns = [frame[name] for name in step.inputs]
                found = step.run(*columns)
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


def _answers(stages: list[Stage]) -> list[Port]:
    first = next((i for i, stage in enumerate(stages) if stage.predicts), None)
    if first is not None:
        models = [p for stage in stages[first:] if stage.predicts for p in stage.outputs]
        after = [p for stage in stages[first:] if not stage.predicts for p in stage.outputs]
        return [*models, *after]
    used = {port.name for stage in stages for port in stage.inputs}
    loose = [p for stage in stages for p in stage.outputs if p.name not in used]
    return loose or list(stages[-1].outputs)


def _needed(stages: list[Stage], answers: Iterable[Port]) -> list[Stage]:
    wanted = {port.name for port in answers}
    found: list[Stage] = []
    for stage in reversed(stages):
        if stage.keep is not None or any(port.name in wanted for port in stage.outputs):
            found.append(stage)
            wanted.update(port.name for port in stage.inputs)
    return found[::-1]


def _reachable(stages: list[Stage], known: set[str]) -> list[Port]:
    found: list[Port] = []
    for stage in stages:
        if all(port.name in known for port in stage.inputs):
            known.update(port.name for port in stage.outputs)
            found.extend(stage.outputs)
    return found


def _asked(where: str, stages: list[Stage]) -> dict[str, Port]:
    made: set[str] = set()
    asked: dict[str, Port] = {}
    for stage in stages:
        for port in stage.inputs:
            if port.name in made:
                continue
            earlier = asked.setdefault(port.name, port)
            wider = port.kind is earlier.kind and port.width > earlier.width
            if wider or _STRICTER.index(port.kind) < _STRICTER.index(earlier.kind):
                asked[port.name] = port
        made.update(port.name for port in stage.outputs)
    _solve(stages, asked)
    return asked


def _solve(stages: list[Stage], asked: dict[str, Port]) -> None:
    """Find whether what an assembler takes raw is a number or a vector, from the widths around."""
    widths: dict[str, int] = {}
    for stage in reversed(stages):
        first = stage.outputs[0]
        if stage.same_width and first.name in widths:
            widths.setdefault(stage.inputs[0].name, widths[first.name])
        for port in stage.inputs:
            if port.kind is Kind.VECTOR and port.width >= 0:
                widths.setdefault(port.name, port.width)
    produced: dict[str, Port] = {}
    for stage in stages:
        for port in stage.outputs:
            produced[port.name] = port
        if not stage.parts:
            continue
        loose = [p.name for p in stage.inputs if p.name in asked and asked[p.name].kind is Kind.ANY]
        rest = widths.get(stage.outputs[0].name, -1)
        for port in stage.inputs:
            if port.name in loose or rest < 0:
                continue
            known = produced.get(port.name, asked.get(port.name, port))
            size = known.width if known.kind is Kind.VECTOR else 1
            rest = -1 if size < 0 else rest - size
        if rest < 0:
            continue
        if rest == len(loose):
            for name in loose:
                asked[name] = Port(name, Kind.NUMBER)
        elif len(loose) == 1:
            asked[loose[0]] = Port(loose[0], Kind.VECTOR, rest)
    for name, port in asked.items():
        if port.kind is Kind.VECTOR and port.width < 0 and name in widths:
            asked[name] = Port(name, Kind.VECTOR, widths[name])


def _plan(where: str, stages: list[Stage], answers: list[Port]) -> _Plan:
    chosen = _needed(stages, answers)
    asked = _asked(where, chosen)
    unique = {port.name: port for port in reversed(answers)}
    ordered = {port.name: unique[port.name] for port in answers}
    signature = Signature.of(
        [_spec(port, given=True) for port in asked.values()],
        [_spec(port, given=False) for port in ordered.values()],
    )
    return _Plan(
        signature,
        [(port.name, _READERS.get(port.kind, np.asarray)) for port in asked.values()],
        [
            Step(
                stage.name,
                tuple(port.name for port in stage.inputs),
                tuple(port.name for port in stage.outputs),
                stage.run,
                stage.keep,
            )
            for stage in chosen
        ],
        [
            (port.name, _WRITERS.get(port.kind, _written), _DTYPES[port.kind])
            for port in ordered.values()
        ],
    )


def _spec(port: Port, given: bool) -> Spec:
    shape: tuple[int, ...] | None = (-1,)
    if port.kind is Kind.VECTOR:
        shape = (-1, port.width)
    elif port.kind is Kind.WORDS:
        shape = (-1, -1)
    elif port.kind is Kind.HASHES:
        shape = (-1, port.width, 1)
    elif port.kind is Kind.ANY:
        shape = None
    dtype = _DTYPES[port.kind]
    described = ""
    if port.kind is Kind.WORDS:
        described = "a row's words, filled up with missing values"
    elif port.kind is Kind.CATEGORY and given:
        described = "text, or numbers that stand for it"
    elif port.kind is Kind.ANY:
        described = "one number a row, or a vector of them"
    nullable = port.kind not in (Kind.INTEGER, Kind.LONG)
    return Spec(
        port.name,
        dtype,
        shape,
        nullable=nullable,
        description=described,
        takes_numbers=given and port.kind is Kind.CATEGORY,
    )


def _read_text(values: Tensor) -> Column:
    flat = values.tolist()
    if bytes not in set(map(type, flat)):
        return values
    out = np.empty(len(flat), dtype=object)
    out[:] = [decoded(value) for value in flat]
    return out


def decoded(value: object) -> object:
    """Return *value*, as text where it is UTF-8 bytes."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError as exc:
        raise InvalidInput(f"text holds bytes that are not UTF-8: {exc}") from None


def _read_words(values: Tensor) -> Column:
    out = np.empty(len(values), dtype=object)
    for i, row in enumerate(values.tolist()):
        out[i] = [decoded(word) for word in row if word is not None]
    return out


def _read_any(values: Tensor) -> Column:
    if values.ndim == 1:
        return values
    if values.ndim == 2:
        return Dense(values)
    raise InvalidInput(f"shape {list(values.shape)} is neither [rows] nor [rows, width]")


_READERS: dict[Kind, Callable[[Tensor], Column]] = {
    Kind.TEXT: _read_text,
    Kind.CATEGORY: _read_text,
    Kind.WORDS: _read_words,
    Kind.VECTOR: Dense,
    Kind.ANY: _read_any,
}


def _written(column: Any) -> Tensor:
    return column if isinstance(column, np.ndarray) else np.asarray(column.dense())


def _write_words(column: Any) -> Tensor:
    words = column.tolist()
    longest = max(map(len, words), default=0)
    out = np.full((len(words), longest), None, dtype=object)
    for i, row in enumerate(words):
        out[i, : len(row)] = row
    return out


def _typed(dtype: type) -> Callable[[Any], Tensor]:
    return lambda column: np.asarray(column, dtype=dtype)


_WRITERS: dict[Kind, Callable[[Any], Tensor]] = {
    Kind.WORDS: _write_words,
    Kind.HASHES: lambda column: np.asarray(column.dense())[:, :, None],
    Kind.NUMBER: _typed(np.float64),
    Kind.INTEGER: _typed(np.int32),
    Kind.SINGLE: _typed(np.float32),
}


def _take(column: Column, rows: Bools) -> Column:
    return column[rows] if isinstance(column, np.ndarray) else column.take(rows)


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
