"""A graph cut in three: the user's part, the items' own part, and what is left for each pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
from onnx import ModelProto, ValueInfoProto, helper
from onnx.helper import np_dtype_to_tensor_dtype

from martlet.convert.rewriting.gates import fuse
from martlet.convert.rewriting.graph import Array, Graph, answer, needed, session
from martlet.convert.rewriting.lookups import Lookup
from martlet.convert.splitting.distribute import Distribution
from martlet.convert.splitting.rules import RULES
from martlet.convert.splitting.sides import Shape, Side, dtypes_of, shapes_of, sides_of
from martlet.convert.splitting.unfold import narrow, unfold
from martlet.errors import InvalidInput, UnsupportedModel
from martlet.tensors import Tensors

_ROWS = 4
_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class UserPart:
    """
    What is the same for all candidates of a request.

    Args:
        model: Its outputs are inputs of the main graph.
        inputs: The user's and context's inputs that it needs.
    """

    model: ModelProto
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ItemPart:
    """
    What depends on the item alone.

    Args:
        model: Its outputs are inputs of the main graph.
        key: The input that is the item's id.
        inputs: The item's inputs that it needs.
        shapes: Of its outputs, for one item.
    """

    model: ModelProto
    key: str
    inputs: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def width(self) -> int:
        """How many numbers are kept for an item."""
        return sum(prod(shape) for shape in self.shapes)


@dataclass(frozen=True, slots=True)
class Split:
    """
    A graph in parts.

    Args:
        main: What is left for each pair of user and item.
        user, item: The other parts; None where nothing can be computed once, or beforehand.
        multiplications: Of matrix products and gathers a row: before, and in *main* now.
        reasons: Why a part is None; a sentence each.
    """

    main: ModelProto
    user: UserPart | None
    item: ItemPart | None
    multiplications: tuple[int, int] = (0, 0)
    reasons: tuple[str, ...] = field(default=())


def split(
    model: ModelProto,
    user_inputs: Sequence[str],
    rows: Tensors,
    lookups: Sequence[Lookup] = (),
    *,
    key: str = "",
) -> Split:
    """
    Cut *model* by what its tensors depend on, as far apart as algebra takes its two sides.

    The main graph takes the user's outputs with one row for all items, or with one for each: the
    operators broadcast. All is tried on *rows*, with one user and with several, against *model*.

    Args:
        user_inputs: The user's and the context's; all others are the item's.
        rows: At least four rows that the model answers.
        lookups: As ``rewrite`` gave them: by them the item's id is known.
        key: The input that is the item's id; "" finds it: the only integer input of the item's
            part, or the one with the largest table.

    Raises:
        InvalidInput: an input that is named is none of the model's, or all of them are.
        UnsupportedModel: nothing can be parted, or the parts do not answer as the whole.
    """
    graph = Graph(model)
    _check_names(graph, user_inputs, key)
    few = _few(graph, rows)
    before = shapes_of(graph, few)
    plain = graph.copy()
    fuse(plain)
    unfold(plain, before)
    narrow(plain, before, user_inputs, rows)
    after = Distribution(plain, before, user_inputs).run(RULES)
    cutter = _Cutter(after, user_inputs, few)
    found = cutter.cut(lookups, key)
    if found.item is not None and not _row_by_row(found.item.model, few):
        reason = "an item's own part depends on which other items come with it"
        found = replace(cutter.cut(lookups, key, items=False), reasons=(*found.reasons, reason))
    _check(model, found, few, user_inputs)
    counts = _multiplications(plain, before), _multiplications_of(found.main, after, few)
    return Split(found.main, found.user, found.item, counts, found.reasons)


def catalogue_of(item: ItemPart, lookups: Sequence[Lookup]) -> dict[str, Array] | None:
    """
    Return all items where the id is all that an item is: every id that the largest table knows.

    None where the item has other inputs; their values must come from a catalogue.
    """
    mine = [each for each in lookups if each.input == item.key and each.ids.vocabulary is None]
    if item.inputs != (item.key,) or not mine:
        return None
    ids = max(mine, key=lambda each: each.ids.count).ids
    refused = {k for each in mine for k, outcome in each.ids.special.items() if outcome == "refuse"}
    known = [k for k in range(ids.first, ids.last + 1) if k not in refused]
    return {item.key: np.array(known, np.int64)}


class _Cutter:
    """Where a graph is cut: at what one side gives and a tensor of both takes."""

    def __init__(self, graph: Graph, user_inputs: Sequence[str], rows: Tensors) -> None:
        self._graph = graph
        self._user_inputs = set(user_inputs)
        self._rows = rows
        self._sides = sides_of(graph, user_inputs)
        self._shapes = shapes_of(graph, rows)
        self._producers = {name: node for node in graph.nodes for name in node.output}
        names = [name for name in self._producers if name in self._shapes]
        self._dtypes = dtypes_of(graph, rows, names)

    def cut(self, lookups: Sequence[Lookup], key: str, *, items: bool = True) -> Split:
        reasons: list[str] = []
        found = self._cuts(items=items)
        chosen = key or self._key(found[Side.ITEM], lookups)
        if found[Side.ITEM] and not chosen:
            reasons.append("no integer input is the item's id: name it")
        if not chosen:
            found = self._cuts(items=False)
        user_cuts, item_cuts = found[Side.USER], found[Side.ITEM]
        if not user_cuts:
            reasons.append("nothing is computed from the user's inputs alone")
        if not user_cuts and not item_cuts:
            raise UnsupportedModel(f"the graph cannot be split: {'; '.join(reasons)}")
        given = dict(self._graph.inputs)
        given |= {name: self._info(name) for name in (*user_cuts, *item_cuts)}
        main = self._graph.cut(given, list(self._graph.outputs))
        user = item = None
        if user_cuts:
            part = self._graph.cut(self._graph.inputs, user_cuts)
            user = UserPart(part, tuple(each.name for each in part.graph.input))
        if item_cuts:
            part = self._graph.cut(self._graph.inputs, item_cuts)
            inputs = tuple(each.name for each in part.graph.input)
            shapes = tuple(self._shapes[name][1:] for name in item_cuts)
            item = ItemPart(part, chosen, inputs, shapes)
        return Split(main, user, item, reasons=tuple(reasons))

    def _cuts(self, items: bool) -> dict[Side, list[str]]:
        found: dict[Side, dict[str, None]] = {Side.USER: {}, Side.ITEM: {}}
        seen: set[str] = set()
        wanted = [(name, True) for name in self._graph.outputs]
        while wanted:
            name, whole = wanted.pop()
            node = self._producers.get(name)
            if node is None or name in seen:
                continue
            side = self._sides[name]
            if not whole and side in found and self._may_cut(name, side, items):
                found[side][name] = None
                continue
            seen.add(name)
            # An output of one side has a row for each item all the same: it is computed here.
            alone = whole and side is not Side.CROSS
            wanted += [(each, alone) for each in needed(node)]
        return {side: list(names) for side, names in found.items()}

    def _may_cut(self, name: str, side: Side, items: bool) -> bool:
        shape, dtype = self._shapes.get(name, ()), self._dtypes.get(name, "object")
        rows = shape[:1] == (-1,) and shape.count(-1) == 1 and dtype != "object"
        return rows and (side is Side.USER or (items and dtype == "float32" and 0 not in shape))

    def _key(self, cuts: Sequence[str], lookups: Sequence[Lookup]) -> str:
        part = self._graph.cut(self._graph.inputs, list(cuts)) if cuts else ModelProto()
        names = {each.name for each in part.graph.input}
        integers = [n for n in names if self._rows[n].dtype.kind in "iu" and self._is_column(n)]
        if len(integers) == 1:
            return str(integers[0])
        mine = [each for each in lookups if each.input in integers and each.column is None]
        return max(mine, key=lambda each: each.ids.count).input if mine else ""

    def _is_column(self, name: str) -> bool:
        return prod(self._rows[name].shape[1:]) == 1

    def _info(self, name: str) -> ValueInfoProto:
        kind = np_dtype_to_tensor_dtype(np.dtype(self._dtypes[name]))
        return _info(name, kind, self._shapes[name])


def _info(name: str, kind: int, shape: Shape) -> ValueInfoProto:
    # The user's rows are one or as many as the items': their names must not be the same.
    sizes: list[Any] = [f"{name}_{i}" if size == -1 else size for i, size in enumerate(shape)]
    return helper.make_tensor_value_info(name, kind, sizes)


def _check_names(graph: Graph, user_inputs: Sequence[str], key: str) -> None:
    known = ", ".join(map(repr, graph.inputs))
    for name in (*user_inputs, *([key] if key else [])):
        if name not in graph.inputs:
            raise InvalidInput(f"the model has no input {name!r}; its inputs are {known}")
    if not user_inputs or set(user_inputs) >= set(graph.inputs):
        raise InvalidInput(f"some inputs are the user's and some the item's; they are {known}")
    if key in user_inputs:
        raise InvalidInput(f"{key!r} is named as the user's, and as the item's id")


def _few(graph: Graph, rows: Tensors) -> dict[str, Array]:
    few = {name: np.asarray(rows[name])[:_ROWS] for name in graph.inputs if name in rows}
    if len(few) < len(graph.inputs) or any(len(each) < _ROWS for each in few.values()):
        raise UnsupportedModel(f"{_ROWS} rows of every input are needed to split a graph")
    return few


def _check(model: ModelProto, found: Split, rows: Tensors, user_inputs: Sequence[str]) -> None:
    """Raise UnsupportedModel if the parts together do not answer as *model* does."""
    whole = session(model)
    one = {n: np.repeat(v[:1], len(v), 0) if n in user_inputs else v for n, v in rows.items()}
    for feed, user_rows in ((rows, _ROWS), (one, _ROWS), (one, 1)):
        expected, got = answer(whole, feed), _together(found, feed, user_rows)
        if expected is None:
            raise UnsupportedModel("the graph does not answer the rows that it is split by")
        if got is None:
            raise UnsupportedModel("the graph cannot be split: its parts do not run together")
        for a, b in zip(expected, got, strict=True):
            if a.shape != b.shape or not np.allclose(a, b, _TOLERANCE, _TOLERANCE, equal_nan=True):
                raise UnsupportedModel(
                    "the graph cannot be split: its parts do not answer as the whole "
                    f"(shape {list(b.shape)} for {list(a.shape)}, or other numbers)"
                )


def _row_by_row(part: ModelProto, rows: Tensors) -> bool:
    """Whether each row of the part's answers is the same where it comes alone."""
    opened = session(part)
    whole = answer(opened, rows)
    for row in range(_ROWS):
        alone = answer(opened, {name: value[row : row + 1] for name, value in rows.items()})
        if whole is None or alone is None:
            return False
        for a, b in zip(whole, alone, strict=True):
            if not np.allclose(a[row : row + 1], b, _TOLERANCE, _TOLERANCE, equal_nan=True):
                return False
    return True


