"""Aggregate and Lag: expressions over several values, of one row or of the rows before.

Source: PMML 4.4.1, Transformations.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from martlet.formats.pmml.column import Column, kept, of_objects
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.expressions import Expression, FieldRef, store
from martlet.formats.pmml.frame import Frame, Record, RowError, Single
from martlet.formats.pmml.scope import Field, Scope
from martlet.formats.pmml.values import DOUBLE, INTEGER, STRING, DataType, Value

_AGGREGATES: dict[str, Callable[[list[Value]], Value]] = {
    "count": len,
    "sum": sum,
    "average": statistics.fmean,
    "avg": statistics.fmean,
    "min": min,
    "max": max,
    "median": statistics.median,
    "product": math.prod,
    "stddev": statistics.pstdev,
}


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A function of the collection that each row's field holds."""

    field: FieldRef
    function: str
    type: DataType

    def column(self, frame: Frame) -> Column:
        source = self.field.column(frame)
        values = [self._of(each) for each in source.objects()]
        return of_objects(values, self.type).with_errors(source.errors)

    def single(self) -> Single:
        read = self.field.single()
        return lambda record: self._of(read(record))

    def _of(self, value: Value) -> Value:
        if value is None:
            return None
        items = [
            each for each in (value if isinstance(value, tuple) else (value,)) if each is not None
        ]
        if self.function == "multiset":
            return tuple(items)
        if self.function == "count":
            return len(items)
        try:
            return _AGGREGATES[self.function]([float(each) for each in items]) if items else None
        except ValueError:
            raise RowError(f"{self.function} of a collection that holds no numbers") from None


def compile_aggregate(element: Element, scope: Scope, _: int) -> Expression:
    """Compile an Aggregate."""
    function = element.choice("function", ("count", "sum", "average", "min", "max", "multiset"))
    field = FieldRef(scope.field(element.need("field"), element), scope)
    kind = {"count": INTEGER, "multiset": STRING}.get(function, DOUBLE)
    return Aggregate(field, function, kind)


@dataclass(frozen=True, slots=True)
class Lag:
    """The field's value *n* rows before, in the batch's order; or an aggregate of the last *n*."""

    field: Field
    n: int
    aggregate: str | None
    block: Field | None

    @property
    def type(self) -> DataType:
        return self.field.type if self.aggregate is None else DOUBLE

    def column(self, frame: Frame) -> Column:
        source: Column = frame[self.field.slot]
        if self.aggregate is not None:
            return self._aggregated(source, frame)
        rows = np.arange(frame.rows) - self.n
        early = rows < 0
        if self.block is not None:
            blocks = frame[self.block.slot].objects()
            early |= np.array(
                [before < 0 or blocks[row] != blocks[before] for row, before in enumerate(rows)]
            )
        found = source.take(np.maximum(rows, 0)) if frame.rows else source
        missing = early if found.missing is None else found.missing | early
        values = np.where(early, -1, found.values) if found.levels is not None else found.values
        errors = found.errors
        if errors is not None:
            errors = kept(errors, ~early)
        return Column(found.type, values, missing, errors, found.levels)

    def _aggregated(self, source: Column, frame: Frame) -> Column:
        assert self.aggregate is not None
        values = source.objects()
        blocks = frame[self.block.slot].objects() if self.block is not None else [0] * len(values)
        found: list[Value] = []
        for row in range(len(values)):
            window = [
                values[before]
                for before in range(max(0, row - self.n), row)
                if blocks[before] == blocks[row] and values[before] is not None
            ]
            found.append(float(_AGGREGATES[self.aggregate](window)) if window else None)
        return of_objects(found, DOUBLE)

    def single(self) -> Single:
        # A record alone has no row before it.
        def nothing(_: Record) -> Value:
            return None

        return nothing


def compile_lag(element: Element, scope: Scope, _: int) -> Expression:
    """Compile a Lag into a slot that is computed over whole batches."""
    names = ("none", "avg", "max", "median", "min", "product", "sum", "stddev")
    aggregate = element.choice("aggregate", names, "none")
    variable = element.get("blockIndicator")
    lag = Lag(
        scope.field(element.need("field"), element),
        element.integer("n", 1),
        None if aggregate == "none" else aggregate,
        scope.field(variable, element) if variable is not None else None,
    )
    field = store(lag, scope, f"lag of {lag.field.name}")
    scope.world.program.whole.add(field.slot)
    return FieldRef(field, scope)
