"""A server whose common requests take the shortcut, and one whose take the long way."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from martlet.errors import InvalidInput
from martlet.monitor.counts import Counts, Totals
from martlet.servable import DEFAULT_SIGNATURE
from martlet.servers.catalogue import Catalogue
from martlet.servers.connection import Connection
from martlet.servers.http import HttpServer
from martlet.servers.identity import current
from martlet.servers.rest_openinference import OpenInference
from martlet.servers.rest_recommendations import Recommendations
from martlet.servers.rest_tfserving import TFServing
from martlet.servers.routes import Router
from martlet.servers.shortcut import Shortcuts
from martlet.serving.engine import Engine
from martlet.serving.traffic import Model, Table, Variant
from martlet.tensors import DType, Signature, Spec, Tensors

PATH, RANK, INFER = "/v1/models/m:predict", "/v1/models/m:rank", "/v2/models/m/infer"


X = {"name": "x", "shape": [2, 1], "datatype": "FP32", "data": [1.0, 2.5]}


USUAL: Mapping[str, Any] = {
    PATH: {"inputs": [[1.0]]},
    RANK: {"items": {"x": [1.0, 2.5]}},
    INFER: {"inputs": [X]},
}


class Half:
    """y = x / 2 + 2 and, of a row that is 13, a refusal; keeps what it saw of the log's context."""

    def __init__(self, outputs: int = 1) -> None:
        y = [Spec(f"y{i}", DType.FLOAT32, (-1, 1)) for i in range(outputs)]
        self.signatures: Mapping[str, Signature] = {
            DEFAULT_SIGNATURE: Signature.of([Spec("x", DType.FLOAT32, (-1, 1))], y)
        }
        self.calls = 0
        self.named = b""
        self.odd: Any = None

    def predict(self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE) -> dict[str, Any]:
        self.calls += 1
        self.named = current.get()
        if (inputs["x"] == 13).any():
            raise InvalidInput("13 is not scored here")
        if (inputs["x"] == 14).any():
            raise ZeroDivisionError
        if (inputs["x"] == 15).any():
            raise KeyboardInterrupt
        if (inputs["x"] == 16).any():
            time.sleep(0.6)
        y = inputs["x"] * np.float32(0.5) + np.float32(2) if self.odd is None else self.odd
        return dict.fromkeys(self.signatures[DEFAULT_SIGNATURE].outputs, y)

    def close(self) -> None:
        pass


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""

    def write(self, data: Any) -> None:
        self.sent += data

    def is_closing(self) -> bool:
        return False

    def resume_reading(self) -> None:
        pass

    def close(self) -> None:
        pass


class Server:
    """One connection to one model, with shortcuts or without."""

    def __init__(
        self, model: Half, short: bool = True, cors: bool = False, timeout_s: float = 30.0
    ) -> None:
        self.model, self.counts, self.engine = model, Counts(), Engine()
        self.shortcuts = Shortcuts()
        self.variant: Variant[Any] = Variant("m", 1, model)
        self.engine.publish(Table({"m": Model("m", {1: self.variant})}))
        router = Router()
        router.mount(Recommendations(self.engine, self.counts, timeout_s, self.shortcuts))
        router.mount(TFServing(self.engine, self.counts, timeout_s, cors, self.shortcuts))
        catalogue = Catalogue(self.engine, cast(Any, None), Totals)
        router.mount(OpenInference(self.engine, catalogue, self.counts, timeout_s, self.shortcuts))
        self.server = HttpServer(router, "", 0, shortcuts=self.shortcuts if short else Shortcuts())
        # A path is taken for slow until it has shown otherwise.
        for path, body in USUAL.items():
            for _ in range(5):
                self.ask(body, path=path)

    def send(self, data: bytes) -> bytes:
        """Return what *data* is answered, on a connection of its own."""

        async def talk() -> bytes:
            self.server.loop = asyncio.get_running_loop()
            wire, connection = Wire(), Connection(self.server)
            connection.connection_made(wire)
            connection.data_received(data)
            for _ in range(200):
                if wire.sent:
                    break
                await asyncio.sleep(0.005)
            self.server.connections.clear()
            return wire.sent

        return asyncio.run(talk())

    def ask(self, body: Any, *fields: str, path: str = PATH) -> bytes:
        return self.send(request(body, *fields, path=path))

    def short(self, data: bytes) -> bytes | None:
        """Return what the shortcut says of *data*."""
        return self.server.shortcut(data)


def request(body: Any, *fields: str, path: str = PATH) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {len(content)}", *fields]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + content


def without_id(reply: bytes) -> bytes:
    return re.sub(rb"(?<=X-Request-Id: )[^\r]*", b"", reply)


def body_of(reply: bytes) -> Any:
    return json.loads(reply.partition(b"\r\n\r\n")[2])


def raw(values: list[float], **more: Any) -> tuple[bytes, str]:
    """Return an infer request with a binary tensor, and the field that goes with it."""
    array = np.array(values, np.float32).reshape(-1, 1)
    tensor = X | {"shape": array.shape, "parameters": {"binary_data_size": array.nbytes}}
    tensor = {name: value for name, value in tensor.items() if name != "data"}
    head = json.dumps({"inputs": [tensor], **more}).encode()
    return head + array.tobytes(), f"Inference-Header-Content-Length: {len(head)}"
