"""
Dates and times of SQL: read from text, taken apart, counted, written.

A date is days since 1970-01-01 and a time microseconds since then, both float64, NaN for NULL;
times are of one zone, UTC.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import numpy as np

from martlet.errors import UnsupportedModel

DAY = 86_400_000_000
"""The microseconds of one."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = date(1970, 1, 1).toordinal()
_LEAST, _MOST = date.min.toordinal() - _FIRST, date.max.toordinal() - _FIRST
_SPARK = re.compile(
    r"\s*(?P<year>\d{4,5})(?:-(?P<month>\d\d?)(?:-(?P<day>\d\d?)(?P<rest>[ T].*)?)?)?\s*", re.DOTALL
)
_CLOCK = re.compile(
    r"[ T](?P<hour>\d\d?):(?P<minute>\d\d?)(?::(?P<second>\d\d?)(?:\.(?P<fraction>\d{1,9}))?)?"
    r"\s*(?P<zone>Z|UTC|GMT|[+-]\d\d?:?\d{0,2})?\s*"
)


def to_date(text: Any) -> float:
    """Return the day that *text* begins with, NaN for none, as Spark casts."""
    match = _SPARK.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return np.nan
    try:
        found = date(int(match["year"]), int(match["month"] or 1), int(match["day"] or 1))
    except ValueError:
        return np.nan
    return float(found.toordinal() - _FIRST)


def to_time(text: Any) -> float:
    """Return the time that *text* says, NaN for none, as Spark casts."""
    days = to_date(text)
    match = _SPARK.fullmatch(text) if days == days else None
    if match is None or not (match["rest"] or "").strip(" "):
        return days * DAY
    clock = _CLOCK.fullmatch(match["rest"])
    if clock is None:
        return np.nan
    hour, minute, second = (int(clock[each] or 0) for each in ("hour", "minute", "second"))
    if hour > 23 or minute > 59 or second > 59:
        return np.nan
    micros = int((clock["fraction"] or "").ljust(6, "0")[:6] or 0)
    seconds = (hour * 60 + minute) * 60 + second - _offset(clock["zone"])
    return days * DAY + seconds * 1e6 + micros


def _offset(zone: str | None) -> int:
    if zone is None or zone in ("Z", "UTC", "GMT"):
        return 0
    hours, minutes = re.fullmatch(r"[+-](\d\d?):?(\d{0,2})", zone).groups()  # type: ignore[union-attr]
    return (-1 if zone[0] == "-" else 1) * (int(hours) * 3600 + int(minutes or 0) * 60)


def _at(micros: float) -> datetime:
    return _EPOCH + timedelta(microseconds=int(micros))


def date_text(days: float) -> str:
    """Return a day as Spark writes it."""
    return date.fromordinal(int(days) + _FIRST).isoformat()


def time_text(micros: float) -> str:
    """Return a time as Spark writes it: of a fraction no zeros at its end."""
    found = _at(micros)
    whole = found.strftime("%Y-%m-%d %H:%M:%S")
    return f"{whole}.{found.microsecond:06d}".rstrip("0") if found.microsecond else whole


def parts(take: Callable[[datetime], float]) -> Callable[[Any], Any]:
    """Return the function that takes a number from each time."""

    def one(micros: float) -> float:
        inside = micros == micros and _LEAST <= micros // DAY <= _MOST
        return float(take(_at(micros))) if inside else np.nan

    def run(times: Any) -> Any:
        if isinstance(times, np.ndarray):
            return np.array([one(each) for each in times.tolist()], dtype=np.float64)
        return one(times)

    return run


PARTS: Mapping[str, Callable[[Any], Any]] = {
    name: parts(take)
    for name, take in {
        "year": lambda t: t.year,
        "quarter": lambda t: (t.month + 2) // 3,
        "month": lambda t: t.month,
        "day": lambda t: t.day,
        "dayofmonth": lambda t: t.day,
        "dayofweek": lambda t: t.isoweekday() % 7 + 1,
        "weekday": lambda t: t.weekday(),
        "dayofyear": lambda t: t.timetuple().tm_yday,
        "weekofyear": lambda t: t.isocalendar().week,
        "hour": lambda t: t.hour,
        "minute": lambda t: t.minute,
        "second": lambda t: t.second,
    }.items()
}
"""What a time is made of, by SQL's names."""

# Java's letters, repeated, that strptime and strftime know; other letters are refused.
_LETTERS: Mapping[str, str] = {
    "yyyy": "%Y", "y": "%Y", "yy": "%y", "MMMM": "%B", "MMM": "%b", "MM": "%m", "dd": "%d",
    "HH": "%H", "hh": "%I", "mm": "%M", "ss": "%S", "a": "%p", "EEEE": "%A", "EEE": "%a",
    "E": "%a", "DDD": "%j", "SSSSSS": "%f",
}  # fmt: skip
# One letter alone: no zero before one digit.
_BARE = {"M": "%m", "d": "%d", "H": "%H", "h": "%I", "m": "%M", "s": "%S"}
_RUN = re.compile(r"'(?P<quoted>[^']*)'|(?P<letters>([A-Za-z])\3*)|(?P<other>.)", re.DOTALL)


def pattern(java: str, where: str) -> str:
    """
    Return a pattern of Java's times as ``strftime`` has it; ``%-d`` is a number without zeros.

    Raises:
        UnsupportedModel: a letter of it is not known.
    """
    out = []
    for piece in _RUN.finditer(java):
        letters = piece["letters"]
        if letters is None:
            out.append((piece["quoted"] or piece["other"] or "'").replace("%", "%%"))
        elif letters in _LETTERS:
            out.append(_LETTERS[letters])
        elif letters in _BARE:
            out.append("%-" + _BARE[letters][1])
        else:
            raise UnsupportedModel(f"{where}: {letters!r} in a pattern of times is not supported")
    return "".join(out)


def read_by(form: str) -> Callable[[Any], float]:
    """Return the function from text to time by a `pattern`, NaN where the text is not so."""
    plain = form.replace("%-", "%")

    def read(text: Any) -> float:
        try:
            found = datetime.strptime(text, plain).replace(tzinfo=timezone.utc)  # noqa: UP017
        except (TypeError, ValueError):
            return np.nan
        return float((found - _EPOCH) // timedelta(microseconds=1))

    return read


def written_by(form: str) -> Callable[[Any], Any]:
    """Return the function from a time to text by a `pattern`, None for NULL."""

    def write(micros: Any) -> Any:
        return _at(micros).strftime(form) if micros == micros else None

    return write
