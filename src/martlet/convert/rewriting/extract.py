"""Tables leave the graph for mapped files that all workers share; the graph is fed vectors."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from onnx import ModelProto, TensorProto, helper

from martlet.convert.rewriting.graph import Array, Graph
from martlet.convert.rewriting.lookups import Lookup
from martlet.formats.package.ids import REFUSE, ZERO, Ids
from martlet.formats.package.manifest import Gather
from martlet.stores.embeddings import write_embeddings

# Below this a table in the graph costs each worker less memory than a page of code, and
# onnxruntime gathers from it some 10 us sooner than Python does. See docs/decisions/0141.
THRESHOLD_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Extracted:
    """
    A graph without its large tables.

    Args:
        model: Its inputs are those of the model that it needs, and one for each gather.
        gathers: What feeds them.
        kept: Why a large table stayed; a sentence each.
    """

    model: ModelProto
    gathers: tuple[Gather, ...]
    kept: tuple[str, ...]


class Tables:
    """
    The table files of one package, each written once.

    A file's keys are the model's own ids (integers), or the words of its vocabulary. A row that
    no id stands for alone (of all unknown words) is under a key of its own.

    Args:
        folder: The package.
        generation: Of what was trained together; every file carries it.
    """

    def __init__(self, folder: Path, generation: str = "") -> None:
        self._folder = folder
        self._generation = generation
        self._files: dict[tuple[str, str], str] = {}

    def file_of(self, lookup: Lookup, table: Array) -> str:
        """
        Return the file that holds *table* under the ids of *lookup*, relative to the package.

        Raises:
            NotAvailable: the disk is full, or refuses.
        """
        key = lookup.table, str(lookup.ids.to_json())
        if key not in self._files:
            name = _file_name(lookup.input, self._files.values())
            (self._folder / "tables").mkdir(parents=True, exist_ok=True)
            write_embeddings(
                self._folder / name,
                _keys(lookup.ids),
                _vectors(lookup.ids, table),
                generation=self._generation,
            )
            self._files[key] = name
        return self._files[key]


def extract(
    model: ModelProto,
    lookups: Sequence[Lookup],
    tables: Tables,
    *,
    threshold_bytes: int | None = None,
) -> Extracted:
    """
    Write the tables of *lookups* to files, and return the graph that is fed from them.

    Args:
        model: As ``rewrite`` gave it, or a part of that.
        lookups: As ``rewrite`` gave them; those that are not in *model* are passed over.
        tables: Where the tables go.
        threshold_bytes: Smaller tables stay in the graph; None: THRESHOLD_BYTES.

    Raises:
        NotAvailable: the disk is full, or refuses.
    """
    least = THRESHOLD_BYTES if threshold_bytes is None else threshold_bytes
    graph = Graph(model)
    live = graph.live()
    inputs = dict(graph.inputs)
    gathers: list[Gather] = []
    kept: list[str] = []
    for lookup in lookups:
        if lookup.vectors not in live or lookup.input not in graph.inputs:
            continue
        table = _table_of(graph, lookup)
        if table.nbytes < least:
            continue
        reason = _why_not(graph, lookup)
        if reason:
            kept.append(f"{lookup} stays in the graph: {reason}")
            continue
        file = tables.file_of(lookup, table)
        gathers.append(Gather(file, lookup.input, lookup.column, lookup.ids, lookup.vectors))
        inputs[lookup.vectors] = _vectors_info(graph, lookup)
    found = graph.cut(inputs, list(graph.outputs))
    return Extracted(found, tuple(gathers), tuple(kept))


def _why_not(graph: Graph, lookup: Lookup) -> str:
    inside = [
        key
        for key, outcome in lookup.ids.special.items()
        if outcome == REFUSE
        and lookup.ids.vocabulary is None
        and lookup.ids.first <= key <= lookup.ids.last
    ]
    if inside:
        return f"the model refuses the id {inside[0]}, which has a row"
    if graph.inputs[lookup.input].type.tensor_type.elem_type in (
        TensorProto.FLOAT,
        TensorProto.DOUBLE,
    ):
        return "its ids come as floats"
    return ""


def _file_name(input_name: str, taken: Collection[str]) -> str:
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", input_name).strip("._") or "table"
    names = (f"tables/{plain}{f'_{i}' if i > 1 else ''}.table" for i in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


def _table_of(graph: Graph, lookup: Lookup) -> Array:
    """Return the table's own rows, whichever of its copies the graph still has."""
    producer = next(node for node in graph.nodes if lookup.vectors in node.output)
    array = graph.array(producer.input[0])
    if len(array) == lookup.ids.count:
        return array
    return array[1:] if producer.input[0].endswith("/zeros_first") else array[:-1]


def _keys(ids: Ids) -> Any:
    if ids.vocabulary is None:
        return np.arange(ids.first, ids.first + ids.count, dtype=np.int64)
    by_row: dict[int, Any] = {}
    for key, row in ids.vocabulary.items():
        by_row.setdefault(row, key)
    text = isinstance(next(iter(ids.vocabulary)), str)
    lowest = 0 if text else min(0, *ids.vocabulary)
    keys = [
        by_row.get(row, f"[row {row}]" if text else lowest - 1 - row) for row in range(ids.count)
    ]
    return keys if text else np.array(keys, np.int64)


def _vectors(ids: Ids, table: Array) -> Array:
    """Return *table* with the vectors that its ids get: zeros for one that the model masks."""
    found = np.array(table, np.float32)
    if ids.vocabulary is None:
        for key, outcome in ids.special.items():
            if ids.first <= key <= ids.last:
                found[key - ids.first] = 0 if outcome == ZERO else table[int(outcome)]
    return found


def _vectors_info(graph: Graph, lookup: Lookup) -> Any:
    given = graph.inputs[lookup.input].type.tensor_type
    if not given.HasField("shape") and lookup.column is None:
        return helper.make_tensor_value_info(lookup.vectors, TensorProto.FLOAT, None)
    sizes: list[int | str] = [each.dim_value or each.dim_param or "n" for each in given.shape.dim]
    if lookup.column is not None:
        sizes = sizes[:1]
    dim = _table_of(graph, lookup).shape[1]
    return helper.make_tensor_value_info(
        lookup.vectors, TensorProto.FLOAT, ["rows", *sizes[1:], dim]
    )
