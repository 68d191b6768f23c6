"""Expressions: what computes a derived field or an output, from other fields.

``compile_expression`` turns an element into an Expression once; that computes a column for a
batch, and gives a closure for single records. Source: PMML 4.4.1, Transformations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from martlet.formats.pmml.column import (
    Column,
    Mask,
    Reasons,
    absent,
    constant,
    fill,
    reasons,
)
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.frame import Frame, Record, RowError, Single
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
        if element.tag not in _ELSEWHERE:
            raise element.error("is not a supported expression")
        module, name = _ELSEWHERE[element.tag]
        found = getattr(import_module(f"martlet.formats.pmml.{module}"), name)
        make = _EXPRESSIONS[element.tag] = found
    return make(element, scope, depth)


def is_expression(element: Element) -> bool:
    """Whether *element* is one of PMML's EXPRESSION elements."""
    return element.tag in _EXPRESSIONS or element.tag in _ELSEWHERE


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


def _error(element: Element, scope: Scope, depth: int) -> Expression:
    return Failure(element.text.strip() or element.get("message") or "the model says: error")


_EXPRESSIONS: dict[str, Callable[[Element, Scope, int], Expression]] = {
    "Constant": _constant,
    "FieldRef": _field_ref,
    "Error": _error,
}
# Those whose modules build on this one, by module and function.
_ELSEWHERE = {
    "NormContinuous": ("mappings", "norm_continuous"),
    "NormDiscrete": ("mappings", "norm_discrete"),
    "Discretize": ("mappings", "discretize"),
    "MapValues": ("mappings", "map_values"),
    "Apply": ("apply", "compile_apply"),
    "TextIndex": ("text_index", "compile_text_index"),
    "Aggregate": ("collections", "compile_aggregate"),
    "Lag": ("collections", "compile_lag"),
}


def compile_derived(element: Element, scope: Scope, name: str | None = None) -> Field:
    """
    Compile a DerivedField (or what else holds an expression) into a slot.

    The expression's value is held as the declared dataType, or as its own where none is declared.
    """
    inner = compile_expression(expression_of(element), scope)
    kind = type_of(element, inner.type)
    try:
        inner = cast(inner, kind)
    except ValueError:
        inner = Cast(kind, inner)  # a constant that the type cannot hold: who asks for it, fails
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
