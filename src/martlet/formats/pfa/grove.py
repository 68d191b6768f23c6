"""A PFA document's trees in martlet's forest, which walks them for all rows at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from martlet.errors import UnsupportedModel
from martlet.formats.pfa.types import (
    DOUBLE,
    FLOAT,
    INT,
    NULL,
    NUMBERS,
    STRING,
    Array,
    Record,
    Type,
    Union,
    accepts,
)
from martlet.formats.pfa.values import Fields
from martlet.formats.trees.builder import Trees
from martlet.formats.trees.forest import Forest, TreeSum
from martlet.formats.trees.questions import Comparison
from martlet.tensors import Tensor

Gives = Literal["one", "each", "sum", "mean"]
"""What a row finds: the only tree's answer, a list of each tree's, their sum, their mean."""

_MOST_NODES = 1 << 22
_COMPARISONS: dict[str, Comparison] = {op: op for op in ("<", "<=", ">", ">=", "==", "!=")}


@dataclass(frozen=True, slots=True)
class Tested:
    """
    A field of the input that trees test.

    Args:
        nullable: A missing value takes the way of its own; otherwise NaN is a number that
            nothing compares with.
        codes: The number of each text; None for a field of numbers.
    """

    name: str
    nullable: bool
    codes: Mapping[str, float] | None


@dataclass(frozen=True, slots=True, eq=False)
class Grove:
    """
    The trees that one expression walks, and what it makes of them.

    Args:
        fields: The forest's columns.
        answers: What stands at each leaf, as the forest numbers them.
        gives: What becomes of a row's answers.
    """

    forest: Forest
    fields: tuple[Tested, ...]
    answers: NDArray[Any]
    gives: Gives = "one"
    total: TreeSum | None = None

    def walk(self, column: Callable[[Tested], Any], rows: int) -> list[Any]:
        """
        Return what each row finds.

        Args:
            column: A field's values, for all rows: numbers as an array (missing: NaN), or a
                list of text (missing: None).
            rows: How many there are.
        """
        columns = [_coded(column(each), each.codes) for each in self.fields]
        if rows == 1:  # without the cost of arrays
            return [self._of([each[0] for each in columns])]
        matrix = np.empty((rows, len(columns)))
        for at, values in enumerate(columns):
            matrix[:, at] = values
        if self.total is not None:
            sums = self.total(matrix)[:, 0]
            return list((sums / self.forest.trees if self.gives == "mean" else sums).tolist())
        found = self.answers[self.forest.leaves(matrix)]
        return list((found[:, 0] if self.gives == "one" else found).tolist())

    def _of(self, row: list[float]) -> Any:
        if self.total is not None:
            (found,) = self.total.of(row)
            return found / self.forest.trees if self.gives == "mean" else found
        answers = self.answers[self.forest.leaves_of(row)].tolist()
        return answers[0] if self.gives == "one" else answers

    def giving(self, gives: Gives) -> Grove | None:
        """Return the same trees, for another use; None where their answers are not all floats."""
        if gives == "one" or gives == "each":
            return replace(self, gives=gives)
        if self.answers.dtype != np.float64 or not self.forest.trees:
            return None
        total = self.forest.sum(self.answers[:, np.newaxis])
        return replace(self, gives=gives, total=total)


def _coded(values: Tensor | list[str | None], codes: Mapping[str, float] | None) -> Any:
    if codes is None:
        return values
    return [np.nan if each is None else codes.get(each, -1.0) for each in values]


def grow(datum: Record, node: Record, roots: Sequence[Fields], missing: bool) -> Grove | None:
    """
    Return the trees at *roots*; None where a test in them may fail, or says what no forest does.

    Args:
        datum: The type of what is tested.
        node: The type of the trees' nodes.
        missing: A field that is null takes the way ``missing`` (``missingWalk``); otherwise
            there is none.
    """
    try:
        return _Grower(datum, node, missing).grown(roots)
    except (_Unfit, UnsupportedModel):
        return None


class _Unfit(Exception):
    """A test that the document's own code must make, or fail at."""


