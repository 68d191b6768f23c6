"""InlineTable: rows of cells written in the file. Source: PMML 4.4.1, Taxonomy, "InlineTable"."""

from __future__ import annotations

from martlet.formats.pmml.document import Element


def inline_rows(element: Element) -> list[dict[str, str]]:
    """
    Return the rows of *element*'s InlineTable as texts by column.

    Raises:
        UnsupportedModel: the table is elsewhere (a TableLocator).
    """
    table = element.child("InlineTable")
    if table is None:
        raise element.error("needs an InlineTable; tables outside the file are not read")
    return [{cell.tag: cell.text for cell in row.children} for row in table.all("row")]


def column_name(element: Element, name: str) -> str:
    """Return the attribute *name*, a column of an InlineTable, without its namespace prefix."""
    return element.need(name).rpartition(":")[2]
