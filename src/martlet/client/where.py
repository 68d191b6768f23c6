"""From an address to the client that speaks its protocol."""

from __future__ import annotations

import re

from martlet.client.rest import AsyncRestClient, RestClient
from martlet.client.seam import AsyncClient, Client
from martlet.errors import InvalidInput

_ADDRESS = re.compile(r"(http|grpc)://([^/\s]+:[0-9]{1,5})/?")


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
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise InvalidInput(
            f"{address!r} is not an address: use http://host:port or grpc://host:port"
        )
    return found[1], found[2]
