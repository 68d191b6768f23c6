"""The DataDictionary: each field's type, and which of its values are valid, invalid or missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.formats.pmml.column import Column, Mask, of_objects
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.intervals import Interval
from martlet.formats.pmml.scope import type_of
from martlet.formats.pmml.values import (
    DOUBLE,
    STRING,
    DataType,
    Kind,
    Value,
    convert,
    parse,
)

_TRUTHS = {"true": True, "false": False}
_NOTHING = (None, "NaN", "nan")


@dataclass(frozen=True, slots=True)
class DataField:
    """
    One declared input.

    Args:
        valid: The valid values, all there are; without them those in *intervals* are valid, and
            without either all.
        missing: The values that mean that there is none.
    """

    name: str
    type: DataType
    optype: str
    valid: tuple[Value, ...] = ()
    invalid: frozenset[Value] = frozenset()
    missing: frozenset[Value] = frozenset()
    intervals: tuple[Interval, ...] = ()
    _valid: frozenset[Value] = field(default=frozenset(), repr=False)

    @classmethod
    def of(cls, element: Element) -> DataField:
        """
        Read a DataField.

        Raises:
            UnsupportedModel: its dataType is unknown, or an Interval malformed.
        """
        kind = type_of(element, STRING)
        optype = element.get("optype") or ("categorical" if kind.is_text else "continuous")
        found: dict[str, list[Value]] = {"valid": [], "invalid": [], "missing": []}
        for each in element.all("Value"):
            role = each.choice("property", ("valid", "invalid", "missing"), "valid")
            value = _value(each.need("value"), kind)
            # A text that is no number (N/A in an integer field) can be missing, never valid.
            if role != "valid" or kind.is_text or not isinstance(value, str):
                found[role].append(value)
        return cls(
            element.need("name"),
            kind,
            optype,
            tuple(found["valid"]),
            frozenset(found["invalid"]),
            frozenset(found["missing"]),
            # Text lies in no interval, whatever a file says.
            tuple(Interval.of(e, kind) for e in element.all("Interval") if not kind.is_text),
            frozenset(found["valid"]),
        )

    @property
    def restricted(self) -> bool:
        """Whether some values of the type are not valid."""
        return bool(self.valid or self.invalid or self.intervals)

    def is_valid(self, value: Value) -> bool:
        """Whether *value*, of this type, is valid."""
        if value in self.invalid:
            return False
        if self.valid:
            return value in self._valid
        return not self.intervals or any(each.contains(value) for each in self.intervals)

    def where_invalid(self, column: Column) -> Mask | None:
        """Return where *column* holds an invalid value, or None: nowhere."""
        if not self.restricted:
            return None
        if column.levels is not None:
            return column.by_level(lambda level: not self.is_valid(level), False, np.bool_)
        bad = np.zeros(len(column), dtype=bool)
        if self.valid:
            bad |= ~column.is_in(v for v in self.valid if not isinstance(v, str))
        elif self.intervals:
            bad[:] = True
            for each in self.intervals:
                bad &= ~each.holds(column.values)
        if self.invalid:
            bad |= column.is_in(v for v in self.invalid if not isinstance(v, str))
        return bad if column.missing is None else bad & ~column.missing

    def examples(self, most: int = 33) -> list[Value]:
        """Return the valid values, or some that lie evenly in the intervals; [] where all are."""
        if self.valid or not self.type.is_number:
            return [str(v) if self.type.is_text else v for v in self.valid]
        found: list[Value] = []
        for each in self.intervals:
            if np.isfinite([each.left, each.right]).all():
                between = np.linspace(each.left, each.right, most).astype(self.type.numpy)
                found += [v for v in np.unique(between).tolist() if each.contains(v)]
        return found

    def describe(self) -> str:
        """Return what is allowed, for people."""
        parts = [str(each) for each in self.intervals]
        if self.valid:
            shown = ", ".join(map(str, self.valid[:20]))
            parts.append(shown + (", ..." if len(self.valid) > 20 else ""))
        return f"{self.optype} {self.type}" + (f": {'; '.join(parts)}" if parts else "")

    def read(self, raw: NDArray[Any]) -> tuple[Column, Mask | None]:
        """
        Return *raw*, as the caller gave it, as a column; and where it is not of this type.

        NaN and None are missing, and so are the values that the field declares to be.
        """
        if raw.dtype.kind in "fiub" and not self.type.is_text:
            return self._numbers(raw)
        return self._objects(raw)

    def _numbers(self, raw: NDArray[Any]) -> tuple[Column, Mask | None]:
        missing: Mask | None = None
        if raw.dtype.kind == "f":
            missing = np.isnan(raw)
            if not missing.any():
                missing = None
        if self.missing:
            declared = [v for v in self.missing if isinstance(v, int | float) and v == v]
            listed = np.isin(raw, np.asarray(declared, dtype=np.float64))
            missing = listed if missing is None else missing | listed
        kind = self.type
        bad: Mask | None = None
        if kind.kind is Kind.BOOLEAN:
            bad = (raw != 0) & (raw != 1)
        elif kind.numpy is np.int64 and raw.dtype.kind == "f":
            bad = np.asarray((raw != np.floor(raw)) | ~(np.abs(raw) < 2.0**63))
        with np.errstate(invalid="ignore", over="ignore"):
            values = raw.astype(kind.numpy, copy=False)
        if bad is not None:
            if missing is not None:
                bad &= ~missing
            if not bad.any():
                bad = None
        return Column(kind, values, missing), bad

    def _objects(self, raw: NDArray[Any]) -> tuple[Column, Mask | None]:
        listed = raw.tolist()
        if self.type.is_text:
            try:
                column = of_objects(listed, STRING)
            except TypeError:  # lists: a collection a row
                column = of_objects([_hashable(each) for each in listed], STRING)
            if all(
                type(level) is str and level not in self.missing for level in column.levels or ()
            ):
                return column, None
        cache: dict[Any, Value] = {}
        bad = np.zeros(len(listed), dtype=bool)
        values: list[Value] = []
        for row, each in enumerate(listed):
            key = _hashable(each)
            if key not in cache:
                cache[key] = self.one(key)
            value = cache[key]
            bad[row] = value is _BAD
            values.append(None if value is _BAD else value)
        column = of_objects(values, self.type)
        if not bad.any():
            return column, None
        # A bad value is not missing: it is there, and wrong.
        missing = None if column.missing is None else column.missing & ~bad
        return Column(column.type, column.values, missing, None, column.levels), bad

    def one(self, raw: Any) -> Value:
        """Return one *raw* value as this type, None where missing, ``BAD`` where it is neither."""
        if raw is None or raw != raw:
            return None
        if isinstance(raw, bytes):
            try:
                raw = raw.decode()
            except UnicodeDecodeError:
                return _BAD
        if isinstance(raw, list | tuple):
            return tuple(raw)
        if isinstance(raw, str) and self.type.is_text:
            return None if raw in self.missing else raw
        try:
            value = convert(raw, self.type)
        except (ValueError, OverflowError, TypeError):
            if raw in self.missing or raw in _NOTHING:
                return None
            # A truth value in a number's place counts as 1 or 0, in text as in every language.
            truth = _TRUTHS.get(raw.strip().lower()) if isinstance(raw, str) else None
            return _BAD if truth is None or not self.type.is_number else convert(truth, self.type)
        return None if value in self.missing or value != value else value

    @property
    def missing_floats(self) -> tuple[Value, ...]:
        """The values declared missing, but for NaN, which always is."""
        return tuple(value for value in self.missing if value == value)

    def single(self) -> Callable[[Any], Value]:
        """Return what reads one raw value: as :meth:`one`, with the common cases first."""
        if self.type is DOUBLE and not self.missing_floats:
            one = self.one

            def double(raw: Any) -> Value:
                if type(raw) is float:
                    return raw if raw == raw else None
                return one(raw)

            return double
        if self.type.is_text and not self.missing:
            one = self.one
            return lambda raw: raw if type(raw) is str else one(raw)
        return self.one


class _Bad:
    """What a raw value becomes that is not of its field's type."""

    def __repr__(self) -> str:
        return "BAD"


_BAD: Any = _Bad()
BAD = _BAD


def _value(text: str, kind: DataType) -> Value:
    try:
        return parse(text, kind)
    except ValueError:
        return text


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | np.ndarray) else value
