"""``/v1/tables``: the rows of embedding tables, read and set while they are served."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import orjson

from martlet.errors import InvalidInput, ModelNotFound, Unimplemented
from martlet.names import read_version
from martlet.servers.routes import Handler, Request, Response, Route, failure
from martlet.servers.tables_served import Served, TablesServed
from martlet.serving.engine import Engine
from martlet.stores.keys import concatenated, texts
from martlet.stores.live import LiveStats
from martlet.stores.livewatch import LOOK_S
from martlet.stores.updates import Applied, Update, apply, change, parse_lines, update_of
from martlet.wire import tables as wire
from martlet.wire.document import parse

_TABLE = (
    r"/v1/tables/(?P<name>[^/:]+(?:/(?!rows(?:/|$)|versions/)[^/:]+)?)"
    r"(?:/versions/(?P<version>[0-9]+))?"
)
_KEY = r"/rows/(?P<key>[^/]*)"
_MOST_ROWS = 10_000
_MOST_UNPACKED = 1 << 30

Apply = Callable[[Served, Sequence[Update]], Applied]
"""Applies updates to a table, and sends them to the other machines that share it."""


def apply_here(served: Served, updates: Sequence[Update]) -> Applied:
    """Apply *updates* to the table's live rows; every worker sees them once this returns."""
    first = served.table.live is None
    applied = apply(served.table, updates)
    if first and served.table.live is not None:
        # These are the table's first live rows: the other workers have yet to find the file.
        time.sleep(2 * LOOK_S)
    return applied


class TableRows:
    """
    The tables' paths, over one engine.

    Args:
        engine: Has the tables.
        writable: Whether rows may be set; if not, setting them is Unimplemented.
        apply: Applies updates.
    """

    def __init__(self, engine: Engine, *, writable: bool = True, apply: Apply = apply_here) -> None:
        self._tables = TablesServed(engine)
        self._writable = writable
        self._apply = apply
        self.routes = [
            Route("GET", re.compile("/v1/tables"), lambda: self._list),
            Route("GET", re.compile(_TABLE), self._about),
            Route("GET", re.compile(_TABLE + "/rows"), self._scan),
            Route("GET", re.compile(_TABLE + _KEY), self._get),
            Route("PUT", re.compile(_TABLE + _KEY), self._put),
            Route("PATCH", re.compile(_TABLE + _KEY), self._change),
            Route("DELETE", re.compile(_TABLE + _KEY), self._remove),
            Route("PATCH", re.compile(_TABLE + "/rows"), self._update_many),
            Route("POST", re.compile(_TABLE + ":get"), self._get_many),
        ]

    def unmatched(self, request: Request) -> Response | None:
        """Answer for ``/v1/tables``; leave other paths to others."""
        path = request.target.partition("?")[0]
        if not re.match("/v1/tables(/|$)", path):
            return None
        if request.method == "HEAD":
            return None
        methods = {each.method for each in self.routes if each.pattern.fullmatch(path)}
        if not methods:
            return failure(404, f"nothing answers {request.method} {request.target}")
        allow = ", ".join(sorted(methods))
        text = f"{request.method} is not allowed on {request.target}; allowed: {allow}"
        return failure(405, text, ((b"Allow", allow.encode()),))

    # -- reading ---------------------------------------------------------------------------

    def _list(self, _: Request) -> Response:
        return _json({"tables": [_described(each) for each in self._tables.all()]})

    def _about(self, name: str, version: str | None = None) -> Handler:
        return lambda _: _json(_described(self._find(name, version)))

    def _scan(self, name: str, version: str | None = None) -> Handler:
        def handler(request: Request) -> Response:
            served = self._find(name, version)
            query = parse_qs(request.target.partition("?")[2])
            start, limit = _number(query, "start", 0), _number(query, "limit", 100)
            if limit > _MOST_ROWS:
                raise InvalidInput(f"'limit' is {limit}; at most {_MOST_ROWS} rows come at once")
            table = served.table
            live = query.get("live", ["0"])[-1] not in ("0", "false")
            rows = table.live_rows if live else table.all_rows
            some = rows[start : start + limit]
            keys, vectors = table.keys.at(some).tolist(), table.take(some)
            found = [{"key": key, "vector": v} for key, v in zip(keys, vectors, strict=True)]
            return _json({**_called(served), "start": start, "rows": found, "of": len(rows)})

        return handler

    def _get(self, name: str, key: str, version: str | None = None) -> Handler:
        def handler(_: Request) -> Response:
            served = self._find(name, version)
            wanted = _key(served, key)
            found = served.table.get_many(concatenated([wanted]))
            if not found.known[0]:
                raise ModelNotFound(f"no key {wanted!r} in the table {served}")
            return _json({**_called(served), "key": wanted, "vector": found.vectors[0]})

        return handler

    def _get_many(self, name: str, version: str | None = None) -> Handler:
        def handler(request: Request) -> Response:
            served = self._find(name, version)
            if wire.is_binary(request.body):
                keys: Any = wire.read_arrays(request.body, _MOST_UNPACKED)[0]
            else:
                keys = parse(request.body).get("keys")
                if not isinstance(keys, list):
                    raise InvalidInput("'keys' is missing; a list of keys is wanted")
            found = served.table.get_many(_checked(served, keys))
            if wire.CONTENT_TYPE in request.headers.get(b"accept", b""):
                body = wire.write_arrays(found.known, found.vectors)
                return Response(200, body, wire.CONTENT_TYPE)
            return _json({**_called(served), "known": found.known, "vectors": found.vectors})

        return handler

    # -- writing: in a thread, since another writer may be at work ---------------------------

    def _put(self, name: str, key: str, version: str | None = None) -> Handler:
        def update(served: Served, request: Request) -> list[Update]:
            document = parse(request.body)
            return [update_of({**document, "key": _key(served, key)})]

        return self._writing(name, version, update)

    def _change(self, name: str, key: str, version: str | None = None) -> Handler:
        def update(served: Served, request: Request) -> list[Update]:
            return [change(served.table, _key(served, key), parse(request.body))]

        return self._writing(name, version, update, alone=True)

    def _remove(self, name: str, key: str, version: str | None = None) -> Handler:
        return self._writing(name, version, lambda served, _: [Update(_key(served, key), None)])

    def _update_many(self, name: str, version: str | None = None) -> Handler:
        return self._writing(name, version, _updates)

    def _writing(
        self,
        name: str,
        version: str | None,
        updates: Callable[[Served, Request], list[Update]],
        alone: bool = False,
    ) -> Handler:
        def write(request: Request) -> Response:
            served = self._find(name, version)
            # What is computed from the row must not be overtaken by another update of it.
            with served.table.writing() if alone else nullcontext():
                applied = self._apply(served, updates(served, request))
            return _json({**_called(served), "set": applied.set, "removed": applied.removed})

        async def handler(request: Request) -> Response:
            if not self._writable:
                raise Unimplemented("this server's tables are fixed: nobody can set their rows")
            return await asyncio.to_thread(partial(write, request))

        return handler

    def _find(self, name: str, version: str | None) -> Served:
        return self._tables.find(name, None if version is None else read_version(version))


