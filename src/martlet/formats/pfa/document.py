"""A PFA document: compiled, and kept as an engine with its state."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any

from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats.pfa.avrojson import reader
from martlet.formats.pfa.compiler import Compiler, Store, UserFunction
from martlet.formats.pfa.failure import Failure
from martlet.formats.pfa.grove import Grove
from martlet.formats.pfa.groves import Groves, changed_cells, sets_symbols
from martlet.formats.pfa.parsing import parse
from martlet.formats.pfa.scope import Code, Lines, Names, Scope, compiled, render
from martlet.formats.pfa.types import INT, LONG, NULL, STRING, Map, Record, Type, Types

_MAX_DEPTH = 900
_DEFAULT_TIMEOUT_S = 30.0


@dataclass(slots=True)
class Engine:
    """
    A compiled document and its state.

    Args:
        input, output: Their types.
        method: ``map``, ``emit`` or ``fold``.
        stateful: Whether an answer may depend on what came before it.
        act: From an input, and what the groves found for it, to the output; after ``begin``.
        emitted: What the action has emitted since it was emptied last.
        finish: Runs ``end``.
        groves: What is walked for all rows before the first of them is acted on.
        reads_input: Whether the action asks for more of the input than that.
        bare: Whether the action is what its only grove finds, and nothing else.
    """

    input: Type
    output: Type
    method: str
    stateful: bool
    act: Callable[..., Any]
    finish: Callable[[], None]
    groves: tuple[Grove, ...] = ()
    reads_input: bool = True
    bare: bool = False
    emitted: list[Any] = field(default_factory=list)
    lock: RLock = field(default_factory=RLock)


class _Clock:
    """Raises when an action has run past its time; loops ask it on every turn."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._end = time.monotonic() + limit_s

    def start(self) -> None:
        self._end = time.monotonic() + self.limit_s

    def __call__(self) -> None:
        if time.monotonic() > self._end:
            raise Failure(None, f"the action ran longer than {self.limit_s} s")


def engine(path: Path) -> Engine:
    """
    Compile the document at *path* and run its ``begin``.

    Raises:
        UnsupportedModel: it is broken, or uses what is not supported; says where in it.
    """
    source = parse(path)
    builder = _Builder(source)
    try:
        return builder.build()
    except (UnsupportedModel, InvalidInput) as exc:
        raise UnsupportedModel(f"{path}: {builder.told(str(exc))}") from None
    except Failure as exc:
        raise UnsupportedModel(f"{path}: its begin failed: {exc}") from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as exc:
        what = f"{exc} is missing" if isinstance(exc, KeyError) else str(exc)
        raise UnsupportedModel(
            f"{path} is no PFA document that compiles: {builder.told(what)}"
        ) from exc


