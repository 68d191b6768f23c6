"""The client over HTTP/1.1, with connections that are kept."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import Mapping
from urllib.parse import quote

from numpy.typing import ArrayLike

from martlet.client.reply import Prediction, error_of_status
from martlet.client.seam import AsyncClient, Client
from martlet.errors import DeadlineExceeded, NotAvailable
from martlet.names import ModelRef
from martlet.wire.openinference import asking

_HEADER = "Inference-Header-Content-Length"
_READY = "/v2/health/ready"


def _path(model: str) -> str:
    ref = ModelRef.parse(model)
    which = ref.label if ref.version is None else ref.version
    version = "" if which is None else f"/versions/{which}"
    return f"/v2/models/{quote(ref.name, safe='')}{version}/infer"


def _prediction(status: int, header_length: str | None, body: bytes) -> Prediction:
    if status != 200:
        raise error_of_status(status, body)
    version, outputs = asking.read(body, header_length)
    return Prediction(outputs, version)


class RestClient(Client):
    """
    A server's REST port.

    Args:
        where: ``host:port``.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._free: list[http.client.HTTPConnection] = []

    def predict(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        timeout_s: float | None = None,
        signature_name: str | None = None,
    ) -> Prediction:
        """Return what *model* answers; as ``Client.predict``."""
        body, length = asking.write(asking.arrays(inputs), signature_name)
        headers = {_HEADER: str(length), "Content-Type": "application/octet-stream"}
        return _prediction(*self._ask("POST", _path(model), body, headers, timeout_s))

    def ready(self) -> bool:
        """Return whether the server answers, and with every model that it should."""
        try:
            return self._ask("GET", _READY, b"", {}, 5.0)[0] == 200
        except NotAvailable:
            return False

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        timeout_s: float | None,
    ) -> tuple[int, str | None, bytes]:
        kept = bool(self._free)
        connection = self._free.pop() if kept else http.client.HTTPConnection(self._where)
        try:
            connection.timeout = timeout_s
            if connection.sock is not None:
                connection.sock.settimeout(timeout_s)
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            found = response.status, response.getheader(_HEADER), response.read()
        except TimeoutError as exc:
            connection.close()
            raise DeadlineExceeded(f"no answer from {self._where} in {timeout_s} s") from exc
        except (OSError, http.client.HTTPException) as exc:
            connection.close()
            # A kept connection may have been closed meanwhile, before it heard of this request.
            if kept and isinstance(exc, (http.client.RemoteDisconnected, BrokenPipeError)):
                return self._ask(method, path, body, headers, timeout_s)
            raise NotAvailable(f"{self._where} does not answer: {exc}") from exc
        if response.will_close:
            connection.close()
        else:
            self._free.append(connection)
        return found

    def close(self) -> None:
        """Close its connections."""
        while self._free:
            self._free.pop().close()


_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class AsyncRestClient(AsyncClient):
    """
    A server's REST port, for asyncio.

    Args:
        where: ``host:port``.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._free: list[_Stream] = []

    async def predict(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        timeout_s: float | None = None,
        signature_name: str | None = None,
    ) -> Prediction:
        """Return what *model* answers; as ``Client.predict``."""
        body, length = asking.write(asking.arrays(inputs), signature_name)
        head = f"{_HEADER}: {length}\r\nContent-Type: application/octet-stream\r\n"
        return _prediction(*await self._ask("POST", _path(model), head, body, timeout_s))

    async def ready(self) -> bool:
        """Return whether the server answers, and with every model that it should."""
        try:
            return (await self._ask("GET", _READY, "", b"", 5.0))[0] == 200
        except NotAvailable:
            return False

    async def _ask(
        self, method: str, path: str, head: str, body: bytes, timeout_s: float | None
    ) -> tuple[int, str | None, bytes]:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._exchange(method, path, head, body)
        except TimeoutError as exc:
            raise DeadlineExceeded(f"no answer from {self._where} in {timeout_s} s") from exc
        except (OSError, EOFError, ValueError) as exc:
            raise NotAvailable(f"{self._where} does not answer: {exc}") from exc

    async def _exchange(
        self, method: str, path: str, head: str, body: bytes
    ) -> tuple[int, str | None, bytes]:
        kept = bool(self._free)
        host, _, port = self._where.rpartition(":")
        stream = self._free.pop() if kept else await asyncio.open_connection(host, int(port))
        reader, writer = stream
        start = f"{method} {path} HTTP/1.1\r\nHost: {self._where}\r\n{head}"
        done = False
        try:
            writer.write(f"{start}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            status, headers = await _head(reader)
            found = await reader.readexactly(int(headers.get("content-length", "0")))
            done = headers.get("connection", "").lower() != "close"
        except (asyncio.IncompleteReadError, ConnectionError):
            if kept:
                return await self._exchange(method, path, head, body)
            raise
        finally:
            # Cancelled half-way, the rest of the answer would be taken for the next one's.
            if done:
                self._free.append(stream)
            else:
                writer.close()
        return status, headers.get(_HEADER.lower()), found

    async def close(self) -> None:
        """Close its connections."""
        while self._free:
            _, writer = self._free.pop()
            writer.close()
            await writer.wait_closed()


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines[1:] if line)
    return int(lines[0].split()[1]), {k.strip().lower(): v.strip() for k, _, v in pairs}
