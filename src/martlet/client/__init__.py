"""A small client: named arrays in, named arrays out, over REST or gRPC.

>>> from martlet.client import connect
>>> with connect("http://localhost:8501") as client:  # doctest: +SKIP
...     client.predict("ctr", {"user_id": [7], "item_id": [1]}).outputs["probability"]

It speaks the Open Inference Protocol v2 with binary tensors, so numbers arrive exactly and any
server of that protocol answers it. ``connect("grpc://...")`` speaks gRPC, ``connect_async`` is
for asyncio. Errors are those of ``martlet.errors``, as the server raised them.
"""

from __future__ import annotations

from martlet.client.reply import Prediction
from martlet.client.rest import AsyncRestClient, RestClient
from martlet.client.seam import AsyncClient, Client
from martlet.client.where import connect, connect_async

__all__ = [
    "AsyncClient",
    "AsyncRestClient",
    "Client",
    "Prediction",
    "RestClient",
    "connect",
    "connect_async",
]
