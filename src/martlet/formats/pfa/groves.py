"""Finds the walks of a PFA document that ask only its cells and the input: those a forest makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from martlet.formats.pfa.grove import Gives, Grove, grow
from martlet.formats.pfa.scope import Code, Scope
from martlet.formats.pfa.types import DOUBLE, Array, Record, Type, Union

if TYPE_CHECKING:
    from martlet.formats.pfa.compiler import Compiler, Store

_WALKS = {
    "model.tree.simpleTree": (),
    "model.tree.simpleWalk": ("model.tree.simpleTest",),
    "model.tree.missingWalk": ("model.tree.missingTest",),
}
"""Each walk, and the library's own test that it may be handed."""


class Groves:
    """
    The walks of one action that are made for all rows before it runs.

    ``model.tree.simpleTree``, ``simpleWalk`` and ``missingWalk`` of the input down a tree that is
    a cell's, which nothing changes; the same for each tree of a cell's array, within ``a.map``;
    and the sum or mean of these.

    Args:
        datum: The input's type.
        symbol: The Python name of the input.
        cells: The document's cells that nothing changes.
    """

    def __init__(self, datum: Record, symbol: str, cells: Mapping[str, Store]) -> None:
        self._datum = datum
        self._symbol = symbol
        self._cells = cells
        self.made: dict[str, Grove] = {}
        """By the Python name that stands for what a row finds."""
        self._names: dict[int, str] = {}  # by the expression that it is

    def holds(self, text: str) -> bool:
        """Whether *text* is the name of the input, or of what was walked."""
        return text == self._symbol or text in self.made

    def found(
        self, c: Compiler, name: str, sources: Sequence[Any], scope: Scope, code: Code
    ) -> Code | None:
        """Return the name of what the call *name* finds, if it can be found before; else None."""
        grove = None
        if name in _WALKS:
            grove = self._one(name, sources, scope)
        elif name == "a.map" and len(sources) == 2:
            grove = self._each(sources[0], sources[1], scope, c, code.type)
        elif name in ("a.sum", "a.mean") and len(sources) == 1 and code.type == DOUBLE:
            inner = self._known(sources[0], scope)
            gives: Gives = "sum" if name == "a.sum" else "mean"
            if inner is not None and inner.gives == "each":
                for python, other in self.made.items():  # the same, asked for once more
                    if other.forest is inner.forest and other.gives == gives:
                        return Code(python, code.type)
                grove = inner.giving(gives)
        if grove is None:
            return None
        python = c.names.fresh("w")
        self.made[python] = grove
        if grove.gives == "each":
            self._names[id(sources)] = python
        return Code(python, code.type)

    def _one(self, name: str, sources: Sequence[Any], scope: Scope) -> Grove | None:
        cell = self._cell(sources[1]) if self._walks(name, sources, scope) else None
        if cell is None or not isinstance(cell.type, Record):
            return None
        return grow(self._datum, cell.type, [cell.value], name.endswith("missingWalk"))

    def _each(
        self, trees: Any, function: Any, scope: Scope, c: Compiler, given: Type
    ) -> Grove | None:
        cell = self._cell(trees)
        if cell is None or not isinstance(cell.type, Array) or not isinstance(function, dict):
            return None
        node, params, do = cell.type.items, function.get("params"), function.get("do")
        body = do[0] if isinstance(do, list) and len(do) == 1 else do
        if not (isinstance(node, Record) and isinstance(params, list) and len(params) == 1):
            return None
        if not (isinstance(body, dict) and len(body.keys() - {"@"}) == 1):
            return None
        ((name, sources),) = ((k, v) for k, v in body.items() if k != "@")
        (tree,) = params[0]
        walks = name in _WALKS and isinstance(sources, list) and sources[0] != tree
        if not walks or not self._walks(name, sources, scope) or sources[1] != tree:
            return None
        answer = _leaf(node)
        if answer is None or given != Array(answer):  # what it gives is made another type
            return None
        grove = grow(self._datum, node, cell.value, name.endswith("missingWalk"))
        return grove and grove.giving("each")

    def _walks(self, name: str, sources: Sequence[Any], scope: Scope) -> bool:
        """Whether the call is of the input, with a test that the forest knows."""
        tests = _WALKS[name]
        if len(sources) != 2 + len(tests) or not isinstance(sources[0], str):
            return False
        datum = scope.find(sources[0])
        if datum is None or datum.text != self._symbol:
            return False
        return all(is_test(test, each) for test, each in zip(tests, sources[2:], strict=True))

    def _cell(self, source: Any) -> Store | None:
        if not isinstance(source, dict) or source.keys() - {"@"} != {"cell"}:
            return None
        return self._cells.get(source["cell"])

    def _known(self, source: Any, scope: Scope) -> Grove | None:
        if isinstance(source, str):
            code = scope.find(source)
            return None if code is None else self.made.get(code.text)
        if isinstance(source, dict) and source.keys() - {"@"} == {"a.map"}:
            return self.made.get(self._names.get(id(source["a.map"]), ""))
        return None


def _leaf(node: Record) -> Type | None:
    """Return the type of what stands at the leaves of trees of *node*."""
    branch = node.fields["pass"]
    if not isinstance(branch, Union):
        return None
    rest = tuple(each for each in branch.types if each != node)
    return rest[0] if len(rest) == 1 else Union(rest)


def is_test(name: str, source: Any) -> bool:
    """Whether a function is the library's *name* of its two parameters and nothing else."""
    if source == {"fcn": name}:
        return True
    if not isinstance(source, dict) or set(source) - {"@"} != {"params", "ret", "do"}:
        return False
    names = [each for param in source["params"] for each in param]
    do = source["do"]
    body = do[0] if isinstance(do, list) and len(do) == 1 else do
    return len(names) == 2 and body == {name: names}


def changed_cells(document: Any) -> set[str]:
    """Return the names of cells that some expression of *document* changes."""
    return {str(each["cell"]) for each in _objects(document) if "cell" in each and "to" in each}


def sets_symbols(document: Any) -> bool:
    """Whether some expression of *document* sets a symbol that was declared before."""
    return any("set" in each for each in _objects(document))


def _objects(document: Any) -> list[dict[str, Any]]:
    """Every object of the document but those that cells and pools begin with."""
    found, pending = [], [document]
    while pending:
        each = pending.pop()
        if isinstance(each, dict):
            found.append(each)
            pending.extend(v for k, v in each.items() if k != "init")
        elif isinstance(each, list):
            pending.extend(each)
    return found
