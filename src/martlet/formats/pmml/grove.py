"""Where PMML's trees meet the forest: fields become columns of its matrix, predicates its tests.

All trees that read the same fields share one grove, and so one matrix and one walk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from martlet.formats.pmml import predicates
from martlet.formats.pmml.column import Column, Reasons, all_errors, failed
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.frame import FLOATS, Frame, Record, RowError, Single
from martlet.formats.pmml.scope import Field, Scope
from martlet.formats.pmml.values import DOUBLE, FLOAT, Value
from martlet.formats.trees import questions
from martlet.formats.trees.builder import Arithmetic
from martlet.formats.trees.forest import MISSING, NO, YES, Forest

_OPERATORS: dict[str, questions.Comparison] = {
    "equal": "==",
    "notEqual": "!=",
    "lessThan": "<",
    "lessOrEqual": "<=",
    "greaterThan": ">",
    "greaterOrEqual": ">=",
}
ORDERED: dict[str, questions.Comparison] = {
    name: sign for name, sign in _OPERATORS.items() if sign not in ("==", "!=")
}
"""How the forest writes PMML's comparisons by order."""

_UNKNOWN = -1.0
"""The code of a text that no test of the trees names."""


class Grove:
    """The fields that some trees test, and how their values become numbers."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self._fields: dict[int, tuple[int, Field]] = {}
        self._codes: dict[int, dict[Value, int]] = {}

    def feature(self, field: Field) -> int:
        """Return the column of *field*, which it gets when it is first asked for."""
        if field.slot not in self._fields:
            self._fields[field.slot] = (len(self._fields), field)
            if field.type.is_text:
                self._codes[field.slot] = {}
        return self._fields[field.slot][0]

    @property
    def features(self) -> int:
        """How many columns the matrix has: one at least."""
        return max(1, len(self._fields))

    @property
    def arithmetic(self) -> Arithmetic:
        """Float32 where every number is one: the same answers, in half the room."""
        if self._is_float32():
            return Arithmetic.FLOAT32
        return Arithmetic.FLOAT64

    def _is_float32(self) -> bool:
        kinds = {field.type for _, field in self._fields.values() if not field.type.is_text}
        return kinds == {FLOAT}

    def test(self, predicate: predicates.Predicate, element: Element) -> questions.Predicate:
        """
        Return *predicate* as a test of the forest.

        Raises:
            UnsupportedModel: it has none: text compared by order, without declared values.
        """
        match predicate:
            case predicates.Always(value):
                return value
            case predicates.Missing(field, _, negated):
                test = questions.Missing(self.feature(field))
                return questions.Not(test) if negated else test
            case predicates.InSet(field, _, values, negated):
                found = self._set(field, values)
                return questions.Not(found) if negated else found
            case predicates.Compare(field, _, operator, value):
                return self._compare(field, operator, value, element)
            case predicates.Compound(operator, parts):
                tests = tuple(self.test(each, element) for each in parts)
                return _JOIN[operator](tests)
            case _:
                raise element.error("holds a predicate that no tree can test")

    def _set(self, field: Field, values: frozenset[Value]) -> questions.Predicate:
        feature = self.feature(field)
        if field.type.is_text:
            codes = self._codes[field.slot]
            return questions.Member(feature, tuple(codes.setdefault(v, len(codes)) for v in values))
        if not values:
            return questions.Member(feature, ())
        if len(values) > 4 and all(_is_code(each) for each in values):
            return questions.Member(feature, tuple(int(each) for each in values))
        return questions.Or(
            tuple(questions.Compare(feature, "==", float(v)) for v in sorted(values))
        )

    def _compare(
        self, field: Field, operator: str, value: Value, element: Element
    ) -> questions.Predicate:
        ordered = operator not in ("equal", "notEqual")
        if ordered and field.optype == "ordinal" and field.values:
            return self._set(field, _side(field, operator, value))
        if not field.type.is_text:
            return questions.Compare(self.feature(field), _OPERATORS[operator], float(value))
        if ordered:
            raise element.error(f"compares the text {field.name!r} by order, and none is declared")
        found = self._set(field, frozenset((value,)))
        return found if operator == "equal" else questions.Not(found)

    def matrix(self, frame: Frame) -> tuple[np.ndarray, Reasons | None]:
        """Return the fields of the batch, NaN where missing; and the rows in error."""
        make = np.empty if self._fields else np.zeros
        x = make((frame.rows, self.features), np.float32 if self._is_float32() else np.float64)
        used: list[Column] = []
        for slot, (place, _) in self._fields.items():
            column: Column = frame[slot]
            if column.levels is not None:
                x[:, place] = column.by_level(self._coder(slot), np.nan, np.float64)
            else:
                x[:, place] = column.values
                if column.missing is not None:
                    x[column.missing, place] = np.nan
            if column.errors is not None:
                used.append(column)
        return x, all_errors(used) if used else None

    def lazily(self, forest: Forest) -> Callable[[Record], list[int]]:
        """
        Return a closure that walks one record and computes only the fields that it meets.

        For rows of which a field cannot be had: a tree that does not ask for it still answers.
        """
        reads = [self._reader(slot, field) for slot, (_, field) in self._fields.items()]

        def walk(record: Record) -> list[int]:
            return [_walked(forest, root, record, reads) for root in forest.roots.tolist()]

        return walk

    def answers(
        self, forest: Forest, frame: Frame, answers: np.ndarray, errors: Reasons
    ) -> Reasons:
        """
        Walk again, lazily, the rows in *errors*; fill in their *answers*, [rows, trees].

        Returns the errors of the rows whose trees do ask for what cannot be had.
        """
        walk, program = self.lazily(forest), self.scope.world.program
        left = np.full(len(errors), None, dtype=object)
        for row in np.flatnonzero(failed(errors)).tolist():
            try:
                answers[row] = walk(program.record(frame, row))
            except RowError as exc:
                left[row] = str(exc)
        return left

    def row(self) -> Callable[[Record], Sequence[float | None]]:
        """Return a closure that gives one record's fields."""
        reads = [self._reader(slot, field) for slot, (_, field) in self._fields.items()]
        if not reads:
            return lambda _: [None]
        given = self._given()

        def row(record: Record) -> list[float | None]:
            return [read(record) for read in reads]

        if given is None:
            return row

        def at_once(record: Record) -> Sequence[float | None]:
            values = given(record)
            return values if FLOATS.issuperset(map(type, values)) else row(record)

        return at_once

    def _given(self) -> Callable[[Record], tuple[float, ...]] | None:
        """Return what reads all fields at once, where they are as the caller gives them."""
        kinds = {field.type for _, field in self._fields.values()}
        # A float32 that is not rounded yet the forest rounds, if it compares in float32.
        if kinds not in ({DOUBLE}, {FLOAT}):
            return None
        return self.scope.world.program.given(list(self._fields))

    def _coder(self, slot: int) -> Callable[[Value], float]:
        codes = self._codes[slot]
        return lambda level: codes.get(level, _UNKNOWN)

    def _reader(self, slot: int, field: Field) -> Single:
        read = self.scope.world.program.reader(slot)
        if not field.type.is_text:
            return read
        codes = self._codes[slot]

        def code(record: Record) -> float | None:
            value = read(record)
            return None if value is None else codes.get(value, _UNKNOWN)

        return code