class _Builder:
    def __init__(self, source: Mapping[str, Any]) -> None:
        self.source = source
        self.types = Types()
        self.names = Names()
        self.lines: Lines = []
        self.clock = _Clock(_DEFAULT_TIMEOUT_S)
        self.compiler = Compiler(self.types, self.names, self.names.constant(self.clock))
        self.input: Type = NULL
        self.output: Type = NULL
        self.walks: tuple[Grove, ...] = ()
        self.reads_input, self.bare = True, False
        self.method = str(source.get("method", "map"))

    def told(self, reason: str) -> str:
        """Return *reason* with the place in the document, where it does not say that itself."""
        at = self.compiler.failed_at
        return f"PFA at {at}: {reason}" if at and not reason.startswith("PFA at") else reason

    def _head(self) -> None:
        """Read what the document declares: its types, its method, its options."""
        source = self.source
        for name in ("input", "output", "action"):
            if name not in source:
                raise UnsupportedModel(f"a PFA document has {name!r}; this one has not")
        if self.method not in ("map", "emit", "fold"):
            raise UnsupportedModel(f"the method {self.method!r} is not map, emit or fold")
        limit = (source.get("options") or {}).get("timeout")
        if limit:
            self.clock.limit_s = limit / 1000.0
        self._declare(source)
        with self.compiler.at("input"):
            self.input = self.types.read(source["input"])
        with self.compiler.at("output"):
            self.output = self.types.read(source["output"])

    def _declare(self, source: Any) -> None:
        """Read every type that the document defines, wherever it stands: enums and fixed first."""
        found: list[tuple[str, Any]] = []
        pending: list[tuple[Any, int]] = [(source, 0)]
        while pending:
            each, depth = pending.pop()
            if depth > _MAX_DEPTH:
                raise UnsupportedModel("the document is nested too deeply")
            if isinstance(each, dict):
                kind = each.get("type")
                if kind in ("record", "enum", "fixed") and "name" in each:
                    found.append((kind, each))
                # What a cell begins with is data: it defines no type.
                pending.extend(
                    (v, depth + 1) for k, v in each.items() if k not in ("init", "value")
                )
            elif isinstance(each, list):
                pending.extend((v, depth + 1) for v in each)
        for kind, each in sorted(found, key=lambda pair: pair[0] == "record"):
            if kind != "record" or "fields" in each:
                self.types.read(each)

    def build(self) -> Engine:
        """Compile the document, and run its ``begin``."""
        self._head()
        source, compiler = self.source, self.compiler
        state = self._state()
        emitted: list[Any] = []
        if self.method == "emit":
            name = self.names.constant(emitted.append)
            compiler.emit = UserFunction(name, [("output", self.output)], NULL)
        top = self._symbols()
        self._functions()
        result = self.output if self.method != "emit" else None
        self._define("begin", source.get("begin"), [], None, top)
        params = [("input", self.input)]
        if self.method == "fold":
            params.append(("tally", self.output))
            merge = source.get("merge")
            if merge is None:
                raise UnsupportedModel("a fold engine has a merge; this one has not")
            two = [("tallyOne", self.output), ("tallyTwo", self.output)]
            self._define("merge", merge, two, self.output, top)
        self._define("action", source["action"], params, result, top)
        self._define("end", source.get("end"), params[1:], None, top)
        self.types.check()
        space = compiled(render(self.lines), {**self.names.bound, **state})
        return self._engine(space, state, emitted)

    def _state(self) -> dict[str, Any]:
        """Read what cells and pools begin with; ``C`` and ``P`` are what the Python calls them."""
        state: dict[str, Any] = {"C": [], "P": []}
        for kind, letter, stores in (
            ("cells", "C", self.compiler.cells),
            ("pools", "P", self.compiler.pools),
        ):
            for name, each in (self.source.get(kind) or {}).items():
                with self.compiler.at(kind, name):
                    if each.get("source", "embedded") not in ("embedded", "json"):
                        raise UnsupportedModel(
                            f"the {kind[:-1]} {name!r} lies elsewhere; only what is in the "
                            "document is read"
                        )
                    of = self.types.read(each["type"])
                    whole = of if letter == "C" else Map(of)
                    value = _initial(kind, name, whole, each.get("init", {}))
                    stores[name] = Store(f"{letter}[{len(state[letter])}]", of, value)
                    state[letter].append(value)
        return state

    def _symbols(self) -> Scope:
        """The symbols that every block may read."""
        top = Scope(sealed=True)
        source = self.source
        top.symbols["name"] = Code(self.names.constant(str(source.get("name", "Engine_1"))), STRING)
        top.symbols["instance"] = Code("0", INT)
        if "version" in source:
            top.symbols["version"] = Code(str(int(source["version"])), INT)
        metadata = {str(k): str(v) for k, v in (source.get("metadata") or {}).items()}
        top.symbols["metadata"] = Code(self.names.constant(metadata), Map(STRING))
        return top

    def _functions(self) -> None:
        compiler = self.compiler
        sources = self.source.get("fcns") or {}
        for name, each in sources.items():
            with compiler.at("fcns", name):
                compiler.users[name] = UserFunction(
                    self.names.fresh("u"), compiler.parameters(each), self.types.read(each["ret"])
                )
        for name, each in sources.items():
            user = compiler.users[name]
            with compiler.at("fcns", name):
                compiler.define(user.name, user.params, user.result, each["do"], None, self.lines)

    def _define(
        self,
        name: str,
        body: Any,
        params: list[tuple[str, Type]],
        result: Type | None,
        top: Scope,
    ) -> None:
        if body is None:
            return
        scope = Scope(top, sealed=True)
        python = ["s", "n"]
        if name in ("action", "end"):
            scope.symbols["actionsStarted"] = Code("s", LONG)
            scope.symbols["actionsFinished"] = Code("n", LONG)
        for param, of in params:
            python.append(self.names.fresh())
            scope.symbols[param] = Code(python[-1], of)
        own: Lines = []
        if name == "action":
            self.compiler.groves = self._groves(scope.symbols["input"].text)
        with self.compiler.at(name):
            code = self.compiler.block(body, scope, own)
            if result is None:
                own.append(f"return {code.text}")
            else:
                own.append(f"return {self.compiler.want(code, result, f'what the {name} gives')}")
        if name == "action":
            python += self._walked(scope.symbols["input"].text, own)
        self.lines.extend([f"def {name}({', '.join(python)}):", own])

    def _groves(self, symbol: str) -> Groves | None:
        if not isinstance(self.input, Record) or sets_symbols(self.source):
            return None
        changed = changed_cells(self.source)
        steady = {n: each for n, each in self.compiler.cells.items() if n not in changed}
        return Groves(self.input, symbol, steady)

    def _walked(self, symbol: str, action: Lines) -> list[str]:
        """Note what the action makes of the groves; return the names that it asks for."""
        groves, self.compiler.groves = self.compiler.groves, None
        if groves is None:
            return []
        words = set(re.findall(r"\w+", render(action)))
        used = [name for name in groves.made if name in words]
        self.walks = tuple(groves.made[name] for name in used)
        self.reads_input = symbol in words
        self.bare = len(used) == 1 and action == [f"return {used[0]}"]
        return used

    def _engine(
        self, space: Mapping[str, Any], state: dict[str, Any], emitted: list[Any]
    ) -> Engine:
        action, clock = space["action"], self.clock
        rollback = any(
            each.get("rollback")
            for kind in ("cells", "pools")
            for each in (self.source.get(kind) or {}).values()
        )
        counts = [0, 0]
        fold = self.method == "fold"
        zero = reader(self.output)(self.source.get("zero")) if fold else None
        tally = [zero]
        counted = _mentions(self.source, ("actionsStarted", "actionsFinished"))
        stateful = fold or self.method == "emit" or self.compiler.changes or counted
        cells, pools = state["C"], state["P"]

        def act(value: Any, *walked: Any) -> Any:
            clock.start()
            if not stateful:
                return action(0, 0, value, *walked)
            counts[0] += 1
            kept = (list(cells), [dict(each) for each in pools]) if rollback else None
            try:
                if fold:
                    tally[0] = action(counts[0], counts[1], value, tally[0], *walked)
                    found = tally[0]
                else:
                    found = action(counts[0], counts[1], value, *walked)
            except BaseException:
                if kept is not None:
                    cells[:] = kept[0]
                    for pool, was in zip(pools, kept[1], strict=True):
                        pool.clear()
                        pool.update(was)
                raise
            counts[1] += 1
            return found

        def finish() -> None:
            clock.start()
            if "end" in space:
                space["end"](counts[0], counts[1], *(tally if fold else ()))

        if "begin" in space:
            clock.start()
            space["begin"](0, 0)
        return Engine(
            *(self.input, self.output, self.method, stateful, act, finish),
            groves=self.walks,
            reads_input=self.reads_input,
            bare=self.bare and not stateful,
            emitted=emitted,
        )


def _initial(kind: str, name: str, of: Type, value: Any) -> Any:
    if isinstance(value, str) and not _is_text(of):
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    try:
        return reader(of)(value)
    except InvalidInput as exc:
        raise UnsupportedModel(f"the {kind[:-1]} {name!r} begins with no {of}: {exc}") from None


def _is_text(of: Type) -> bool:
    return str(of) not in ("null", "boolean", "int", "long", "float", "double") and not str(
        of
    ).startswith(("array", "map", "record", "union"))


def _mentions(source: Any, words: tuple[str, ...]) -> bool:
    pending = [source]
    while pending:
        each = pending.pop()
        if isinstance(each, dict):
            pending.extend(each.values())
        elif isinstance(each, list):
            pending.extend(each)
        elif each in words:
            return True
    return False
