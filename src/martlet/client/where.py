"""From an address to the client that speaks its protocol."""

from __future__ import annotations

from martlet.client.rest import AsyncRestClient, RestClient
from martlet.client.seam import AsyncClient, Client
from martlet.errors import InvalidInput


def connect(address: str) -> Client:
    """
    Return a client of the server at *address*: ``http://host:port`` or ``grpc://host:port``.

    Nothing is sent yet.

    Raises:
        InvalidInput: the address is of another kind.
    """
    scheme, where = _parts(address)
    if scheme == "http":
        return RestClient(where)
    from martlet.client.grpc import GrpcClient

    return GrpcClient(where)


def connect_async(address: str) -> AsyncClient:
    """
    Return a client for asyncio; as ``connect``.

    Raises:
        InvalidInput: the address is of another kind.
    """
    scheme, where = _parts(address)
    if scheme == "http":
        return AsyncRestClient(where)
    from martlet.client.grpc import AsyncGrpcClient

    return AsyncGrpcClient(where)


def _parts(address: str) -> tuple[str, str]:
    scheme, separator, where = address.partition("://")
    if not separator or scheme not in ("http", "grpc") or not where.strip("/"):
        raise InvalidInput(f"{address!r} is no address: use http://host:port or grpc://host:port")
    return scheme, where.rstrip("/")
