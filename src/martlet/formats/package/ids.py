"""Which row of a table an id stands for, the model's own treatment of unknown ids included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from martlet.errors import InvalidInput

Rows = NDArray[np.int64]

REFUSE: Final = "refuse"
ZERO: Final = "zero"
WRAP: Final = "wrap"
MODULO: Final = "modulo"

Outcome = int | str
"""How an id without a row is treated: REFUSE; ZERO, a vector of zeros; WRAP, -1 is the last row
(for ids below the first only, as far as there are rows); MODULO, the id modulo the rows; or a
row."""


@dataclass(frozen=True, slots=True)
class Ids:
    """
    How a model turns ids into rows.

    Without a vocabulary an id from ``first`` to ``last`` stands for row ``id - first``. With one,
    each of its keys stands for its own row.

    Args:
        count: How many rows the table has.
        first: The id of row 0; not used with a vocabulary.
        vocabulary: The row of each key, all integers or all text.
        below: How integers below ``first`` are treated; with a vocabulary, all unknown keys.
        above: How integers above ``last`` are treated.
        special: Ids that are treated differently from their neighbours: a row, ZERO or REFUSE.
    """

    count: int
    first: int = 0
    vocabulary: Mapping[Any, int] | None = None
    below: Outcome = REFUSE
    above: Outcome = REFUSE
    special: Mapping[Any, Outcome] = field(default_factory=dict)

    @property
    def last(self) -> int:
        """The id of the last row."""
        return self.first + self.count - 1

    @property
    def outcomes(self) -> set[Outcome]:
        """All that can become of an id without a row."""
        ends = {self.below} if self.vocabulary is not None else {self.below, self.above}
        return ends | set(self.special.values())

    @property
    def known(self) -> tuple[NDArray[Any], Rows]:
        """The ids that have rows of their own, and these."""
        if self.vocabulary is not None:
            keys = np.empty(len(self.vocabulary), object)
            keys[:] = list(self.vocabulary)
            return keys, np.array(list(self.vocabulary.values()), np.int64)
        whole = np.arange(self.count, dtype=np.int64)
        special = [key - self.first for key in self.special if self.first <= key <= self.last]
        rows = np.delete(whole, special)
        return rows + self.first, rows

    def resolve(self, name: str, ids: NDArray[Any], rows: Rows) -> Rows:
        """
        Return *rows*, where -1 stands for an unknown id, with what the model takes for those ids.

        Args:
            name: Of the input, for the message.
            ids: As they came, integers or text. Shape [n].
            rows: Of those ids that have one; -1 elsewhere. Shape [n]; not changed.

        Raises:
            InvalidInput: the model refuses one of *ids*; names the input and the range it takes.
        """
        unknown = np.flatnonzero(rows < 0)
        found = rows.copy()
        if self.vocabulary is None and not self.special and self.below == self.above:
            if self.below == ZERO:
                return found
            if self.below == MODULO:
                found[unknown] = (ids[unknown].astype(np.int64) - self.first) % self.count
                return found
        for at in unknown.tolist():
            key = _plain(ids[at])
            outcome = self.outcome(key)
            if outcome == REFUSE:
                raise InvalidInput(f"input {name!r} holds {key!r}; {self}")
            found[at] = -1 if outcome == ZERO else int(outcome)
        return found

    def demand(self, name: str, ids: NDArray[Any]) -> None:
        """
        Raises:
            InvalidInput: the model refuses one of *ids*; as ``resolve``.
        """
        for each in ids.reshape(-1):
            if self.outcome(_plain(each)) == REFUSE:
                raise InvalidInput(f"input {name!r} holds {_plain(each)!r}; {self}")

    def outcome(self, key: Any) -> Outcome:
        """Return the row of a *key*, or ZERO or REFUSE."""
        if key in self.special:
            return self.special[key]
        if self.vocabulary is not None:
            return self.vocabulary.get(key, self.below)
        row = int(key) - self.first
        if 0 <= row < self.count:
            return row
        outcome = self.below if row < 0 else self.above
        if outcome == MODULO:
            return row % self.count
        if outcome == WRAP:
            return row + self.count if row >= -self.count else REFUSE
        return outcome

    def __str__(self) -> str:
        if self.vocabulary is not None:
            kind = "texts" if any(isinstance(k, str) for k in self.vocabulary) else "ids"
            return f"the model knows {len(self.vocabulary)} {kind} and refuses others"
        lowest = self.first - self.count if self.below == WRAP else self.first
        also = [str(k) for k, outcome in self.special.items() if outcome != REFUSE]
        return f"the model takes ids from {lowest} to {self.last}" + "".join(
            f" and {each}" for each in also
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as the manifest has it."""
        pairs = None if self.vocabulary is None else [*map(list, self.vocabulary.items())]
        return {
            "count": self.count,
            "first": self.first,
            "vocabulary": pairs,
            "below": self.below,
            "above": self.above,
            "special": [*map(list, self.special.items())],
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Ids:
        """Read what ``to_json`` gave."""
        pairs = told["vocabulary"]
        return cls(
            count=int(told["count"]),
            first=int(told["first"]),
            vocabulary=None if pairs is None else dict(map(tuple, pairs)),
            below=told["below"],
            above=told["above"],
            special=dict(map(tuple, told["special"])),
        )


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.item() if isinstance(value, np.generic) else value
