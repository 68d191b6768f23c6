"""Expressions: what computes a derived field or an output, from other fields.

``compile_expression`` turns an element into an Expression once; that computes a column for a
batch, and gives a closure for single records. Source: PMML 4.4.1, Transformations.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from martlet.formats.pmml.column import (
    Column,
    Mask,
    Reasons,
    absent,
    any_missing,
    blank,
    constant,
    fill,
    of_levels,
    reasons,
)
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.frame import Frame, Record, RowError, Single
from martlet.formats.pmml.intervals import Interval
from martlet.formats.pmml.scope import Field, Scope, type_of
from martlet.formats.pmml.values import (
    BOOLEAN,
    DOUBLE,
    INTEGER,
    STRING,
    DataType,
    Value,
    convert,
    parse,
)

MAX_NESTING = 200


class Expression(Protocol):
    """Computes a value of one type for each row."""

    @property
    def type(self) -> DataType:
        """Of the values."""
        ...

    def column(self, frame: Frame) -> Column:
        """Return the values of a batch."""
        ...

    def single(self) -> Single:
        """Return a closure that computes one record's value, or None where it is missing."""
        ...


@dataclass(frozen=True, slots=True)
class ConstantValue:
    """The same value for each row; None: missing."""

    type: DataType
    value: Value

    def column(self, frame: Frame) -> Column:
        return constant(self.value, self.type, frame.rows)

    def single(self) -> Single:
        value = self.value
        return lambda _: value


@dataclass(frozen=True, slots=True)
class FieldRef:
    """A field's value, or *replacement* where it is missing."""

    field: Field
    scope: Scope
    replacement: Value = None

    @property
    def type(self) -> DataType:
        return self.field.type

    def column(self, frame: Frame) -> Column:
        found: Column = frame[self.field.slot]
        if self.replacement is not None and found.missing is not None:
            return fill(found, found.missing, self.replacement)
        return found

    def single(self) -> Single:
        read = self.scope.reader(self.field)
        replacement = self.replacement
        if replacement is None:
            return read

        def call(record: Record) -> Value:
            value = read(record)
            return replacement if value is None else value

        return call


@dataclass(frozen=True, slots=True)
class Cast:
    """An expression's value held as *type*."""

    type: DataType
    inner: Expression

    def column(self, frame: Frame) -> Column:
        return self.inner.column(frame).cast(self.type)

    def single(self) -> Single:
        inner, kind, source = self.inner.single(), self.type, self.inner.type
        if kind is DOUBLE and source in (INTEGER, DOUBLE):
            # An int where a float is meant changes no sum; only division asks, and widens.
            def widen(record: Record) -> Value:
                value = inner(record)
                return None if value is None else float(value)

            return widen

        def call(record: Record) -> Value:
            value = inner(record)
            try:
                return convert(value, kind, source)
            except (ValueError, OverflowError) as exc:
                raise RowError(f"{value!r} is not of type {kind.name}: {exc}") from None

        return call


def cast(inner: Expression, kind: DataType) -> Expression:
    """Return *inner* held as *kind*."""
    if inner.type == kind:
        return inner
    if isinstance(inner, ConstantValue):
        return ConstantValue(kind, convert(inner.value, kind, inner.type))
    return Cast(kind, inner)


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
    """The text of the first bin that holds the field's value."""

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
        for code in range(len(self.bins) - 1, -1, -1):
            codes[self.bins[code][0].holds(x)] = code
        if source.missing is not None:
            codes[source.missing] = len(texts) + 1
        found = of_levels(codes, (*texts, self.default, self.replacement))
        return found.with_errors(source.errors)

    def single(self) -> Single:
        read, bins = self.field.single(), [(i.contains, text) for i, text in self.bins]
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
        sources = [each.column(frame) for each in self.fields]
        columns, codes = distinct(sources)
        texts = [self.table.get(key, self.default) for key in columns]
        gone = any_missing(sources)
        if gone is not None:
            codes = np.where(gone, len(texts), codes)
        found = of_levels(codes, (*texts, self.replacement))
        for each in sources:
            found = found.with_errors(each.errors)
        return found

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
            key = tuple([read(record) for read in reads])
            return replacement if None in key else table.get(key, default)

        return call


