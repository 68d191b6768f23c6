"""TextIndex: how often a term occurs in a text. Source: PMML 4.4.1, Transformations.

A text is cut into words once, whatever the number of terms that are looked for in it.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from martlet.formats.pmml.column import Column, Rows, all_errors, any_missing
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.expressions import (
    ConstantValue,
    Expression,
    FieldRef,
    cast,
    compile_expression,
    distinct,
    expression_of,
    store,
)
from martlet.formats.pmml.frame import Frame, Record, Single
from martlet.formats.pmml.inline_table import inline_rows
from martlet.formats.pmml.regex import pattern, template
from martlet.formats.pmml.scope import Field, Scope
from martlet.formats.pmml.values import DOUBLE, INTEGER, STRING, DataType, Value

_WEIGHTS = ("termFrequency", "binary", "logarithmic", "augmentedNormalizedTermFrequency")
_HITS = ("allHits", "bestHits")
_MAX_ROUNDS = 1000
_MARK = re.compile(r"[^\w\s]|_")
_ASCII = "".join(c for c in map(chr, range(128)) if unicodedata.category(c)[0] == "P")


@dataclass(frozen=True, slots=True)
class Replacement:
    """One row of a normalization: what to find, and what to put there."""

    find: re.Pattern[str]
    put: str


@dataclass(frozen=True, slots=True)
class Normalization:
    """A table of replacements, applied once, or until nothing changes."""

    rows: tuple[Replacement, ...]
    recursive: bool

    def __call__(self, text: str) -> str:
        for _ in range(_MAX_ROUNDS):
            before = text
            for each in self.rows:
                text = each.find.sub(each.put, text)
            if not self.recursive or text == before:
                break
        return text


@cache
def punctuation() -> str:
    """Return Unicode's punctuation, which separated words are stripped of at both ends."""
    return "".join(c for c in map(chr, range(0x20000)) if unicodedata.category(c)[0] == "P")


@dataclass(frozen=True)
class Tokenizer:
    """How a text becomes words."""

    normalizations: tuple[Normalization, ...]
    folds: bool
    separator: re.Pattern[str] | None
    word: re.Pattern[str] | None

    def __post_init__(self) -> None:
        parts = (self.normalizations, self.folds, self.separator, self.word)
        object.__setattr__(self, "_hash", hash(parts))

    def __hash__(self) -> int:
        # Asked for every text and term: a table of a thousand replacements is hashed once.
        found: int = getattr(self, "_hash")  # noqa: B009
        return found

    def __call__(self, text: str) -> tuple[str, ...]:
        """Return the words of *text*, in order."""
        for each in self.normalizations:
            text = each(text)
        return self.words(text)

    def words(self, text: str) -> tuple[str, ...]:
        """Return the words of a text that is normalized already, or of a term."""
        if self.folds:
            text = text.lower()
        if self.word is not None:
            return tuple(match.group() for match in self.word.finditer(text))
        assert self.separator is not None
        parts = self.separator.split(text)
        if _MARK.search(text) is None:
            return tuple(filter(None, parts))
        around = _ASCII if text.isascii() else punctuation()
        return tuple(word for part in parts if (word := part.strip(around)))


@dataclass(frozen=True, slots=True)
class Occurrences:
    """How often each word occurs in the levels of a column; the same for any rows of it."""

    size: int
    by_word: dict[str, tuple[list[int], list[int]]]

    @classmethod
    def of(cls, levels: list[Value], tokenizer: Tokenizer) -> Occurrences:
        """Count the words of all *levels*, each text once."""
        found: dict[str, tuple[list[int], list[int]]] = {}
        for level, text in enumerate(levels):
            for word, times in Counter(tokenizer(text)).items():
                where, counts = found.setdefault(word, ([], []))
                where.append(level)
                counts.append(times)
        return cls(len(levels), found)

    def counts(self, word: str) -> np.ndarray:
        """Return how often *word* occurs, by level; then 0, for what is missing."""
        counts = np.zeros(self.size + 1)
        if word in self.by_word:
            where, times = self.by_word[word]
            counts[where] = times
        return counts

    def take(self, _: Rows) -> Occurrences:
        """Return what counts for some rows: the levels stay."""
        return self