def _together(found: Split, rows: Tensors, user_rows: int) -> list[Array] | None:
    feed = dict(rows)
    parts: list[tuple[Any, Tensors]] = []
    if found.user is not None:
        parts.append((found.user.model, {n: v[:user_rows] for n, v in rows.items()}))
    if found.item is not None:
        parts.append((found.item.model, rows))
    for part, given in parts:
        outputs = answer(session(part), given)
        if outputs is None:
            return None
        names = (each.name for each in part.graph.output)
        feed.update(zip(names, outputs, strict=True))
    return answer(session(found.main), feed)


def _multiplications_of(main: ModelProto, whole: Graph, rows: Tensors) -> int:
    shapes = shapes_of(whole, rows)
    kept = {name for node in main.graph.node for name in node.output}
    part = whole.copy()
    part.nodes = [node for node in whole.nodes if set(node.output) & kept]
    return _multiplications(part, shapes)


def _multiplications(graph: Graph, shapes: dict[str, Shape]) -> int:
    """Return how many multiplications the matrix products of *graph* take for one row."""
    total = 0
    for node in graph.nodes:
        if node.op_type not in ("MatMul", "Gemm"):
            continue
        inner = shapes.get(node.input[1], ())
        out = shapes.get(node.output[0], ())
        if len(inner) >= 2 and out:
            depth = inner[-2] if inner[-1] == out[-1] else inner[-1]
            total += abs(prod(size for size in out if size != -1)) * abs(depth)
    return total
