"""Text to words, words to words, words to vectors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats.stages.stage import Kind, Port, Stage
from martlet.formats.stages.vectors import Dense, Floats, Sparse, Vector

Words = NDArray[np.object_]
# What Java's \s matches; Python's also takes other Unicode spaces.
_SPACE = re.compile(r"[ \t\n\x0b\f\r]")


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
    pieces: list[str] = []
    start = 0
    for match in pattern.finditer(text):
        if match.end() == 0:
            continue
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


def regex(name: str, pattern: str) -> re.Pattern[str]:
    """
    Return a pattern of Java's, whose \\w, \\d and \\s are ASCII unless told otherwise.

    Raises:
        UnsupportedModel: it is none.
    """
    try:
        return re.compile(pattern, re.ASCII)
    except (re.error, RecursionError) as exc:
        raise UnsupportedModel(f"{name}: the pattern {pattern!r} is not one: {exc}") from None


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
        found: Iterable[str]
        if gaps:
            found = java_split(compiled, text)
        else:
            found = (match.group() for match in compiled.finditer(text))
        return [word for word in found if utf16_length(word) >= min_length]

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


def counts(
    name: str,
    source: str,
    output: str,
    width: int,
    find: Callable[[str], int | None],
    *,
    binary: bool = False,
    min_count: float = 0.0,
) -> Stage:
    """
    Return the stage that counts a row's words by place in a vector.

    Args:
        find: The place of a word; None: it is left out.
        binary: Give 1 for any count.
        min_count: Leave out what is seen less often; below 1 it is a share of the row's words.
    """

    def run(column: Words) -> Vector:
        at: list[int] = []
        places: list[int] = []
        values: list[float] = []
        for i, words in enumerate(column.tolist()):
            least = min_count if min_count >= 1 else min_count * len(words)
            found = map(find, words)
            counted = Counter(place for place in found if place is not None)
            for place, count in sorted(counted.items()):
                if count >= least:
                    at.append(i)
                    places.append(place)
                    values.append(1.0 if binary else float(count))
        return Sparse(
            np.array(at, dtype=np.int64),
            np.array(places, dtype=np.int64),
            np.array(values, dtype=np.float64),
            len(column),
            width,
        )

    return Stage(name, (Port(source, Kind.WORDS),), (Port(output, Kind.VECTOR, width),), run)


def count_vectorizer(
    name: str,
    source: str,
    output: str,
    vocabulary: Sequence[str],
    binary: bool,
    min_count: float,
) -> Stage:
    """Return the stage that counts the words of *vocabulary*, in its order."""
    place: Mapping[str, int] = {word: i for i, word in enumerate(vocabulary)}
    return counts(
        name, source, output, len(vocabulary), place.get, binary=binary, min_count=min_count
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
    place = {word: i for i, word in enumerate(words)}
    width = vectors.shape[1]

    def run(column: Words) -> Vector:
        out = np.zeros((len(column), width))
        for i, row in enumerate(column.tolist()):
            known = [place[word] for word in row if word in place]
            if known:
                total = vectors[known].sum(axis=0)
                size = np.sqrt(total @ total) if root else len(row)
                out[i] = total / size if size else total
        return Dense(out)

    return Stage(name, (Port(source, Kind.WORDS),), (Port(output, Kind.VECTOR, width),), run)