class _Grower:
    def __init__(self, datum: Record, node: Record, missing: bool) -> None:
        self._known = datum.fields
        self._node = node
        self._value = node.fields["value"]
        self._missing = missing
        self._ways = ("pass", "fail", "missing") if missing else ("pass", "fail")
        self._columns: dict[str, int] = {}
        self._texts: dict[str, dict[str, float]] = {}
        self._answers: list[Any] = []

    def grown(self, roots: Sequence[Fields]) -> Grove:
        nodes = self._nodes(roots)
        for each in nodes:
            self._see(each)
        trees = Trees(max(1, len(self._columns)))
        places = {id(each): trees.reserve() for each in nodes}
        for each in nodes:
            ends = [self._target(trees, places, each[way]) for way in self._ways]
            self._plant(trees, each, places[id(each)], *ends)
        for root in roots:
            trees.add(places[id(root)])
        fields = tuple(
            Tested(str(name), self._nullable(name), self._texts.get(name)) for name in self._columns
        )
        if all(type(each) is float for each in self._answers):
            answers = np.array(self._answers, np.float64)
        else:
            answers = np.empty(len(self._answers), object)
            answers[:] = self._answers
        return Grove(trees.build(), fields or (self._any(),), answers)

    def _any(self) -> Tested:
        """Trees that test nothing still want a column."""
        for name, of in self._known.items():
            if of in (INT, FLOAT, DOUBLE):
                return Tested(name, False, None)
        raise _Unfit

    def _nodes(self, roots: Sequence[Fields]) -> list[Fields]:
        found: list[Fields] = []
        pending = list(roots)
        while pending:
            node = pending.pop()
            if not self._is_node(node) or len(found) > _MOST_NODES:
                raise _Unfit
            found.append(node)
            pending.extend(node[way] for way in self._ways if self._is_node(node[way]))
        return found

    def _is_node(self, value: Any) -> bool:
        return type(value) is Fields and value.kind == self._node.name

    def _nullable(self, name: str) -> bool:
        return isinstance(self._known[name], Union)

    def _plain(self, name: str) -> Type:
        """Return the type of a field's values that are there."""
        of = self._known.get(name)
        if isinstance(of, Union) and self._missing:
            rest = [each for each in of.types if each != NULL]
            of = rest[0] if len(rest) == 1 else None
        if of not in (INT, FLOAT, DOUBLE, STRING):
            raise _Unfit
        return of

    def _see(self, node: Fields) -> None:
        """Note the field and texts of a node."""
        name, value = node["field"], node["value"]
        if self._constant(node["operator"]) is not None:
            return
        if self._plain(name) == STRING:
            codes = self._texts.setdefault(name, {})
            for each in value if isinstance(value, list) else [value]:
                if type(each) is not str:
                    raise _Unfit
                codes.setdefault(each, float(len(codes)))
        self._columns.setdefault(name, len(self._columns))

    def _constant(self, operator: str) -> bool | None:
        """Return what a test that looks at no value says."""
        if operator in ("alwaysTrue", "alwaysFalse"):
            return operator == "alwaysTrue"
        return None

    def _target(self, trees: Trees, places: Mapping[int, int], value: Any) -> int:
        if self._is_node(value):
            return places[id(value)]
        self._answers.append(value)
        return trees.leaf(len(self._answers) - 1)

    def _plant(
        self, trees: Trees, node: Fields, at: int, yes: int, no: int, missing: int | None = None
    ) -> None:
        operator, value = node["operator"], node["value"]
        constant = self._constant(operator)
        if constant is not None:
            trees.alias(yes if constant else no, at)
            return
        name = node["field"]
        column, of = self._columns[name], self._plain(name)
        null = missing if missing is not None and self._nullable(name) else None
        if of == STRING:
            self._plant_text(trees, node, at, yes, no, no if null is None else null)
            return
        comparison = _COMPARISONS.get(operator)
        fits = accepts(self._value, of) or self._value in NUMBERS
        if comparison is None or not fits or not _is_number(value):
            raise _Unfit
        # A number that is NaN is unlike any other, and neither more nor less.
        nan = yes if comparison == "!=" else no
        trees.compare(
            column, comparison, float(value), yes=yes, no=no, missing=nan if null is None else null,
            at=at,
        )  # fmt: skip

    def _plant_text(
        self, trees: Trees, node: Fields, at: int, yes: int, no: int, null: int
    ) -> None:
        name, operator, value = node["field"], node["operator"], node["value"]
        members = self._value.types if isinstance(self._value, Union) else (self._value,)
        if operator in ("==", "!="):
            fits = accepts(self._value, STRING) and type(value) is str
        elif operator in ("in", "notIn"):
            listed = any(isinstance(m, Array) and accepts(m.items, STRING) for m in members)
            fits = listed and isinstance(value, list)
        else:
            fits = False
        if not fits:
            raise _Unfit
        codes = [int(self._texts[name][v]) for v in (value if isinstance(value, list) else [value])]
        if operator in ("!=", "notIn"):
            yes, no = no, yes
        trees.member(self._columns[name], codes, yes=yes, no=no, missing=null, at=at)


def _is_number(value: Any) -> bool:
    if type(value) is int:
        return int(float(value)) == value if abs(value) < 1 << 1000 else False
    return type(value) is float and value == value
