"""SQL's functions of text and of words: NULL in, NULL out; positions count from 1."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from martlet.formats.stages.text import java_split

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "0": "\0", "Z": "\x1a"}


def unquoted(text: str) -> str:
    """Return what a literal says; ``\\%`` and ``\\_`` stay for LIKE."""
    inner = text[1:-1].replace("''", "'") if text[0] == "'" else text[1:-1]

    def unescaped(match: re.Match[str]) -> str:
        sign = match[1]
        return match[0] if sign in "%_" else _ESCAPES.get(sign, sign)

    return re.sub(r"\\(.)", unescaped, inner, flags=re.DOTALL)


def left(text: str, size: float) -> str:
    return text[: max(0, int(size))]


def right(text: str, size: float) -> str:
    return text[-int(size) :] if size >= 1 else ""


def substring(text: str, start: float, length: float = np.inf) -> str:
    """0 reads as 1; a negative start counts from the end."""
    at = int(start)
    begin = at - 1 if at > 0 else (0 if at == 0 else len(text) + at)
    end = len(text) if length == np.inf else begin + int(length)
    return text[max(0, begin) : max(0, end)]


def substring_index(text: str, sign: str, count: float) -> str:
    """Return what lies before the *count*-th *sign*; after it from the end where it is negative."""
    pieces, n = text.split(sign) if sign else [text], int(count)
    if not sign or n == 0:
        return ""
    return sign.join(pieces[:n] if n > 0 else pieces[n:])


def padded(text: str, size: float, fill: str, before: bool) -> str:
    """Return *text* cut or filled up to *size*."""
    short = int(size) - len(text)
    if short <= 0 or not fill:
        return text[: max(0, int(size))]
    more = (fill * (short // len(fill) + 1))[:short]
    return more + text if before else text + more


def initcap(text: str) -> str:
    return " ".join(word[:1].upper() + word[1:].lower() for word in text.split(" "))


def translate(text: str, given: str, wanted: str) -> str:
    """Return *text*, each sign of *given* as the one at its place in *wanted*, or left out."""
    table: dict[int, str | None] = {}
    for i, sign in enumerate(given):
        table.setdefault(ord(sign), wanted[i] if i < len(wanted) else None)
    return text.translate(table)


def locate(part: str, text: str, start: float = 1.0) -> float:
    """Return where *part* begins, 0 for nowhere."""
    return float(text.find(part, int(start) - 1) + 1) if start >= 1 else 0.0


def replaced(pattern: re.Pattern[str], replacement: str) -> Callable[[str], str]:
    """Java's replacement: ``$1`` is a group, a backslash takes the next sign as it is."""
    pieces = re.split(r"\\(.)|\$(\d)", replacement, flags=re.DOTALL)
    for group in pieces[2::3]:
        if group is not None and int(group) > pattern.groups:
            raise ValueError(f"there is no group {group}")

    def fill(match: re.Match[str]) -> str:
        out = []
        for i, piece in enumerate(pieces):
            if piece is not None:
                out.append(match[int(piece)] or "" if i % 3 == 2 else piece)
        return "".join(out)

    return lambda text: pattern.sub(fill, text)


def extracted(pattern: re.Pattern[str], group: int) -> Callable[[str], str]:
    """Return the group of the first match, "" for none."""
    if not 0 <= group <= pattern.groups:
        raise ValueError(f"there is no group {group}")

    def take(text: str) -> str:
        match = pattern.search(text)
        return "" if match is None else match[group] or ""

    return take


def split(pattern: re.Pattern[str], limit: int) -> Callable[[str], list[str]]:
    """Spark splits with the limit -1: empty pieces at the end stay."""

    def run(text: str) -> list[str]:
        if limit == 0:
            return java_split(pattern, text)
        pieces: list[str] = []
        start = 0
        for match in pattern.finditer(text):
            if 0 < limit == len(pieces) + 1:
                break
            if match.end() > 0 and match.start() < len(text):
                pieces.append(text[start : match.start()])
                start = match.end()
        return [*pieces, text[start:]]

    return run


def element(words: Any, place: float) -> Any:
    """Return the word at *place*, counted from 0; None outside."""
    at = int(place)
    return words[at] if 0 <= at < len(words) else None


def element_from_one(words: Any, place: float) -> Any:
    """Return the word at *place*, counted from 1, or from the end by -1."""
    at = int(place)
    return words[at - (at > 0)] if at and -len(words) <= at <= len(words) else None
