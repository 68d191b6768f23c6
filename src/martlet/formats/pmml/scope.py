"""Names while a file compiles: which field a name means, here and in the models around."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Protocol

from martlet.formats.pmml.column import Column, Mask
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.frame import Program, RowError, Single
from martlet.formats.pmml.values import DOUBLE, FLOAT, DataType, Value, convert, data_type, parse

_MAX_CALLS = 64


class Domain(Protocol):
    """Which values of a field are valid."""

    def is_valid(self, value: Value) -> bool:
        """Whether *value*, of the field's type, is valid."""
        ...

    def where_invalid(self, column: Column) -> Mask | None:
        """Return where *column* holds an invalid value, or None: nowhere."""
        ...


@dataclass(frozen=True, slots=True)
class Field:
    """
    A named value of a row.

    Args:
        name: As other elements refer to it.
        slot: Where its column (or, in a record, its value) is.
        type, optype: ``continuous``, ``categorical`` or ``ordinal``.
        values: The declared valid values, in order; () where any is.
    """

    name: str
    slot: int
    type: DataType
    optype: str
    values: tuple[Value, ...] = ()
    domain: Domain | None = None
    """Which values are valid, of a field that lets others in (``asIs``)."""

    def parse(self, text: str, element: Element) -> Value:
        """
        Return the value that *text*, an attribute of *element*, writes for this field.

        Raises:
            UnsupportedModel: it writes none.
        """
        try:
            return parse(text, self.type)
        except ValueError as exc:
            raise element.error(f"compares {self.name!r} ({self.type}) with {exc}") from None


@dataclass(slots=True)
class World:
    """What the whole file shares: the program it compiles into, and its functions."""

    program: Program = field(default_factory=Program)
    functions: dict[str, Element] = field(default_factory=dict)
    calls: int = 0
    tokenizers: dict[Hashable, Any] = field(default_factory=dict)
    """One of each: terms that are looked for alike share what cuts their texts."""
    texts: dict[Hashable, int] = field(default_factory=dict)
    """The slots of what is kept of a text for all terms that are looked for in it."""

    def enter(self, element: Element) -> None:
        """Note that a user's function is being compiled; refuse endless recursion."""
        self.calls += 1
        if self.calls > _MAX_CALLS:
            raise element.error(f"calls itself, or nests more than {_MAX_CALLS} functions")

    def leave(self) -> None:
        self.calls -= 1


class Scope:
    """The fields that one model sees: its own, then those of the model around it."""

    def __init__(self, world: World, parent: Scope | None = None) -> None:
        self.world = world
        self.parent = parent
        self._fields: dict[str, Field] = {}
        self._pending: dict[str, Callable[[], Field]] = {}
        self._busy: set[str] = set()
        self.constants: dict[str, tuple[DataType, Value]] = {}
        """Names that stand for a constant: a function's parameters that were given one."""

    def declare(self, found: Field, name: str | None = None) -> None:
        """Let *name* mean *found* from here on; a later declaration hides an earlier one."""
        self._pending.pop(name or found.name, None)
        self._fields[name or found.name] = found

    def later(self, name: str, make: Callable[[], Field]) -> None:
        """Let *name* mean what *make* returns when it is first asked for."""
        self._pending[name] = make

    def find(self, name: str) -> Field | None:
        """Return the field that *name* means, or None."""
        scope: Scope | None = self
        while scope is not None:
            found = scope._fields.get(name) or scope._made(name)
            if found is not None:
                return found
            scope = scope.parent
        return None

    def constant(self, name: str) -> tuple[DataType, Value] | None:
        """Return the type and value of the constant that *name* stands for, or None."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.constants:
                return scope.constants[name]
            if scope.own(name):
                return None
            scope = scope.parent
        return None

    def own(self, name: str) -> bool:
        """Whether this scope itself declares *name*."""
        return name in self._fields or name in self._pending

    def _made(self, name: str) -> Field | None:
        # A derived field that refers to its own name means the field it hides.
        if name not in self._pending or name in self._busy:
            return None
        self._busy.add(name)
        try:
            found = self._pending[name]()
        finally:
            self._busy.discard(name)
        self.declare(found, name)
        return found

    def field(self, name: str, element: Element) -> Field:
        """
        Return the field that *name*, an attribute of *element*, means.

        Raises:
            UnsupportedModel: no field is called so.
        """
        found = self.find(name)
        if found is None:
            raise element.error(f"refers to the field {name!r}, which is not defined")
        return found

    def reader(self, found: Field) -> Single:
        """Return what reads *found* of a record."""
        return self.world.program.reader(found.slot)


def type_of(element: Element, default: DataType) -> DataType:
    """
    Return the data type that *element* declares, or *default*.

    Raises:
        UnsupportedModel: it declares one that there is not.
    """
    name = element.get("dataType")
    if name is None:
        return default
    try:
        return data_type(name)
    except ValueError as exc:
        raise element.error(str(exc)) from None


def number_reader(scope: Scope, found: Field) -> Callable[[Any], float]:
    """Return what reads *found* of a record as a float, NaN where it is missing."""
    read, kind = scope.reader(found), found.type
    is_float = kind in (DOUBLE, FLOAT)

    def number(record: Any) -> float:
        value = read(record)
        if value is None:
            return math.nan
        if is_float:
            return value  # type: ignore[no-any-return] # a field of this type holds floats
        try:
            return float(convert(value, DOUBLE, kind))
        except (ValueError, OverflowError) as exc:
            raise RowError(f"{value!r} is not of type double: {exc}") from None

    return number