@dataclass(frozen=True)
class TextIndex:
    """The weight of one term in a field's text."""

    field: Field
    scope: Scope
    tokenizer: Tokenizer
    term: tuple[str, ...]
    weights: str
    distance: int
    best: bool

    @property
    def type(self) -> DataType:
        return INTEGER if self.weights in ("termFrequency", "binary") else DOUBLE

    @property
    def is_counted(self) -> bool:
        """Whether the term is one word, found exactly: then all texts are counted once."""
        return len(self.term) == 1 and self.distance == 0 and self.weights != _WEIGHTS[3]

    def column(self, frame: Frame) -> Column:
        source: Column = frame[self.field.slot]
        if self.is_counted and source.levels is not None:
            found: Occurrences = frame[self.reserve()]
            counts = found.counts(self.term[0])
            if self.weights == "binary":
                counts = np.minimum(counts, 1)
            elif self.weights == "logarithmic":
                counts = np.log10(1 + counts)
            taken = counts.astype(self.type.numpy)[source.values]
            return Column(self.type, taken, source.missing, source.errors)
        values = source.by_level(lambda text: self.weigh(text, self.term), 0.0, self.type.numpy)
        return Column(self.type, values, source.missing, source.errors)

    def single(self) -> Single:
        read, weigh, term = self.scope.reader(self.field), self.weigh, self.term
        if self.is_counted and self.weights == "termFrequency":
            counts_of, word = self.scope.world.program.reader(self.reserve()), self.term[0]

            def count(record: Record) -> Value:
                counts = counts_of(record)
                return None if counts is None else counts.get(word, 0)

            return count

        def call(record: Record) -> Value:
            text = read(record)
            return None if text is None else weigh(text, term)

        return call

    def reserve(self) -> int:
        """Return the slot of how often each word occurs; it is made when first asked for."""
        world, tokenizer = self.scope.world, self.tokenizer
        key = (self.field.slot, tokenizer)
        if key not in world.texts:
            slot, read = self.field.slot, self.scope.reader(self.field)

            def batch(frame: Frame) -> Occurrences:
                return Occurrences.of(frame[slot].levels, tokenizer)

            def single(record: Record) -> Counter[str] | None:
                text = read(record)
                return None if text is None else Counter(tokenizer(text))

            world.texts[key] = world.program.slot(batch, single)
        return world.texts[key]

    def weigh(self, text: str, term: tuple[str, ...]) -> float:
        """Return the weight of *term* in *text*."""
        words = _words(self.tokenizer, text)
        count = self._count(words, term)
        match self.weights:
            case "termFrequency":
                return count
            case "binary":
                return 1 if count else 0
            case "logarithmic":
                return math.log10(1 + count)
            case _:
                most = max(Counter(words).values(), default=0)
                return 0.5 + 0.5 * count / most if most and count else 0.0

    def _count(self, words: tuple[str, ...], term: tuple[str, ...]) -> int:
        size = len(term)
        if not size:
            return 0
        if self.distance == 0:
            if size == 1:
                return _counts(words).get(term[0], 0)
            return sum(words[at : at + size] == term for at in range(len(words) - size + 1))
        hits = []
        for at in range(len(words) - size + 1):
            gap = sum(levenshtein(a, b) for a, b in zip(words[at : at + size], term, strict=True))
            if gap <= self.distance:
                hits.append(gap)
        return hits.count(min(hits)) if hits and self.best else len(hits)


@dataclass(frozen=True)
class AnyTerm:
    """The weight in a field's text of a term that another expression gives for each row."""

    index: TextIndex
    inner: Expression

    @property
    def type(self) -> DataType:
        return self.index.type

    def column(self, frame: Frame) -> Column:
        sources: list[Column] = [frame[self.index.field.slot], self.inner.column(frame)]
        keys, codes = distinct(sources)
        weights = [0.0 if None in key else self._weigh(*key) for key in keys]
        values = np.array(weights, dtype=self.type.numpy)[codes]
        return Column(self.type, values, any_missing(sources), all_errors(sources))

    def single(self) -> Single:
        read, term = self.index.scope.reader(self.index.field), self.inner.single()

        def call(record: Record) -> Value:
            text, wanted = read(record), term(record)
            return None if text is None or wanted is None else self._weigh(text, wanted)

        return call

    def _weigh(self, text: str, term: str) -> float:
        return self.index.weigh(text, self.index.tokenizer.words(term))


@lru_cache(maxsize=4096)
def _words(tokenizer: Tokenizer, text: str) -> tuple[str, ...]:
    return tokenizer(text)


@lru_cache(maxsize=4096)
def _counts(words: tuple[str, ...]) -> Counter[str]:
    return Counter(words)


def levenshtein(one: str, other: str) -> int:
    """Return how many insertions, deletions and substitutions turn *one* into *other*."""
    if one == other:
        return 0
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


def compile_text_index(element: Element, scope: Scope, depth: int) -> Expression:
    """
    Compile a TextIndex.

    Raises:
        UnsupportedModel: a part of it is malformed.
    """
    field = scope.field(element.need("textField"), element)
    if not field.type.is_text:
        field = store(cast(FieldRef(field, scope), STRING), scope, field.name)
    folds = not element.flag("isCaseSensitive")
    try:
        tokenizer = Tokenizer(
            tuple(_normalization(e, folds) for e in element.all("TextIndexNormalization")),
            folds,
            pattern(element.get("wordSeparatorCharacterRE") or r"\s+"),
            _word(element),
        )
    except ValueError as exc:
        raise element.error(str(exc)) from None
    tokenizer = scope.world.tokenizers.setdefault(tokenizer, tokenizer)
    inner = compile_expression(expression_of(element), scope, depth + 1)
    distance = element.integer("maxLevenshteinDistance", 0)
    weights = element.choice("localTermWeights", _WEIGHTS, "termFrequency")
    best = element.choice("countHits", _HITS, "allHits") == "bestHits"
    if not isinstance(inner, ConstantValue):
        index = TextIndex(field, scope, tokenizer, (), weights, distance, best)
        return AnyTerm(index, cast(inner, STRING))
    term = tokenizer.words(str(inner.value))
    found = TextIndex(field, scope, tokenizer, term, weights, distance, best)
    if found.is_counted:
        found.reserve()
    return found


def _word(element: Element) -> re.Pattern[str] | None:
    regex = element.get("x-wordRE") or element.get("wordRE")
    return None if regex is None else pattern(regex)


def _normalization(element: Element, folds: bool) -> Normalization:
    folds = not element.flag("isCaseSensitive", not folds)
    inner, outer = element.get("inField") or "string", element.get("outField") or "stem"
    by_regex = element.get("regexField") or "regex"
    rows = []
    for row in inline_rows(element):
        text, put = row.get(inner, ""), row.get(outer, "")
        flags = re.IGNORECASE if folds else 0
        if row.get(by_regex, "").strip().lower() == "true":
            rows.append(Replacement(pattern(text, flags), template(put)))
        else:
            whole = rf"(?<!\w){re.escape(text)}(?!\w)"
            rows.append(Replacement(re.compile(whole, flags), put.replace("\\", r"\\")))
    return Normalization(tuple(rows), element.flag("recursive"))