def _updates(served: Served, request: Request) -> list[Update]:
    body = request.body
    if wire.is_binary(body):
        arrays = wire.read_arrays(body, _MOST_UNPACKED)
        if len(arrays) != 2 or arrays[1].ndim != 2 or len(arrays[0]) != len(arrays[1]):
            raise InvalidInput("keys [n] and vectors [n, dim] are wanted")
        keys = np.asarray(_checked(served, arrays[0])).tolist()
        return [Update(key, vector) for key, vector in zip(keys, arrays[1], strict=True)]
    if b"ndjson" in request.headers.get(b"content-type", b""):
        return parse_lines(body.splitlines(), "the body")
    document = parse(body)
    rows = document.get("rows")
    if not isinstance(rows, list):
        raise InvalidInput('\'rows\' is missing; a list of {"key": ..., "vector": [...]} is wanted')
    return [update_of(each) for each in rows]


def _checked(served: Served, keys: Any) -> Any:
    """Return *keys*, of the kind that the table has."""
    array = keys if isinstance(keys, np.ndarray) else None
    if array is not None and array.ndim != 1:
        raise InvalidInput(f"keys are [n], not of shape {list(array.shape)}")
    some: list[Any] = list(keys) if array is None else array.tolist()
    for each in some:
        if isinstance(each, str | bytes) != served.table.text_keys or isinstance(each, bool):
            kind = "texts" if served.table.text_keys else "whole numbers"
            raise InvalidInput(f"key {each!r} is given, and the keys of {served} are {kind}")
    return concatenated(texts(some) if served.table.text_keys else some)


def _key(served: Served, text: str) -> int | str:
    if served.table.text_keys:
        return text
    if not re.fullmatch(r"-?[0-9]{1,19}", text):
        raise InvalidInput(f"key {text!r} is not a whole number, as the keys of {served} are")
    return int(text)


def _number(query: dict[str, list[str]], name: str, default: int) -> int:
    text = query.get(name, [str(default)])[-1]
    if not re.fullmatch("[0-9]{1,18}", text):
        raise InvalidInput(f"{name!r} is {text!r}; a whole number is wanted")
    return int(text)


def _called(served: Served) -> dict[str, Any]:
    return {"table": served.name, "version": served.version}


def _described(served: Served) -> dict[str, Any]:
    table = served.table
    stats = LiveStats(0, 0, 0, 0, 0, 0) if table.live is None else table.live.stats()
    return {
        **_called(served),
        "generation": table.generation,
        "keys": "text" if table.text_keys else "integer",
        "rows": len(table),
        "dim": table.dim,
        "precision": table.precision,
        "live": asdict(stats),
    }


def _json(value: object) -> Response:
    return Response(200, orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))
