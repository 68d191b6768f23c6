"""PMML's data types: how a value is written, held and compared.

A value is a plain Python object on the single path and an element of a numpy array in a column:

=====================================  ===============  ===================
dataType                               single           column
=====================================  ===============  ===================
string                                 str              codes into levels
integer                                int              int64
float                                  float, rounded   float32
double                                 float            float64
boolean                                bool             bool
date, dateDaysSince[year]              int (days)       int64
time, timeSeconds                      int (seconds)    int64
dateTime, dateTimeSecondsSince[year]   int (seconds)    int64
=====================================  ===============  ===================

``date`` counts from 1970-01-01, ``time`` from midnight. Source: PMML 4.4.1, DataDictionary.
"""

from __future__ import annotations

import json
import math
import re
from ctypes import c_float
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Any

import numpy as np

Value = Any
"""str, int, float, bool, a list (a collection), or None: missing."""

_EPOCH = date(1970, 1, 1)
_BEYOND = 2.0**63
_TRUE = {"true", "1", "1.0"}
_FALSE = {"false", "0", "0.0"}


class Kind(Enum):
    """What arithmetic a data type has."""

    STRING = "string"
    INTEGER = "integer"
    FLOAT = "float"
    DOUBLE = "double"
    BOOLEAN = "boolean"
    DATE = "date"
    TIME = "time"
    DATETIME = "dateTime"


_NUMPY: dict[Kind, Any] = {
    Kind.STRING: np.int64,
    Kind.INTEGER: np.int64,
    Kind.FLOAT: np.float32,
    Kind.DOUBLE: np.float64,
    Kind.BOOLEAN: np.bool_,
    Kind.DATE: np.int64,
    Kind.TIME: np.int64,
    Kind.DATETIME: np.int64,
}


@dataclass(frozen=True, slots=True)
class DataType:
    """One of PMML's data types. *since* is the year that a count of days or seconds starts at."""

    name: str
    kind: Kind
    since: int | None = None

    @property
    def numpy(self) -> Any:
        """The dtype of a column's values."""
        return _NUMPY[self.kind]

    @property
    def is_number(self) -> bool:
        """Whether it adds and compares as a number: counts of days and seconds do."""
        return self.kind in (Kind.INTEGER, Kind.FLOAT, Kind.DOUBLE)

    @property
    def is_text(self) -> bool:
        return self.kind is Kind.STRING

    @property
    def is_moment(self) -> bool:
        """Whether text of it is a calendar or clock notation."""
        return self.kind in (Kind.DATE, Kind.TIME, Kind.DATETIME) or self.name not in _PLAIN

    def __str__(self) -> str:
        return self.name


STRING = DataType("string", Kind.STRING)
INTEGER = DataType("integer", Kind.INTEGER)
FLOAT = DataType("float", Kind.FLOAT)
DOUBLE = DataType("double", Kind.DOUBLE)
BOOLEAN = DataType("boolean", Kind.BOOLEAN)
DATE = DataType("date", Kind.DATE)
TIME = DataType("time", Kind.TIME)
DATETIME = DataType("dateTime", Kind.DATETIME)
_PLAIN = {each.name: each for each in (STRING, INTEGER, FLOAT, DOUBLE, BOOLEAN)}
_TYPES = _PLAIN | {each.name: each for each in (DATE, TIME, DATETIME)}
# Spellings that real files use for the five plain types.
_ALIASES = {"int": INTEGER, "real": DOUBLE, "number": DOUBLE, "numeric": DOUBLE, "long": INTEGER}
_SINCE = re.compile(r"(dateDaysSince|dateTimeSecondsSince)\[?(\d{1,4})\]?")


@cache
def data_type(name: str) -> DataType:
    """
    Return the data type called *name*.

    Raises:
        ValueError: there is none.
    """
    found = _TYPES.get(name) or _ALIASES.get(name)
    if found is not None:
        return found
    if name == "timeSeconds":
        return DataType(name, Kind.INTEGER)
    since = _SINCE.fullmatch(name)
    if since is None:
        raise ValueError(f"there is no dataType {name!r}")
    return DataType(name, Kind.INTEGER, int(since[2]))


def round32(number: float) -> float:
    """Return *number* as float32 holds it."""
    # A tenth of what numpy's own float32 costs for one number.
    return c_float(number).value


def parse(text: str, kind: DataType) -> Value:
    """
    Return the value of *kind* that *text* writes.

    Raises:
        ValueError: it writes none.
    """
    match kind.kind:
        case Kind.STRING:
            return text
        case Kind.DOUBLE:
            return number_of(text)
        case Kind.FLOAT:
            return round32(number_of(text))
        case Kind.BOOLEAN:
            return _boolean(text)
        case Kind.INTEGER:
            return _since(text, kind) if kind.name != "integer" else _integer(text)
        case Kind.DATE:
            return (date.fromisoformat(text.strip()) - _EPOCH).days
        case Kind.TIME:
            return _seconds(time.fromisoformat(text.strip()))
        case Kind.DATETIME:
            return _moment(text)


def number_of(text: str) -> float:
    """
    Return the number that *text* writes: ``1E+05``, ``-Infinity``, ``NaN``.

    Raises:
        ValueError: it writes none. Python's own ``1_000`` is none.
    """
    if "_" in text:
        raise ValueError(f"{text!r} is not a number")
    return float(text)


