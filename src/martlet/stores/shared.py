"""Live rows shared by machines through Redis: each applies what all publish, and looks up locally.

For one table there are two keys. ``martlet:{NAME:ID}:updates`` is a stream of what was set and
taken back; ``martlet:{NAME:ID}:rows`` a hash of what is set now, for who comes later than the
stream remembers. ID begins the table's identity: a table of another file has another stream, so
vectors of two generations never meet. An entry of the stream has ``k``, the key as text, and
``v``, the vector as little-endian float32; or ``ks``, a JSON list of keys, and their vectors end to
end. Without ``v`` the rows are taken back.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import orjson

from martlet.errors import InvalidInput, MissingExtra, NotAvailable
from martlet.stores.embeddings import Embeddings
from martlet.stores.updates import Applied, Update, apply_each, check

log = logging.getLogger(__name__)

REMEMBERED: Final = 1_000_000
"""Rows that a stream keeps, about; who is behind more begins anew from the hash."""

_BATCH, _LEAST_ENTRIES = 1_000, 100
_WAIT_MS = 200
_PATIENCE_S = 5.0
_FIRST = "0-0"


class SharedRows:
    """
    The rows of one table as all machines have them. Any thread may call it.

    Args:
        url: ``redis://HOST:PORT/DB``, ``rediss://`` or ``unix://``.
        name: What all machines call the table.

    Raises:
        MissingExtra: redis is not installed.
        InvalidInput: *url* is none.
    """

    def __init__(self, url: str, name: str, table: Embeddings) -> None:
        self._redis = _client(url)
        self._table = table
        which = f"martlet:{{{name}:{table.identity.hex()[:16]}}}"
        self._stream, self._rows = f"{which}:updates", f"{which}:rows"

    def __str__(self) -> str:
        return self._stream

    def publish(self, updates: Sequence[Update]) -> str:
        """
        Tell all machines of *updates*, all of them or none, and return the last one's place.

        Raises:
            InvalidInput: one does not fit the table; the text names its key.
            NotAvailable: Redis cannot be reached.
        """
        check(self._table, updates)
        last = {str(update.key): update.vector for update in updates}
        vectors = {k: np.asarray(v, "<f4").tobytes() for k, v in last.items() if v is not None}
        gone = [key for key, vector in last.items() if vector is None]
        with _translated(), self._redis.pipeline(transaction=True) as together:
            if vectors:
                together.hset(self._rows, mapping=vectors)
                self._tell(together, list(vectors), b"".join(vectors.values()))
            if gone:
                together.hdel(self._rows, *gone)
                self._tell(together, gone, None)
            answers = together.execute()
        return _text(answers[-1]) if answers else _FIRST

    def _tell(self, together: Any, keys: list[str], vectors: bytes | None) -> None:
        entry = {"ks": orjson.dumps(keys)} | ({"v": vectors} if vectors is not None else {})
        most = max(_LEAST_ENTRIES, REMEMBERED // len(keys))
        together.xadd(self._stream, entry, maxlen=most, approximate=True)

    def catch_up(self, wait_ms: int = 0) -> Applied | None:
        """
        Apply what was published since this machine last did; None when there is nothing new.

        Of several processes of a machine the first to come applies, and the others pass over it.

        Args:
            wait_ms: How long to wait for something new.

        Raises:
            NotAvailable: Redis cannot be reached, or another process keeps writing.
            Overloaded, WrongState: as of ``Embeddings.put_many``.
        """
        place = self._place()
        with _translated():
            if place == "" or self._forgotten(place):
                return self._begin_anew(place)
            found: Any = self._redis.xread(
                {self._stream: place}, count=_BATCH, block=wait_ms or None
            )
        if not found:
            return None
        entries = [(_text(at), fields) for at, fields in found[0][1]]
        with self._table.writing() as live:
            place = self._place()
            new = [fields for at, fields in entries if _order(at) > _order(place)]
            applied = self._apply(new) if new else None
            if new:
                live.file.move_cursor(self._cursor(entries[-1][0]))
        return applied

    def reach(self, place: str) -> None:
        """
        Apply all that was published up to *place*, as ``publish`` gave it.

        Raises:
            NotAvailable, Overloaded, WrongState: as of ``catch_up``.
        """
        while _order(self._place() or _FIRST) < _order(place):
            self.catch_up()

    # -- where this machine is ---------------------------------------------------------------

    def _place(self) -> str:
        if self._table.live is None:
            self._table.look()
        live = self._table.live
        kind, _, at = ("" if live is None else live.file.cursor).partition(" ")
        return at if kind == "redis" else ""

    def _cursor(self, at: str) -> str:
        return f"redis {at}"

    def _forgotten(self, place: str) -> bool:
        """Whether the stream may have dropped entries after *place*."""
        first: Any = self._redis.xrange(self._stream, count=1)
        return bool(first) and _order(_text(first[0][0])) > _order(place) != _order(_FIRST)

    def _begin_anew(self, before: str) -> Applied | None:
        """Take all rows as they are now: what is set here and not there is taken back."""
        last: Any = self._redis.xrevrange(self._stream, count=1)
        place = _text(last[0][0]) if last else _FIRST
        with self._table.writing() as live:
            if self._place() != before:
                return None  # another process of this machine was here first
            applied = Applied()
            if last:
                there: set[int | str] = set()
                for some in self._all_rows():
                    there.update(map(self._key, some))
                    applied = applied + self._apply({b"k": k, b"v": v} for k, v in some.items())
                here = self._table.keys.at(self._table.live_rows).tolist()
                gone = [Update(key, None) for key in here if key not in there]
                applied = applied + (apply_each(self._table, gone) if gone else Applied())
            live.file.move_cursor(self._cursor(place))
        return applied

    def _all_rows(self) -> Iterator[Mapping[bytes, bytes]]:
        cursor = 0
        while True:
            cursor, some = self._redis.hscan(self._rows, cursor, count=_BATCH)
            if some:
                yield some
            if cursor == 0:
                return

    def _apply(self, entries: Iterable[Mapping[bytes, bytes]]) -> Applied:
        updates = [update for entry in entries for update in self._updates(entry)]
        return apply_each(self._table, updates) if updates else Applied()

    def _updates(self, entry: Mapping[bytes, bytes]) -> list[Update]:
        try:
            given = orjson.loads(entry[b"ks"]) if b"ks" in entry else [entry.get(b"k", b"")]
            keys = [self._key(each) for each in given]
        except (orjson.JSONDecodeError, TypeError, AttributeError):
            keys = [""]
        vectors = entry.get(b"v")
        if vectors is None:
            return [Update(key, None) for key in keys]
        if not keys or len(vectors) != 4 * self._table.dim * len(keys):
            return [Update(key, ()) for key in keys]  # no vector of the table's: it is refused
        rows = np.frombuffer(vectors, "<f4").reshape(len(keys), -1)
        return [Update(key, row) for key, row in zip(keys, rows, strict=True)]

    def _key(self, text: bytes | str) -> int | str:
        key = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        return int(key) if not self._table.text_keys and key.lstrip("-").isdecimal() else key


def _client(url: str) -> Any:
    try:
        import redis
    except ModuleNotFoundError:
        raise MissingExtra("sharing rows by Redis", "redis") from None
    try:
        return redis.Redis.from_url(
            url, socket_timeout=_PATIENCE_S, socket_connect_timeout=_PATIENCE_S
        )
    except ValueError as exc:
        raise InvalidInput(f"{url!r} is not an address of Redis: {exc}") from None


@contextmanager
def _translated() -> Iterator[None]:
    from redis.exceptions import RedisError

    try:
        yield
    except RedisError as exc:
        raise NotAvailable(f"Redis does not answer: {exc}; rows are served as they were") from exc


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _order(place: str) -> tuple[int, int]:
    milliseconds, _, number = place.partition("-")
    return (int(milliseconds or 0), int(number or 0))
