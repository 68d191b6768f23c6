"""Which rows of a batch a model still asks for fields, while it reads them one by one."""

from __future__ import annotations

from dataclasses import dataclass

from martlet.formats.pmml.column import Column, Mask, Reasons, first, kept


@dataclass(slots=True)
class Asked:
    """
    What the fields that were asked for so far have said.

    A row that lacks a number has no answer, whatever else it holds: no further field is asked
    of it, and what that would have failed with does not count. So one record behaves, which
    stops where it lacks something.
    """

    errors: Reasons | None = None
    _done: Mask | None = None

    def takes(self, column: Column, where: Mask | None = None) -> Column:
        """Note the failures of *column* (of the rows *where* it is asked); missing is no lack."""
        if column.errors is not None:
            own = column.errors
            if self._done is not None:
                own = kept(own, ~self._done)
            if where is not None:
                own = kept(own, where)
            self.errors = first(self.errors, own)
        return column

    def needs(self, column: Column, where: Mask | None = None) -> Column:
        """Note the failures of *column*, then the rows that lack its value."""
        self.takes(column, where)
        if column.missing is not None:
            lacking = column.missing if where is None else column.missing & where
            self._done = lacking if self._done is None else self._done | lacking
        return column
