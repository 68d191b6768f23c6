"""Embedding lookups, found by running the graph, become plain gathers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from martlet.convert.rewriting.graph import Array, Graph, answer, session
from martlet.convert.rewriting.guards import guard
from martlet.convert.rewriting.lookups import BAGS, ZEROS, Lookup, nodes_of
from martlet.convert.rewriting.region import Region, regions
from martlet.convert.rewriting.simplify import simplify
from martlet.convert.rewriting.treatment import STRANGE, Refuses, Treatment, scales
from martlet.errors import InvalidInput, MartletError, ServableFailed, UnsupportedModel
from martlet.formats.package.ids import REFUSE, Ids
from martlet.servable import DEFAULT_SIGNATURE, Servable
from martlet.tensors import Tensors

# A gather and what it stands for are compared on so many ids, which were all asked before.
_EVERY: Final = 200_000
_CHUNK: Final = 4096
_BAG_TOLERANCE: Final = 2e-6
_MOST_WORDS: Final = 4096


@dataclass(frozen=True, slots=True)
class Rewritten:
    """
    A model whose lookups are plain.

    Args:
        model: With the same inputs and outputs.
        lookups: All that were found and proven.
        kept: Why a table's use was left as it was; a sentence each.
        guarded: How many other gathers refuse ids below zero again, as the original does.
    """

    model: ModelProto
    lookups: tuple[Lookup, ...]
    kept: tuple[str, ...]
    guarded: int = 0


def rewrite(
    model: ModelProto,
    probes: Sequence[Tensors],
    original: Servable | None = None,
    signature_name: str = DEFAULT_SIGNATURE,
    seed: int = 0,
) -> Rewritten:
    """
    Return *model* with its embedding lookups as plain gathers, each proven by execution.

    Operators are not matched. For each table (a constant [rows, dim]) and each input, the
    tensors that depend on these two alone are run, on every id of the table and on ids at and
    beyond its ends; where one holds ``table[id]``, or the sum, mean, sqrtn or maximum of a bag
    of them, a gather takes its place. It is kept if both give the same for random batches with
    known, unknown and repeated ids: bit for bit, a bag's sums to 2e-6. What depends on a word
    alone becomes a table of what each word gives, and some slow operators become others.

    Args:
        model: Its rows are the first axis of every input.
        probes: Inputs that the model answers; the first row of the first is the ground on which
            one input at a time is varied.
        original: The model in its own library. Where it refuses an id that *model* answers (a
            converter loses assertions), so does the lookup.
        signature_name: Of the original.
        seed: Of the random ids.

    Raises:
        UnsupportedModel: the model does not load, or answers none of the probes.
    """
    graph = Graph(model)
    base = _base(model, probes)
    refuses = _asks(original, signature_name)
    found: list[Lookup] = []
    kept: list[str] = []
    tried: set[tuple[str, str]] = set()
    while True:
        tables = [name for name in graph.constants if _is_table(graph, name)]
        taken = {each.gives for each in found} | {each.vectors for each in found}
        todo = [
            (table, name, left)
            for table, name, tensors in regions(graph, tables, base)
            if (table, name) not in tried and (left := [t for t in tensors if t not in taken])
        ]
        if not todo:
            break
        table, name, tensors = todo[0]
        tried.add((table, name))
        graph, more, reason = _use(graph, Region(graph, table, name, tensors, base), refuses, seed)
        found += more
        if reason:
            kept.append(f"{table}[{name}] stays as it is: {reason}")
    graph, more = _tabulated(graph, base, seed)
    guarded = guard(graph, base, refuses, {each.vectors for each in (*found, *more)})
    simplify(graph)
    return Rewritten(graph.model(), (*found, *more), tuple(kept), guarded)


def _tabulated(graph: Graph, base: Tensors, seed: int) -> tuple[Graph, list[Lookup]]:
    """
    Replace what depends on a word alone by a table of what it is for each word.

    Indicator columns become it: a one-hot vector is a row of the identity.
    """
    found: list[Lookup] = []
    for name, info in graph.inputs.items():
        if info.type.tensor_type.elem_type != TensorProto.STRING or name not in base:
            continue
        taken = {name} | {each.gives for each in found} | _plain_gathers(graph)
        sources, live = graph.sources(), graph.live()
        for tensor in reversed(sources):
            used = sources[tensor]
            # What a weight or a table is in is left to who may change its rows.
            one = used.inputs == {name} and not any(_is_matrix(graph, c) for c in used.constants)
            if not one or tensor in taken or tensor not in live or tensor not in graph.live():
                continue
            table = _tabulate(graph, name, tensor, base)
            if table is None:
                continue
            trial = graph.copy()
            constant = trial.constant(table[0], f"table_of_{name}")
            region = Region(trial, constant, name, [tensor], base)
            made = _put(trial, region, Lookup(constant, name, None, "", table[1], "", tensor), seed)
            if isinstance(made, Lookup):
                graph = trial
                found.append(made)
    return graph, found


def _plain_gathers(graph: Graph) -> set[str]:
    return {
        name
        for node in graph.nodes
        if node.op_type == "Gather" and node.input[0] in graph.constants
        for name in node.output
    }


def _tabulate(graph: Graph, name: str, tensor: str, base: Tensors) -> tuple[Array, Ids] | None:
    """Return what *tensor* is for each word that its part names, and for all others."""
    region = Region(graph, "", name, [tensor], base)
    words = region.constants_of_ids()
    strange = [each for each in STRANGE if each not in words]
    if region.length != 1 or not 2 <= len(words) <= _MOST_WORDS:
        return None
    found = region.run(region.same([*words, *strange]))
    if found is None or found[tensor].dtype != np.float32 or found[tensor].ndim != 2:
        return None
    rows = found[tensor]
    unknown = rows[len(words) :]
    if len(rows) != len(words) + len(strange) or not (unknown == unknown[:1]).all():
        return None
    vocabulary = {word: row for row, word in enumerate(words)}
    return rows[: len(words) + 1], Ids(len(words) + 1, 0, vocabulary, len(words), len(words))


def _use(
    graph: Graph, region: Region, refuses: Refuses, seed: int
) -> tuple[Graph, list[Lookup], str]:
    """Replace what can be replaced of one table's use with one input."""
    treatment = Treatment(region, refuses, seed)
    found: list[Lookup] = []
    reason = "no tensor holds rows of the table"
    # The last that holds vectors of the table leaves least of the tangle behind.
    for tensor in reversed(region.tensors):
        if found and tensor not in graph.live():
            continue
        for scale in scales(region.length):
            ids = treatment.ids(tensor, scale)
            asked = 0
            if isinstance(ids, Ids):
                ids, asked = treatment.each(ids, tensor, scale)
            if isinstance(ids, str):
                continue
            lookup = _form(region, tensor, ids, scale, seed)
            if isinstance(lookup, str):
                reason = lookup
                continue
            trial = graph.copy()
            lookup = _put(trial, region, lookup, seed)
            if isinstance(lookup, str):
                reason = lookup
                continue
            graph, reason = trial, ""
            found.append(replace(lookup, asked=asked))
            break
        if found and not _still_used(graph, region):
            break
    return graph, found, reason if not found else ""


