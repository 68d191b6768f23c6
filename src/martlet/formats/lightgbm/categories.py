"""Which columns of a LightGBM model were pandas categories: its file lists their values alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

_NUMBERED = re.compile(r"^\[categorical_feature: ([\d,]*)\]$", re.MULTILINE)
_RANGE = re.compile(r"\[(-?[\d.e+-]+):(-?[\d.e+-]+)\]")
_MOST_PAIRS = 1 << 20

# How well a column fits as a category of so many values.
_NOT, _PERHAPS, _RANGED, _LIKELY, _SURELY = range(5)


def category_columns(
    values: Sequence[Sequence[Any]], infos: Sequence[str], parameters: str
) -> list[int] | None:
    """
    Return the column of each list of category values; None where it cannot be told.

    They stand in the order of the columns. A column that holds codes is a category of pandas, or
    one that the user numbered; one whose values pandas orders holds a range; one that never varies
    says nothing. What fits best is taken, if nothing else fits as well.

    Args:
        values: Of each category, in order of code.
        infos: Of each column what training saw: ``none``, ``[0.1:7]`` or codes, ``-1:0:2``.
        parameters: The file's section of that name, where columns of codes are listed.
    """
    if len(values) * len(infos) > _MOST_PAIRS:
        return None
    told = _NUMBERED.search(parameters)
    numbered = {int(each) for each in told[1].split(",") if each} if told else set[int]()
    # The best way to place the first lists, by their number.
    best: list[_Placed | None] = [_Placed(0, 1, -1, None), *[None] * len(values)]
    for column, info in enumerate(infos):
        seen = _Seen.of(info, column in numbered)
        for count in range(len(values), 0, -1):
            before, fit = best[count - 1], seen.fit(len(values[count - 1]))
            if before is None or fit == _NOT:
                continue
            now = _Placed(before.score + fit, before.ways, column, before)
            known = best[count]
            if known is None or now.score > known.score:
                best[count] = now
            elif now.score == known.score:
                best[count] = now._replace(ways=now.ways + known.ways)
    found = best[-1]
    return [*found.columns()][::-1] if found is not None and found.ways == 1 else None


class _Placed(NamedTuple):
    score: int
    ways: int
    column: int
    before: _Placed | None

    def columns(self) -> Iterator[int]:
        """Yield the columns, the last first."""
        at: _Placed | None = self
        while at is not None and at.before is not None:
            yield at.column
            at = at.before


class _Seen(NamedTuple):
    """What training saw of a column: from *low* to *high*, if it may be codes at all."""

    low: float
    high: float
    kind: str

    @classmethod
    def of(cls, info: str, numbered: bool) -> _Seen:
        if info == "none":
            return cls(0, 0, "numbered" if numbered else "nothing")
        span = _RANGE.fullmatch(info)
        try:
            seen = [float(each) for each in (span.groups() if span else info.split(":"))]
        except ValueError:
            return cls(0, 0, "no codes")
        if any(each % 1 or each < -1 for each in seen):
            return cls(0, 0, "no codes")
        return cls(min(seen), max(seen), "range" if span else "codes")

    def fit(self, count: int) -> int:
        """Return how well it fits as a category of *count* values."""
        if self.kind == "no codes" or self.high >= count:
            return _NOT
        if self.kind in ("numbered", "nothing"):
            return _LIKELY if self.kind == "numbered" else _PERHAPS
        ends = self.high == count - 1
        if self.kind == "range":
            return _RANGED if ends and self.low == 0 else _PERHAPS
        return _SURELY if ends else _LIKELY