def _walked(forest: Forest, node: int, record: Record, reads: list[Single]) -> int:
    """Return the answer of one tree; the fields it meets are read, and may raise RowError."""
    while node >= 0:
        value = reads[forest.feature[node]](record)
        if value is None:
            which = MISSING
        elif forest.set_of[node] >= 0:
            which = YES if _is_member(forest, int(forest.set_of[node]), value) else NO
        else:
            x = np.float32(value) if forest.float32 else value
            which = YES if x <= forest.threshold[node] else NO
        node = int(forest.children[node, which])
    return -node - 2


def _is_member(forest: Forest, number: int, value: float) -> bool:
    start, base, size = forest.sets[number].tolist()
    word = int(value) // 64 - base
    if value < 0 or value != int(value) or not 0 <= word < size:
        return False
    return bool(int(forest.words[start + word]) >> (int(value) % 64) & 1)


def _side(field: Field, operator: str, value: Value) -> frozenset[Value]:
    """Return the declared values of an ordinal field that stand so to *value*."""
    place = field.values.index(value)
    after = place + (operator in ("lessOrEqual", "greaterThan"))
    less = operator.startswith("less")
    return frozenset(field.values[:after] if less else field.values[after:])


def _is_code(value: Value) -> bool:
    return float(value) == int(value) and 0 <= value < 2**24


_JOIN: dict[str, Callable[[tuple[questions.Predicate, ...]], questions.Predicate]] = {
    "and": questions.And,
    "or": questions.Or,
    "xor": questions.Xor,
    "surrogate": questions.Surrogate,
}
