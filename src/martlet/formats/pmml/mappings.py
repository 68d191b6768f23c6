"""Expressions that map a field's value to another: by a line, an indicator, bins, or a table."""

from __future__ import annotations

import bisect
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from martlet.formats.pmml.asked import Asked
from martlet.formats.pmml.column import (
    Column,
    any_missing,
    blank,
    fill,
    of_levels,
)
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.expressions import (
    ConstantValue,
    Expression,
    FieldRef,
    cast,
    distinct,
    field_ref,
)
from martlet.formats.pmml.frame import Frame, Record, Single
from martlet.formats.pmml.inline_table import column_name, inline_rows
from martlet.formats.pmml.intervals import Interval
from martlet.formats.pmml.scope import Scope, type_of
from martlet.formats.pmml.values import (
    DOUBLE,
    STRING,
    DataType,
    Value,
    parse,
)


@dataclass(frozen=True, slots=True)
class NormContinuous:
    """A piecewise linear function through the points (orig, norm), orig increasing."""

    field: FieldRef
    orig: NDArray[np.float64]
    norm: NDArray[np.float64]
    outliers: str
    replacement: float | None
    type: DataType = DOUBLE

    def _line(self) -> NDArray[np.float64]:
        return np.diff(self.norm) / np.diff(self.orig)

    def column(self, frame: Frame) -> Column:
        source = self.field.column(frame).cast(DOUBLE)
        x = source.values
        slope = self._line()
        part = np.searchsorted(self.orig[1:-1], x, side="right")
        values = self.norm[part] + (x - self.orig[part]) * slope[part]
        low, high = self.orig[0], self.orig[-1]
        if self.outliers == "asExtremeValues":
            values = np.where(x < low, self.norm[0], np.where(x > high, self.norm[-1], values))
        found = Column(DOUBLE, values, source.missing, source.errors)
        if self.outliers == "asMissingValues":
            found = blank(found, (x < low) | (x > high))
        if self.replacement is not None and source.missing is not None:
            found = fill(found, source.missing, self.replacement)
        return found

    def single(self) -> Single:
        read = cast(self.field, DOUBLE).single()
        orig, norm, slope = self.orig.tolist(), self.norm.tolist(), self._line().tolist()
        low, high, inner = orig[0], orig[-1], orig[1:-1]
        outliers, replacement = self.outliers, self.replacement

        def call(record: Record) -> Value:
            x = read(record)
            if x is None:
                return replacement
            if not low <= x <= high and outliers != "asIs":
                if outliers == "asMissingValues":
                    return None
                return norm[0] if x < low else norm[-1]
            part = bisect.bisect_right(inner, x)
            return norm[part] + (x - orig[part]) * slope[part]

        return call


@dataclass(frozen=True, slots=True)
class NormDiscrete:
    """1 where the field equals a value, else 0."""

    field: FieldRef
    value: Value
    replacement: float | None
    type: DataType = DOUBLE

    def column(self, frame: Frame) -> Column:
        source = self.field.column(frame)
        values = source.equals(self.value).astype(np.float64)
        found = Column(DOUBLE, values, source.missing, source.errors)
        if self.replacement is not None and source.missing is not None:
            found = fill(found, source.missing, self.replacement)
        return found

    def single(self) -> Single:
        read, wanted, replacement = self.field.single(), self.value, self.replacement

        def call(record: Record) -> Value:
            value = read(record)
            if value is None:
                return replacement
            return 1.0 if value == wanted else 0.0

        return call


@dataclass(frozen=True, slots=True)
class Discretize:
    """The text of the bin that holds the field's value: of bins that overlap, the last."""

    field: FieldRef
    bins: tuple[tuple[Interval, str], ...]
    default: str | None
    replacement: str | None
    type: DataType = STRING

    def column(self, frame: Frame) -> Column:
        source = self.field.column(frame)
        x = source.cast(DOUBLE).values if source.type.is_text else source.values
        texts = [text for _, text in self.bins]
        codes = np.full(len(x), len(texts), dtype=np.int64)
        for code, (interval, _) in enumerate(self.bins):
            codes[interval.holds(x)] = code
        if source.missing is not None:
            codes[source.missing] = len(texts) + 1
        found = of_levels(codes, (*texts, self.default, self.replacement))
        return found.with_errors(source.errors)

    def single(self) -> Single:
        bins = [(interval.contains, text) for interval, text in reversed(self.bins)]
        read = (cast(self.field, DOUBLE) if self.field.type.is_text else self.field).single()
        default, replacement = self.default, self.replacement

        def call(record: Record) -> Value:
            x = read(record)
            if x is None:
                return replacement
            for contains, text in bins:
                if contains(x):
                    return text
            return default

        return call


