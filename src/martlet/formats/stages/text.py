"""Text to words, words to words, words to vectors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats.stages.patterns import regex
from martlet.formats.stages.stage import Kind, Port, Stage
from martlet.formats.stages.vectors import Dense, Floats, Ints, Sparse, Vector

Words = NDArray[np.object_]
# What Java's \s matches; Python's also takes other Unicode spaces.
_SPACE = re.compile(r"[ \t\n\x0b\f\r]")
# A pattern of one class of characters, which no empty text matches.
_ONE_CLASS = re.compile(r"(\\[sSwWdD]|\[\^?[^\[\]\\^]+\])\+?")
_FEW = 32
"""Rows that cost less one after another than as arrays."""


def _per_row(source: str, function: Callable[[Any], Any]) -> Callable[[Words], Words]:
    def run(column: Words) -> Words:
        out = np.empty(len(column), dtype=object)
        for i, value in enumerate(column.tolist()):
            if value is None:
                raise InvalidInput(f"column {source!r} holds a missing value")
            out[i] = function(value)
        return out

    return run


def _words(
    name: str, source: str, output: str, kind: Kind, function: Callable[[Any], list[str]]
) -> Stage:
    return Stage(
        name, (Port(source, kind),), (Port(output, Kind.WORDS),), _per_row(source, function)
    )


def java_split(pattern: re.Pattern[str], text: str) -> list[str]:
    """
    Return the pieces between matches, as Java's ``String.split``: none empty at the end.

    >>> java_split(re.compile(","), "a,,b,,"), java_split(re.compile(","), "")
    (['a', '', 'b'], [''])
    """
    if _ONE_CLASS.fullmatch(pattern.pattern):
        pieces = pattern.split(text)
        if len(pieces) == 1:
            return pieces
    else:
        pieces = []
        start = 0
        for match in pattern.finditer(text):
            # Java makes no empty piece of an empty match at the beginning.
            if match.end() > 0:
                pieces.append(text[start : match.start()])
                start = match.end()
        if not pieces:
            return [text]
        pieces.append(text[start:])
    while pieces and not pieces[-1]:
        pieces.pop()
    return pieces


def utf16_length(text: str) -> int:
    """
    Return the length of *text* as Java counts it: what is past U+FFFF is two.

    >>> utf16_length("ab"), utf16_length("\U0001f600")
    (2, 2)
    """
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def tokenizer(name: str, source: str, output: str) -> Stage:
    """Return the stage that lowers text and splits it at every white space."""
    return _words(name, source, output, Kind.TEXT, lambda text: java_split(_SPACE, text.lower()))


def regex_tokenizer(
    name: str,
    source: str,
    output: str,
    pattern: str,
    gaps: bool,
    min_length: int,
    lower: bool,
) -> Stage:
    """Return the stage that splits text at *pattern* (*gaps*), or finds its matches."""
    compiled = regex(name, pattern)

    def split(text: str) -> list[str]:
        if lower:
            text = text.lower()
        if gaps:
            found = java_split(compiled, text)
        elif compiled.groups:
            found = [match.group() for match in compiled.finditer(text)]
        else:
            found = compiled.findall(text)
        least = min_length
        return [word for word in found if len(word) >= least or utf16_length(word) >= least]

    return _words(name, source, output, Kind.TEXT, split)


def stop_words_remover(
    name: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    stop_words: Sequence[str],
    case_sensitive: bool,
) -> Stage:
    """Return the stage that leaves *stop_words* out."""
    stop = frozenset(stop_words if case_sensitive else map(str.lower, stop_words))

    def rest(words: list[str]) -> list[str]:
        if case_sensitive:
            return [word for word in words if word not in stop]
        return [word for word in words if word.lower() not in stop]

    each = [_per_row(source, rest) for source in inputs]

    def run(*columns: Words) -> Any:
        found = [step(column) for step, column in zip(each, columns, strict=True)]
        return found[0] if len(found) == 1 else tuple(found)

    return Stage(
        name,
        tuple(Port(source, Kind.WORDS) for source in inputs),
        tuple(Port(output, Kind.WORDS) for output in outputs),
        run,
    )


def ngram(name: str, source: str, output: str, n: int) -> Stage:
    """Return the stage that joins every *n* neighbouring words by a space."""
    if n < 1:
        raise UnsupportedModel(f"{name}: n is {n}; use 1 or more")

    def join(words: list[str]) -> list[str]:
        return [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]

    return _words(name, source, output, Kind.WORDS, join)


def length_filter(name: str, source: str, output: str, least: int) -> Stage:
    """Return the stage that keeps the words of more than *least* characters."""
    return _words(
        name,
        source,
        output,
        Kind.WORDS,
        lambda words: [w for w in words if utf16_length(w) > least],
    )


Places = Callable[[Iterable[str]], Iterable[int]]
"""From words to their places in a vector; -1 is none."""


def places_in(words: Sequence[str]) -> Places:
    """Return the places that *words* have in their own order."""
    find = {word: i for i, word in enumerate(words)}.get
    return lambda asked: map(find, asked, repeat(-1))


def counts(
    name: str,
    source: str,
    output: str,
    width: int,
    places: Places,
    *,
    binary: bool = False,
    min_count: float = 0.0,
) -> Stage:
    """
    Return the stage that counts a row's words by place in a vector.

    Args:
        binary: Give 1 for any count.
        min_count: Leave out what is seen less often; below 1 it is a share of the row's words.
    """

    def few(rows: list[list[str]]) -> tuple[list[int], list[int], list[int]]:
        at: list[int] = []
        found: list[int] = []
        totals: list[int] = []
        for i, words in enumerate(rows):
            least = min_count if min_count >= 1 else min_count * len(words)
            counted: dict[int, int] = {}
            for place in places(words):
                counted[place] = counted.get(place, 0) + 1
            counted.pop(-1, None)
            for place in sorted(counted):
                if counted[place] >= least:
                    at.append(i)
                    found.append(place)
                    totals.append(counted[place])
        return at, found, totals

    def many(rows: list[list[str]]) -> tuple[Ints, Ints, Ints]:
        at, found, sizes = _placed(rows, places)
        keys, totals = np.unique(at * width + found, return_counts=True)
        at, found = keys // width, keys % width
        least = min_count if min_count >= 1 else min_count * sizes[at]
        enough = totals >= least
        return at[enough], found[enough], totals[enough]

    def run(column: Words) -> Vector:
        rows = column.tolist()
        at, found, totals = few(rows) if len(rows) < _FEW else many(rows)
        values = np.array(totals, dtype=np.float64)
        if binary:
            values[:] = 1.0
        return Sparse(
            np.array(at, dtype=np.int64), np.array(found, dtype=np.int64), values, len(rows), width
        )

    return Stage(name, (Port(source, Kind.WORDS),), (Port(output, Kind.VECTOR, width),), run)


def _placed(rows: list[list[str]], places: Places) -> tuple[Ints, Ints, Ints]:
    """Return the row and the place of each word that has one, and how many words each row has."""
    sizes = np.fromiter(map(len, rows), np.int64, len(rows))
    found = np.fromiter(places(chain.from_iterable(rows)), np.int64, int(sizes.sum()))
    known = found >= 0
    return np.repeat(np.arange(len(rows)), sizes)[known], found[known], sizes


def count_vectorizer(
    name: str,
    source: str,
    output: str,
    vocabulary: Sequence[str],
    binary: bool,
    min_count: float,
) -> Stage:
    """Return the stage that counts the words of *vocabulary*, in its order."""
    return counts(
        name,
        source,
        output,
        len(vocabulary),
        places_in(vocabulary),
        binary=binary,
        min_count=min_count,
    )


def mean_vector(
    name: str,
    source: str,
    output: str,
    words: Sequence[str],
    vectors: Floats,
    *,
    root: bool = False,
) -> Stage:
    """
    Return the stage that sums the vectors of a row's known words over the count of all.

    Args:
        vectors: [words, width].
        root: Divide by the root of the sum's product with itself instead.
    """
    places = places_in(words)
    width = vectors.shape[1]

    def run(column: Words) -> Vector:
        rows = column.tolist()
        at, found, sizes = _placed(rows, places)
        total = np.zeros((len(rows), width))
        if len(at):
            # One sum for each stretch of words of a row.
            starts = np.flatnonzero(np.diff(at, prepend=-1))
            total[at[starts]] = np.add.reduceat(vectors.take(found, axis=0), starts, axis=0)
        divisors = np.sqrt(np.einsum("ij,ij->i", total, total)) if root else sizes
        return Dense(total / np.where(divisors == 0, 1, divisors)[:, None])

    return Stage(name, (Port(source, Kind.WORDS),), (Port(output, Kind.VECTOR, width),), run)
