"""``time.*``: numbers 40000 to 40170. A time is seconds since 1970; a zone its name, "" for UTC."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from martlet.formats.pfa.failure import Failure
from martlet.formats.pfa.library import entry


@lru_cache(maxsize=256)
def _zone(name: str) -> tzinfo | None:
    if not name:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _at(ts: float, zone: str, code: int) -> datetime:
    known = _zone(zone)
    if known is None:
        raise Failure(code, "unrecognized timezone string")
    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=ts)).astimezone(known)
    except (OverflowError, ValueError):
        raise Failure(code + 1, "timestamp out of range") from None


_PARTS: dict[str, tuple[int, Callable[[datetime], int]]] = {
    "year": (40000, lambda t: t.year),
    "monthOfYear": (40010, lambda t: t.month),
    "dayOfYear": (40020, lambda t: t.timetuple().tm_yday),
    "dayOfMonth": (40030, lambda t: t.day),
    "dayOfWeek": (40040, lambda t: t.weekday()),
    "hourOfDay": (40050, lambda t: t.hour),
    "minuteOfHour": (40060, lambda t: t.minute),
    "secondOfMinute": (40070, lambda t: t.second),
}


def _part(name: str, code: int, of: Callable[[datetime], int]) -> None:
    @entry(f"time.{name}", "double, string -> int")
    def run(ts: float, zone: str) -> int:
        return of(_at(ts, zone, code))


for _name, (_code, _of) in _PARTS.items():
    _part(_name, _code, _of)


@entry("time.makeTimestamp", "int, int, int, int, int, int, int, string -> double")
def make_timestamp(
    year: int, month: int, day: int, hour: int, minute: int, second: int, milli: int, zone: str
) -> float:
    known = _zone(zone)
    if known is None:
        raise Failure(40080, "unrecognized timezone string")
    try:
        if not 0 <= milli < 1000:
            raise ValueError
        at = datetime(year, month, day, hour, minute, second, milli * 1000, tzinfo=known)
        return (at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    except (ValueError, OverflowError):
        raise Failure(40081, "timestamp undefined for given parameters") from None


_RANGES: dict[str, tuple[int, float, float, Callable[[datetime], float]]] = {
    "SecondOfMinute": (40090, 0, 60, lambda t: t.second + t.microsecond / 1e6),
    "MinuteOfHour": (40100, 0, 60, lambda t: t.minute + t.second / 60),
    "HourOfDay": (40110, 0, 24, lambda t: t.hour + t.minute / 60 + t.second / 3600),
    "DayOfWeek": (40120, 0, 7, lambda t: t.weekday() + t.hour / 24 + t.minute / 1440),
    "DayOfMonth": (40130, 1, 32, lambda t: t.day + t.hour / 24 + t.minute / 1440),
    "MonthOfYear": (40140, 1, 13, lambda t: t.month + (t.day - 1) / 31),
    "DayOfYear": (40150, 1, 367, lambda t: t.timetuple().tm_yday + t.hour / 24),
}


def _range(
    name: str, code: int, least: float, most: float, of: Callable[[datetime], float]
) -> None:
    @entry(f"time.is{name}", "double, string, double, double -> boolean")
    def run(ts: float, zone: str, low: float, high: float) -> bool:
        if low >= high or low < least or high > most or not math.isfinite(low + high):
            raise Failure(code, "bad time range")
        return low <= of(_at(ts, zone, code)) < high


for _each, _row in _RANGES.items():
    _range(_each, *_row)

entry("time.isWeekend", "double, string -> boolean")(
    lambda ts, zone: _at(ts, zone, 40160).weekday() >= 5
)


@entry("time.isWorkHours", "double, string -> boolean")
def is_work_hours(ts: float, zone: str) -> bool:
    at = _at(ts, zone, 40170)
    return at.weekday() < 5 and 9 <= at.hour < 17
