"""PMML's built-in functions of text and of moments.

Each is a function of plain values. A column computes it once for every distinct combination of
its arguments. Source: PMML 4.4.1, Built-in functions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal

from martlet.formats.pmml.regex import pattern, template
from martlet.formats.pmml.values import (
    DATETIME,
    INTEGER,
    STRING,
    DataType,
    Kind,
    Value,
    days_before,
    text_of,
)


def substring(text: str, start: int, length: int) -> str:
    """Return *length* characters of *text* from the *start*-th (the first is 1)."""
    if start < 1 or length < 0:
        raise ValueError(f"substring starts at {start} with length {length}")
    return text[start - 1 : start - 1 + length]


def replace(text: str, regex: str, replacement: str) -> str:
    """
    Return *text* with every match of *regex* replaced.

    Raises:
        ValueError: the replacement refers to a group that there is not.
    """
    try:
        return pattern(regex).sub(template(replacement), text)
    except (re.error, IndexError) as exc:
        raise ValueError(f"{replacement!r} cannot replace {regex!r}: {exc}") from None


def matches(text: str, regex: str) -> bool:
    """Return whether *regex* matches somewhere in *text*."""
    return pattern(regex).search(text) is not None


_FORM = re.compile(r"%(?:1\$)?([-#+ 0,(]*)(\d*)(\.\d+)?([a-zA-Z%])")


def format_number(number: Value, form: str) -> str:
    """
    Return *number* written as printf's *form* says; its flags are Java's.

    Raises:
        ValueError: the form is none, or not one for this number: ``%d`` takes integers.
    """
    found = [each for each in _FORM.finditer(form) if each[4] not in "%n"]
    if len(found) > 1:
        raise ValueError(f"{form!r} asks for {len(found)} numbers")
    if _FORM.sub("", form).count("%"):
        raise ValueError(f"{form!r} is no format")
    return _FORM.sub(lambda each: _formatted(each, number, form), form)


def _formatted(found: re.Match[str], number: Value, form: str) -> str:
    flags, width, precision, letter = found[1], int(found[2] or 0), found[3] or "", found[4]
    if letter in "%n":
        return {"%": "%", "n": "\n"}[letter].rjust(width)
    if letter in "sS":
        text = text_of(number)[: int(precision[1:]) if precision else None]
        text = text.upper() if letter == "S" else text
        return text.ljust(width) if "-" in flags else text.rjust(width)
    if letter in "dxXo" and float(number).is_integer():
        number = int(number)
    is_whole = isinstance(number, int)
    if letter not in ("dxXo" if is_whole else "feEgG"):
        raise ValueError(f"{form!r} cannot format {number!r}")
    negative = number < 0 or (number == 0 and str(number)[0] == "-")
    sign = "-" if negative else "+" if "+" in flags else " " if " " in flags else ""
    spec = precision or ("" if is_whole else ".6")
    grouped = "," if "," in flags and letter in "df" else ""
    digits = _digits(abs(number), letter, int(spec[1:] or 0) if spec else 0, grouped)
    if "(" in flags and negative:
        sign, digits = "(", digits + ")"
    if "0" in flags:
        digits = digits.zfill(width - len(sign))
    text = sign + digits
    return text.ljust(width) if "-" in flags else text.rjust(width)


def _digits(number: Value, letter: str, precision: int, grouped: str) -> str:
    """Return *number*, which is not negative, rounded as Java rounds: half up, of its decimals."""
    if isinstance(number, int):
        return format(number, grouped + letter)
    if not math.isfinite(number):
        return text_of(number)
    exact = Decimal(repr(number))
    if letter == "f":
        return format(exact.quantize(Decimal(1).scaleb(-precision), ROUND_HALF_UP), grouped + "f")
    places = precision + 1 if letter in "eE" else max(precision, 1)
    rounded = Context(prec=places, rounding=ROUND_HALF_UP).plus(exact)
    # Java's %g keeps the zeros at its end.
    sharp = "#" if letter in "gG" else ""
    return format(float(rounded), f"{sharp}.{precision}{letter}").removesuffix(".")


_MOMENT = re.compile("%([%klLp])")


def format_datetime(seconds: int, form: str) -> str:
    """Return the moment *seconds* after 1970 as strftime's *form* says; a few as Java has them."""
    moment = datetime(1970, 1, 1) + timedelta(seconds=seconds)
    own = {
        "%": "%%",
        "k": str(moment.hour),
        "l": str((moment.hour + 11) % 12 + 1),
        "L": "000",
        "p": "pm" if moment.hour >= 12 else "am",
    }
    return moment.strftime(_MOMENT.sub(lambda found: own[found[1]], form))


def days_since(seconds: int, year: int) -> int:
    """Return the days from the first of January of *year* to the moment."""
    return seconds // 86400 - days_before(year)


def seconds_since(seconds: int, year: int) -> int:
    """Return the seconds from the first of January of *year* to the moment."""
    return seconds - 86400 * days_before(year)


def seconds_of_day(seconds: int) -> int:
    """Return the seconds from midnight to the moment."""
    return seconds % 86400


@dataclass(frozen=True, slots=True)
class Pointwise:
    """
    A function of plain values; a row that lacks an argument has no answer.

    Args:
        arguments: Their types; the last one repeats where *arity* allows more.
        result: The type of its value.
        scalar: Raises ValueError where it has none.
    """

    arguments: Sequence[DataType]
    result: DataType
    scalar: Callable[..., Value]


NUMBER = DataType("number", Kind.DOUBLE)
"""Any number: an argument of this type is not held as another."""
_BOOLEAN = DataType("boolean", Kind.BOOLEAN)

POINTWISE: dict[str, Pointwise] = {
    "uppercase": Pointwise((STRING,), STRING, str.upper),
    "lowercase": Pointwise((STRING,), STRING, str.lower),
    "stringLength": Pointwise((STRING,), INTEGER, len),
    "trimBlanks": Pointwise((STRING,), STRING, str.strip),
    "substring": Pointwise((STRING, INTEGER, INTEGER), STRING, substring),
    "replace": Pointwise((STRING, STRING, STRING), STRING, replace),
    "matches": Pointwise((STRING, STRING), _BOOLEAN, matches),
    "formatNumber": Pointwise((NUMBER, STRING), STRING, format_number),
    "formatDatetime": Pointwise((DATETIME, STRING), STRING, format_datetime),
    "dateDaysSinceYear": Pointwise((DATETIME, INTEGER), INTEGER, days_since),
    "dateSecondsSinceYear": Pointwise((DATETIME, INTEGER), INTEGER, seconds_since),
    "dateSecondsSinceMidnight": Pointwise((DATETIME,), INTEGER, seconds_of_day),
}