def _still_used(graph: Graph, region: Region) -> bool:
    live = graph.live()
    return any(each in live for each in region.tensors)


def _form(region: Region, tensor: str, ids: Ids, scale: float, seed: int) -> Lookup | str:
    """Return *tensor* as a lookup: of each id, of one column, or of a bag."""
    table = Lookup(region.table, region.name, None, "", ids, "", tensor)
    if region.length == 1:
        return table
    keys, rows = ids.known
    random = np.random.default_rng(seed)
    chosen = random.integers(0, len(keys), (16, region.length))
    found = region.run(keys[chosen])
    held = None if found is None else region.rows(found[tensor], len(chosen))
    if held is None:
        return "it is refused for ids that it takes one by one"
    vectors = region.vectors[rows[chosen]]
    if held.shape == vectors.shape:
        return table if np.array_equal(held, vectors) else "its vectors are not in the ids' order"
    for column in range(region.length):
        if scale == 1 and np.array_equal(held[:, 0], vectors[:, column]):
            return replace(table, column=column)
    bags = {
        "sum": vectors.sum(axis=1),
        "mean": vectors.mean(axis=1),
        "sqrtn": vectors.sum(axis=1) / np.sqrt(region.length),
        "max": vectors.max(axis=1),
    }
    for bag in BAGS:
        if np.allclose(held[:, 0], bags[bag], _BAG_TOLERANCE, _BAG_TOLERANCE):
            return replace(table, bag=bag)
    return "its rows are combined in a way that is not a sum, mean or maximum"