def _integer(text: str) -> int:
    number = number_of(text)
    if not is_whole(number):
        raise ValueError(f"{text!r} is not an integer")
    try:
        return int(text)  # has more digits than a float
    except ValueError:
        return int(number)


def is_whole(number: float) -> bool:
    """Whether *number* is an integer that a column holds."""
    return -_BEYOND <= number < _BEYOND and number == int(number)


def _boolean(text: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f"{text!r} is not a boolean")


def _seconds(clock: time) -> int:
    return clock.hour * 3600 + clock.minute * 60 + clock.second


def _moment(text: str) -> int:
    moment = datetime.fromisoformat(text.strip()).replace(tzinfo=None)
    return round((moment - datetime(1970, 1, 1)).total_seconds())


def days_before(year: int) -> int:
    """Return the days from 1970-01-01 to the first of January of *year* (0 is 1 BC)."""
    # Python has no year 0, which dateDaysSince[0] starts at; it was a leap year.
    return (date(year or 1, 1, 1) - _EPOCH).days - (0 if year else 366)


def _since(text: str, kind: DataType) -> int:
    try:
        return _integer(text)
    except ValueError:
        if kind.since is None:
            return _seconds(time.fromisoformat(text.strip()))
    if kind.name.startswith("dateDays"):
        return int(parse(text.strip()[:10], DATE)) - days_before(kind.since)
    return _moment(text) - 86400 * days_before(kind.since)


def convert(value: Value, kind: DataType, source: DataType | None = None) -> Value:
    """
    Return *value* as *kind* holds it; None stays None. *source*: the type it comes from.

    Raises:
        ValueError: it cannot be held: ``1.5`` as integer, ``abc`` as double.
    """
    if type(value) is float:
        if kind is DOUBLE:
            return value
        if kind is FLOAT:
            return round32(value)
    if value is None or isinstance(value, list | tuple):
        return value
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, str):
        return parse(value, kind)
    match kind.kind:
        case Kind.STRING:
            return text_of(value, source)
        case Kind.DOUBLE:
            return float(value)
        case Kind.FLOAT:
            return round32(value)
        case Kind.BOOLEAN:
            if value in (0, 1):
                return bool(value)
            raise ValueError(f"{value!r} is not a boolean")
        case Kind.INTEGER if kind.since is not None and source is not None and source.is_moment:
            return _recount(int(value), kind, source)
        case Kind.DATE if source is not None and source.kind is Kind.DATETIME:
            return int(value) // 86400
        case Kind.DATETIME if source is not None and source.kind is Kind.DATE:
            return value * 86400
        case _:
            if isinstance(value, float) and not is_whole(value):
                raise ValueError(f"{value!r} is not {_article(kind)}")
            return int(value)


def _article(kind: DataType) -> str:
    return f"{'an' if kind.name[0] in 'aeiou' else 'a'} {kind.name}"


def _recount(value: int, kind: DataType, source: DataType) -> int:
    assert kind.since is not None
    base = days_before(kind.since)
    if source.kind is Kind.DATE:
        return value - base if kind.name.startswith("dateDays") else (value - base) * 86400
    if source.kind is Kind.DATETIME:
        if kind.name.startswith("dateDays"):
            return value // 86400 - base
        return value - base * 86400
    return value


def text_of(value: Value, kind: DataType | None = None) -> str:
    """Return *value* as PMML writes it: ``true``, ``1.0``, ``2020-01-31``; a collection as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return json.dumps(value)
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating):
        return _float_text(float(value), kind)
    if kind is not None:
        match kind.kind:
            case Kind.DATE:
                return (_EPOCH + timedelta(days=int(value))).isoformat()
            case Kind.TIME:
                return (datetime(1970, 1, 1) + timedelta(seconds=int(value))).time().isoformat()
            case Kind.DATETIME:
                return (datetime(1970, 1, 1) + timedelta(seconds=int(value))).isoformat()
            case _:
                pass
    return str(value)


def _float_text(number: float, kind: DataType | None) -> str:
    if number != number:
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    text = str(np.float32(number)) if kind is FLOAT else repr(number)
    if number == 0 or 1e-3 <= abs(number) < 1e7:
        return text
    # As Java writes it, the language of nearly every producer: 1.0E7, 1.25E-4.
    sign, digits, exponent = Decimal(text).normalize().as_tuple()
    assert isinstance(exponent, int)
    rest = "".join(map(str, digits[1:])) or "0"
    return f"{'-' if sign else ''}{digits[0]}.{rest}E{exponent + len(digits) - 1}"


def common(types: list[DataType]) -> DataType:
    """Return the type that holds values of all *types*: the wider number, or string."""
    distinct = list(dict.fromkeys(types))
    if not distinct:
        return DOUBLE
    if len(distinct) == 1:
        return distinct[0]
    ranks = {Kind.BOOLEAN: 0, Kind.INTEGER: 1, Kind.FLOAT: 2, Kind.DOUBLE: 3}
    if all(each.kind in ranks for each in distinct):
        return max(distinct, key=lambda each: ranks[each.kind])
    return STRING