def distinct(columns: list[Column]) -> tuple[list[tuple[Value, ...]], NDArray[np.int64]]:
    """Return the distinct combinations of *columns*' values, and each row's number among them."""
    codes: NDArray[np.int64] | None = None
    keys: list[tuple[Value, ...]] = [()]
    for each in columns:
        if each.levels is not None:
            # A missing text has the code -1, its own value last.
            values: list[Value] = [*each.levels, None]
            own = np.where(each.values < 0, len(each.levels), each.values)
        else:
            found, own = np.unique(each.values, return_inverse=True)
            values = found.tolist()
        if codes is None:
            codes, keys = own, [(value,) for value in values]
            continue
        joint, codes = np.unique(codes * len(values) + own, return_inverse=True)
        keys = [(*keys[j // len(values)], values[j % len(values)]) for j in joint.tolist()]
    assert codes is not None
    return keys, codes


@dataclass(frozen=True, slots=True)
class Failure:
    """PMML 4.4.1's Error: a row that comes here has no value."""

    message: str
    type: DataType = STRING

    def column(self, frame: Frame) -> Column:
        everywhere: Mask = np.ones(frame.rows, dtype=bool)
        why: Reasons | None = reasons(everywhere, self.message)
        return absent(self.type, frame.rows).with_errors(why)

    def single(self) -> Single:
        message = self.message

        def call(_: Record) -> Value:
            raise RowError(message)

        return call


def compile_expression(element: Element, scope: Scope, depth: int = 0) -> Expression:
    """
    Compile *element*, one of PMML's EXPRESSION elements.

    Raises:
        UnsupportedModel: it is malformed, unknown, or nested deeper than MAX_NESTING.
    """
    if depth > MAX_NESTING:
        raise element.error(f"is nested deeper than {MAX_NESTING} expressions")
    make = _EXPRESSIONS.get(element.tag)
    if make is None:
        raise element.error("is not a supported expression")
    return make(element, scope, depth)


def is_expression(element: Element) -> bool:
    """Whether *element* is one of PMML's EXPRESSION elements."""
    return element.tag in _EXPRESSIONS


def expression_of(element: Element) -> Element:
    """
    Return the expression within *element* (a DerivedField, an OutputField, ...).

    Raises:
        UnsupportedModel: there is none.
    """
    for child in element.children:
        if is_expression(child):
            return child
    raise element.error("holds no expression")


def constant_of(element: Element) -> tuple[DataType, Value]:
    """Return the type and the value of a Constant."""
    text = element.text
    if element.flag("missing"):
        return type_of(element, STRING), None
    if element.get("dataType") is None:
        return _inferred(text)
    kind = type_of(element, STRING)
    try:
        return kind, parse(text if kind.is_text else text.strip(), kind)
    except ValueError as exc:
        raise element.error(f"is malformed: {exc}") from None


def _inferred(text: str) -> tuple[DataType, Value]:
    for kind in (INTEGER, DOUBLE):
        try:
            return kind, int(text) if kind is INTEGER else float(text)
        except ValueError:
            continue
    return STRING, text


def _constant(element: Element, scope: Scope, depth: int) -> Expression:
    return ConstantValue(*constant_of(element))


def field_ref(element: Element, scope: Scope, name: str = "field") -> FieldRef:
    """Compile a reference to the field that the attribute *name* of *element* says."""
    return FieldRef(scope.field(element.need(name), element), scope)


def _field_ref(element: Element, scope: Scope, depth: int) -> Expression:
    known = scope.constant(element.need("field"))
    if known is not None:
        return ConstantValue(*known)
    found = field_ref(element, scope)
    replacement = element.get("mapMissingTo")
    if replacement is None:
        return found
    return FieldRef(found.field, scope, found.field.parse(replacement, element))


def _norm_continuous(element: Element, scope: Scope, depth: int) -> Expression:
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


def _norm_discrete(element: Element, scope: Scope, depth: int) -> Expression:
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


def _discretize(element: Element, scope: Scope, depth: int) -> Expression:
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


def inline_rows(element: Element) -> list[dict[str, str]]:
    """
    Return the rows of *element*'s InlineTable as texts by column.

    Raises:
        UnsupportedModel: the table is elsewhere (a TableLocator).
    """
    table = element.child("InlineTable")
    if table is None:
        raise element.error("needs an InlineTable; tables outside the file are not read")
    return [{cell.tag: cell.text for cell in row.children} for row in table.all("row")]


def column_name(element: Element, name: str) -> str:
    """Return the attribute *name*, a column of an InlineTable, without its namespace prefix."""
    return element.need(name).rpartition(":")[2]


def _map_values(element: Element, scope: Scope, depth: int) -> Expression:
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


def _error(element: Element, scope: Scope, depth: int) -> Expression:
    return Failure(element.text.strip() or element.get("message") or "the model says: error")


def _apply(element: Element, scope: Scope, depth: int) -> Expression:
    from martlet.formats.pmml.apply import compile_apply

    return compile_apply(element, scope, depth)


def _text_index(element: Element, scope: Scope, depth: int) -> Expression:
    from martlet.formats.pmml.text_index import compile_text_index

    return compile_text_index(element, scope, depth)


def _aggregate(element: Element, scope: Scope, depth: int) -> Expression:
    from martlet.formats.pmml.collections import compile_aggregate

    return compile_aggregate(element, scope)


def _lag(element: Element, scope: Scope, depth: int) -> Expression:
    from martlet.formats.pmml.collections import compile_lag

    return compile_lag(element, scope)


_EXPRESSIONS: dict[str, Callable[[Element, Scope, int], Expression]] = {
    "Constant": _constant,
    "FieldRef": _field_ref,
    "NormContinuous": _norm_continuous,
    "NormDiscrete": _norm_discrete,
    "Discretize": _discretize,
    "MapValues": _map_values,
    "Apply": _apply,
    "TextIndex": _text_index,
    "Aggregate": _aggregate,
    "Lag": _lag,
    "Error": _error,
}


def compile_derived(element: Element, scope: Scope, name: str | None = None) -> Field:
    """
    Compile a DerivedField (or what else holds an expression) into a slot.

    The expression's value is held as the declared dataType, or as its own where none is declared.
    """
    try:
        inner = compile_expression(expression_of(element), scope)
        inner = cast(inner, type_of(element, inner.type))
    except ValueError as exc:
        raise element.error(f"holds a constant that its dataType cannot: {exc}") from None
    return store(inner, scope, name or element.get("name") or "", element)


def store(inner: Expression, scope: Scope, name: str, element: Element | None = None) -> Field:
    """Give *inner* a slot, so that it is computed once, and return the field that it becomes."""
    slot = scope.world.program.slot(inner.column, inner.single())
    optype = element.get("optype") if element is not None else None
    default = "categorical" if inner.type.is_text or inner.type is BOOLEAN else "continuous"
    values: tuple[Value, ...] = ()
    if element is not None:
        try:
            values = tuple(parse(v.need("value"), inner.type) for v in element.all("Value"))
        except ValueError as exc:
            raise element.error(f"declares a value that is malformed: {exc}") from None
    return Field(name, slot, inner.type, optype or default, values)