def _put(graph: Graph, region: Region, lookup: Lookup, seed: int) -> Lookup | str:
    """Put *lookup* into *graph*; why not, where the two do not answer alike."""
    tensor = lookup.gives
    shape = _shape(region, lookup)
    if isinstance(shape, str):
        return shape
    nodes, lookup = nodes_of(graph, lookup, shape)
    graph.replace(tensor, nodes)
    try:
        replaced = session(graph.cut(graph.inputs, [tensor]))
    except UnsupportedModel as exc:
        return str(exc)
    exact = not lookup.bag
    for batch in _batches(region, lookup.ids, seed):
        before = region.run(batch)
        after = answer(replaced, region.feed(batch))
        if before is None:
            continue  # as Treatment asked each id: refused by accident, or by both
        if after is None:
            if all(lookup.ids.outcome(key) != REFUSE for key in batch.ravel().tolist()):
                return "a gather refuses what the model answers"
            continue
        if not _equal(before[tensor], after[0], exact):
            return "a gather answers otherwise for some batch of ids"
    return lookup


def _shape(region: Region, lookup: Lookup) -> tuple[int, ...] | str | None:
    """Return the shape to give the vectors, None where they have it already."""
    keys, _ = lookup.ids.known
    shapes = []
    for n in (2, 3):
        found = region.run(region.same([keys[0]] * n))
        if found is None:
            return "it is refused for ids that it takes one by one"
        shapes.append(found[lookup.gives].shape)
    two, three = shapes
    if len(two) != len(three):
        return "its rank depends on the rows"
    given = region.base[region.name].shape if lookup.column is None and not lookup.bag else (1,)
    if two == (2, *given[1:], region.vectors.shape[1]):
        return None
    shape = tuple(a if a == b else -1 for a, b in zip(two, three, strict=True))
    return shape if shape.count(-1) == 1 else "its shape does not go with the rows"


def _batches(region: Region, ids: Ids, seed: int) -> list[NDArray[Any]]:
    """Return batches that try every id, and random ones of all kinds together."""
    random = np.random.default_rng(seed + 1)
    keys, _ = ids.known
    if len(keys) > _EVERY:
        some = random.integers(0, len(keys), _EVERY)
        keys = keys[np.unique(np.concatenate([some, [0, len(keys) - 1]]))]
    step = max(1, _CHUNK // region.length)
    batches = [region.same(keys[i : i + step].tolist()) for i in range(0, len(keys), step)]
    odd = [key for key, outcome in ids.special.items() if outcome != REFUSE]
    if ids.vocabulary is not None:
        odd += ["martlet: another", "", "~"] if region.is_text else []
    else:
        odd += [ids.first - 1, ids.first - 2, ids.last + 1, ids.last + 2, 5 * ids.last + 11]
    odd = [key for key in odd if ids.outcome(key) != REFUSE]
    everything = np.array([*keys[:: max(1, len(keys) // 64)].tolist(), *odd * 4], object)
    for n in (1, 2, 7, 64, 300):
        batches.append(everything[random.integers(0, len(everything), (n, region.length))])
        batches.append(keys[random.integers(0, len(keys), (n, region.length))])
    batches += [region.same([key, keys[0]]) for key in odd]
    return batches


def _equal(one: Array, other: Array, exact: bool) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if exact:
        return bool(np.array_equal(one, other, equal_nan=True))
    return bool(np.allclose(one, other, _BAG_TOLERANCE, _BAG_TOLERANCE, equal_nan=True))


def _is_table(graph: Graph, name: str) -> bool:
    shape = graph.constants[name].dims
    if len(shape) != 2 or shape[0] < 2 or shape[1] < 1 or name.endswith(ZEROS):
        return False
    array = graph.array(name)
    return bool(array.dtype == np.float32 and np.isfinite(array).all())


def _is_matrix(graph: Graph, name: str) -> bool:
    constant = graph.constants[name]
    return len(constant.dims) == 2 and constant.data_type == TensorProto.FLOAT


def _base(model: ModelProto, probes: Sequence[Tensors]) -> dict[str, Array]:
    opened = session(model)
    wanted = {each.name for each in opened.get_inputs()}
    for probe in probes:
        row = {name: np.asarray(value)[:1] for name, value in probe.items()}
        if wanted <= row.keys() and answer(opened, row) is not None:
            return row
    raise UnsupportedModel("the graph answers none of the probes' first rows")


def _asks(original: Servable | None, signature_name: str) -> Refuses:
    def refuses(feed: Any) -> bool:
        if original is None:
            return False
        wanted = original.signatures[signature_name].inputs
        try:
            original.predict({k: v for k, v in feed.items() if k in wanted}, signature_name)
        except (InvalidInput, ServableFailed):
            return True
        except MartletError:
            return False
        return False

    return refuses
