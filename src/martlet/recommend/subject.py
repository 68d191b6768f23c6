"""The subject: whom one request is for, and its rows in the tables, each looked up at most once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from martlet.errors import InvalidInput
from martlet.recommend.stages import Keys
from martlet.stores import Lists, Table

Unit = int | str


@dataclass(slots=True)
class Subject:
    """
    One unit and its request.

    Args:
        unit: Its key; None for somebody unknown.
        context: What the request says about it and about the moment.
        history: Items it has interacted with, oldest first, as the request gives them; None: those
            in the history tables.
        hidden: Items that sources should leave out: seen, or excluded.
    """

    unit: Unit | None
    context: Mapping[str, Any] = field(default_factory=dict)
    history: Keys | None = None
    hidden: Keys = field(default_factory=lambda: np.empty(0, np.int64))
    _rows: dict[int, int] = field(default_factory=dict)
    _histories: dict[int, Keys] = field(default_factory=dict)

    def row(self, table: Table[Any]) -> int:
        """
        Return the unit's row in *table*, -1 where it has none.

        Raises:
            InvalidInput: the unit is a number and the table has text keys, or the reverse.
        """
        if self.unit is None:
            return -1
        found = self._rows.get(id(table))
        if found is None:
            try:
                found = self._rows[id(table)] = int(table.rows_of([self.unit])[0])
            except InvalidInput:
                wanted = "whole numbers" if isinstance(self.unit, str) else "text"
                raise InvalidInput(
                    f"the key {self.unit!r} cannot be in the tables: their keys are {wanted}"
                ) from None
        return found

    def seen(self, histories: Lists) -> Keys:
        """Return the unit's history, oldest first: the request's own, else that in *histories*."""
        if self.history is not None:
            return self.history
        found = self._histories.get(id(histories))
        if found is None:
            row = np.array([self.row(histories)])
            found = self._histories[id(histories)] = histories.take(row).items
        return found

    def known_to(self, tables: Iterable[Table[Any]]) -> bool:
        """Return whether the request brings a history, or one of *tables* knows the unit."""
        if self.history is not None and len(self.history) > 0:
            return True
        return any(self.row(table) >= 0 for table in tables)