@dataclass(frozen=True, slots=True)
class MapValues:
    """The text that a table has for the fields' values."""

    fields: tuple[FieldRef, ...]
    table: dict[tuple[Value, ...], str]
    default: str | None
    replacement: str | None
    type: DataType = STRING

    def column(self, frame: Frame) -> Column:
        asked = Asked()
        sources = [asked.needs(each.column(frame)) for each in self.fields]
        columns, codes = distinct(sources)
        texts = [self.table.get(key, self.default) for key in columns]
        gone = any_missing(sources)
        if gone is not None:
            codes = np.where(gone, len(texts), codes)
        return of_levels(codes, (*texts, self.replacement)).with_errors(asked.errors)

    def single(self) -> Single:
        table, default, replacement = self.table, self.default, self.replacement
        reads = [each.single() for each in self.fields]
        if len(reads) == 1:
            (read,) = reads
            flat = {key[0]: text for key, text in table.items()}

            def one(record: Record) -> Value:
                value = read(record)
                return replacement if value is None else flat.get(value, default)

            return one

        def call(record: Record) -> Value:
            key: tuple[Value, ...] = ()
            for read in reads:
                value = read(record)
                if value is None:
                    return replacement
                key = (*key, value)
            return table.get(key, default)

        return call


def norm_continuous(element: Element, scope: Scope, depth: int) -> Expression:
    """Compile a NormContinuous."""
    points = sorted((p.number("orig"), p.number("norm")) for p in element.all("LinearNorm"))
    if len(points) < 2:
        raise element.error("needs at least two LinearNorm")
    orig, norm = (np.array(axis) for axis in zip(*points, strict=True))
    return NormContinuous(
        field_ref(element, scope),
        orig,
        norm,
        element.choice("outliers", ("asIs", "asMissingValues", "asExtremeValues"), "asIs"),
        None if element.get("mapMissingTo") is None else element.number("mapMissingTo"),
    )


def norm_discrete(element: Element, scope: Scope, depth: int) -> Expression:
    """Compile a NormDiscrete."""
    field = field_ref(element, scope)
    try:
        wanted = parse(element.need("value"), field.type)
    except ValueError:
        # A value that the field's type cannot hold is never equal.
        wanted = None
    replacement = element.get("mapMissingTo")
    if wanted is None:
        return ConstantValue(DOUBLE, 0.0)
    return NormDiscrete(
        field, wanted, None if replacement is None else element.number("mapMissingTo")
    )


def _typed(element: Element, inner: Expression) -> Expression:
    return cast(inner, type_of(element, STRING))


def discretize(element: Element, scope: Scope, depth: int) -> Expression:
    """Compile a Discretize."""
    field = field_ref(element, scope)
    bins: list[tuple[Interval, str]] = []
    for each in element.all("DiscretizeBin"):
        found = each.child("Interval")
        interval = Interval.of(found, field.type) if found is not None else Interval.everything()
        bins.append((interval, each.need("binValue")))
    return _typed(
        element,
        Discretize(field, tuple(bins), element.get("defaultValue"), element.get("mapMissingTo")),
    )


def map_values(element: Element, scope: Scope, depth: int) -> Expression:
    """Compile a MapValues."""
    pairs = element.all("FieldColumnPair")
    fields = tuple(field_ref(each, scope) for each in pairs)
    columns = [column_name(each, "column") for each in pairs]
    output = column_name(element, "outputColumn")
    table: dict[tuple[Value, ...], str] = {}
    for row in inline_rows(element):
        if output not in row:
            continue
        try:
            cells = zip(columns, fields, strict=True)
            key = tuple(parse(row[column], field.type) for column, field in cells)
        except (KeyError, ValueError):
            # A key that the field cannot hold matches nothing.
            continue
        table.setdefault(key, row[output])
    if not fields:
        return _typed(element, ConstantValue(STRING, element.get("defaultValue")))
    return _typed(
        element,
        MapValues(fields, table, element.get("defaultValue"), element.get("mapMissingTo")),
    )
