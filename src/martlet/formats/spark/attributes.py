"""The attributes that Spark's schema would give the columns of feature stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from martlet.errors import UnsupportedModel
from martlet.formats.spark.columns import Attribute, Attributes, Columns
from martlet.formats.stages.categories import number_text
from martlet.formats.stages.shaping import Elements


def index(columns: Columns, output: str, labels: Sequence[str]) -> None:
    """Note that *output* holds the places of *labels*."""
    found = Attribute(output, len(labels), tuple(labels))
    columns.describe(output, lambda: (found,))


def buckets(columns: Columns, output: str, edges: Sequence[float]) -> None:
    """Note that *output* numbers the intervals between *edges*."""
    texts = [number_text(float(edge)) for edge in edges]
    index(columns, output, [f"{low}, {high}" for low, high in pairwise(texts)])


def labels(columns: Columns, source: str) -> tuple[str, ...]:
    """Return the labels of an index column, none where they are not known."""
    found = () if columns.is_vector(source) else columns.attributes(source) or ()
    return found[0].labels if found else ()


def one_hot(columns: Columns, source: str, output: str, width: int) -> None:
    """Note the elements of *output*: named by the labels, and one more, of what is kept apart."""
    before = columns.attributes(source)

    def found() -> Attributes:
        known = before[0].labels if before else ()
        texts = [*known[:width], *["invalidValues"][: width - len(known)]]
        if not known or len(texts) != width:
            texts = [str(i) for i in range(width)]
        return tuple(Attribute(text) for text in texts)

    columns.describe(output, found)


def assembled(columns: Columns, inputs: Sequence[str], output: str) -> None:
    """Note the elements of *inputs* side by side; each goes by its column's name and its own."""
    parts = [(name, columns.is_vector(name), columns.attributes(name)) for name in inputs]
    if any(known is None for _, _, known in parts):
        return

    def found() -> Attributes:
        out: list[Attribute] = []
        for column, vector, known in parts:
            names = [
                f"{column}_{each.name or i}" if vector else column
                for i, each in enumerate(known or ())
            ]
            pairs = zip(known or (), names, strict=True)
            out += [replace(each, name=name, sparse=True) for each, name in pairs]
        return tuple(out)

    columns.describe(output, found)


def vector_indexed(
    columns: Columns,
    source: str,
    output: str,
    width: int,
    maps: Mapping[int, Mapping[float, int]],
    kept: bool,
) -> None:
    """Note which elements of *output* are indices; one of two values is 0 or 1, a number."""
    before = (columns.attributes(source) or ()) if columns.made(source) else ()
    if len(before) != width:
        before = tuple(Attribute() for _ in range(width))
    sizes = {place: len(table) + kept for place, table in maps.items()}
    found = tuple(
        replace(each, values=0 if sizes[i] == 2 else sizes[i], labels=()) if i in sizes else each
        for i, each in enumerate(before)
    )
    columns.describe(output, lambda: found)


def chosen(columns: Columns, source: str, output: str, places: Sequence[int]) -> None:
    """Note that *output* holds the elements of *source* at *places*."""
    before = columns.attributes(source)
    if before is not None and all(0 <= place < len(before) for place in places):
        columns.describe(output, lambda: tuple(before[place] for place in places))


def places(columns: Columns, source: str, names: Sequence[str], where: str) -> list[int]:
    """
    Return the places of the elements of *source* that go by *names*.

    Raises:
        UnsupportedModel: one does not: its name was in the training data's schema alone.
    """
    at = {each.name: i for i, each in enumerate(columns.attributes(source) or ())}
    missing = [name for name in names if name not in at]
    if missing:
        raise UnsupportedModel(
            f"{where} chooses {missing[0]!r} by name, and no stage before it names that element "
            f"of {source!r}: choose by indices before saving"
        )
    return [at[name] for name in names]


def elements(columns: Columns, name: str, spark: tuple[int, int]) -> Elements | None:
    """Return which elements of the vector *name* are indices of several values; None: none is."""
    known = columns.attributes(name) or ()
    if not any(each.values > 1 for each in known):
        return None
    sizes = tuple(max(1, each.values) for each in known)
    return Elements(sizes, any(each.sparse for each in known), spark)
