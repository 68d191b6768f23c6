"""TrainingInstances: the values of each field that a model keeps. Source: PMML 4.4.1, KNN."""

from __future__ import annotations

import numpy as np

from martlet.formats.pmml.column import Column, of_objects
from martlet.formats.pmml.context import Context
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.frame import Frame
from martlet.formats.pmml.inline_table import column_name, inline_rows
from martlet.formats.pmml.scope import Field
from martlet.formats.pmml.values import Value, data_type, parse


def read_instances(element: Element, context: Context) -> dict[str, list[str]]:
    """Return the training instances' texts by field."""
    fields = element.need_child("InstanceFields").all("InstanceField")
    rows = inline_rows(element)
    found: dict[str, list[str]] = {}
    for each in fields:
        name = each.need("field")
        column = column_name(each, "column") if each.get("column") is not None else name
        found[name] = [row.get(column, "") for row in rows]
    return found


def training_scope(
    table: dict[str, list[str]], context: Context
) -> tuple[Frame, dict[str, Column]]:
    """Return the training instances as a batch, for the fields that are derived from them."""
    columns = {}
    rows = len(next(iter(table.values()))) if table else 0
    for name, texts in table.items():
        field = context.scope.find(name)
        kind = field.type if field is not None else data_type("string")
        columns[name] = of_objects([parse(t, kind) if t else None for t in texts], kind)
    return Frame(context.scope.world.program, rows), columns


def training_values(
    name: str,
    field: Field,
    table: dict[str, list[str]],
    raw: tuple[Frame, dict[str, Column]] | None,
    context: Context,
    element: Element,
) -> list[Value]:
    """
    Return what a field held in each training instance: as the file has it, or derived from that.

    Args:
        name: As the model calls it.
        field: Its type.
        table: What the file holds as text, by name.
        raw: The raw columns, where the file holds these instead.
        context: Of the model.
        element: Whom an error names.

    Raises:
        UnsupportedModel: the file has no such values, or of another type.
    """
    if name in table:
        try:
            return [parse(text, field.type) if text else None for text in table[name]]
        except ValueError as exc:
            raise element.error(f"has a training value of the wrong type: {exc}") from None
    if raw is None:
        raise element.error(f"has no training values of {name!r}")
    frame, columns = raw
    frame = Frame(context.scope.world.program, frame.rows)
    for slot in context.scope.world.program.raws:
        frame[slot] = np.full(frame.rows, None, dtype=object)
    for other, column in columns.items():
        known = context.scope.find(other)
        if known is not None:
            frame[known.slot] = column
    found: Column = frame[field.slot]
    return found.objects()
