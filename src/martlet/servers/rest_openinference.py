"""The Open Inference Protocol v2 over REST, with the binary, repository and statistics extensions.

Source: kserve/open-inference-protocol, inference_rest.md; triton-inference-server/server
docs/protocol/.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

import martlet
from martlet.errors import InvalidInput
from martlet.events import NOBODY, Sink
from martlet.names import ModelRef
from martlet.servable import Servable
from martlet.servers import openinference_calls as calls
from martlet.servers.catalogue import Catalogue
from martlet.servers.routes import JSON, Handler, Request, Response, Route
from martlet.servers.shortcut import NONE, Form, Layout, Reading, Reply, Shortcuts
from martlet.servers.timed import Answer, Call, Timed
from martlet.serving.engine import Engine
from martlet.serving.traffic import Variant
from martlet.tensors import Tensors
from martlet.wire import compression
from martlet.wire.openinference import describe, plan, request, response

_NAME = r"/v2/models/(?P<name>[^/]+)"
_MODEL = _NAME + r"(?:/versions/(?P<version>[^/]+))?"
_LOAD_S = 600.0
_OCTETS = b"application/octet-stream"
_HEADER = b"Inference-Header-Content-Length"


class OpenInference:
    """
    The paths under ``/v2``, over one engine.

    Args:
        engine: Has the models.
        catalogue: Tells and changes which models there are.
        sink: Is told of every answer.
        timeout_s: An answer that takes longer becomes 504.
        shortcuts: Gets the paths whose infer requests have a common form.
    """

    def __init__(
        self,
        engine: Engine,
        catalogue: Catalogue,
        sink: Sink = NOBODY,
        timeout_s: float = 30.0,
        shortcuts: Shortcuts = NONE,
    ) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._timed = Timed(engine, sink, timeout_s, shortcuts)
        self.routes = [
            _get("/v2/health/live", self._live),
            _get("/v2/health/ready", self._ready),
            _get("/v2/?", self._server),
            _get("/v2/models/?", self._list),
            _get("/v2/models/stats", self._all_statistics),
            Route("POST", re.compile(_MODEL + "/infer"), self._infer),
            Route("GET", re.compile(_MODEL + "/ready"), self._model(self._model_ready)),
            Route("GET", re.compile(_MODEL + "/config"), self._model(self._config)),
            Route("GET", re.compile(_MODEL + "/stats"), self._model(self._statistics)),
            Route("GET", re.compile(_MODEL), self._model(self._metadata)),
            Route("POST", re.compile("/v2/repository/index"), lambda: self._index),
            Route("POST", re.compile("/v2/repository/models/(?P<name>[^/]+)/load"), self._load),
            Route("POST", re.compile("/v2/repository/models/(?P<name>[^/]+)/unload"), self._unload),
        ]

    def unmatched(self, request: Request) -> None:
        """Leave other paths to other dialects."""

    # -- infer ---------------------------------------------------------------------------------

    def _infer(self, name: str, version: str | None = None) -> Handler:
        ref = calls.ref_of(name, version)
        return self._timed.handler(self._call(ref), "infer", ref, lambda v: _form(ref, v))

    def _call(self, ref: ModelRef) -> Call:
        engine = self._engine

        def call(given: Request) -> Answer:
            headers = given.headers
            with engine.lease(ref) as variant:
                length = headers.get(b"inference-header-content-length")
                servable = variant.servable
                asked = request.read(
                    given.body, length, lambda name: calls.bare_signature_of(servable, name)
                )
                found = calls.infer(variant, asked)
                body, json_length = response.write(
                    asked, ref.name, str(variant.version), found.outputs
                )
            answer = _written(body, json_length, headers.get(b"accept-encoding"))
            return answer, variant.version, found.rows, found.model_ns

        return call

    # -- health and what there is --------------------------------------------------------------

    def _live(self, _: Request) -> Response:
        return Response(200, b'{"live":true}')

    def _ready(self, _: Request) -> Response:
        ready = self._catalogue.ready()
        return _json({"ready": ready, "live": True}, 200 if ready else 503)

    def _server(self, _: Request) -> Response:
        return _json(describe.server_metadata(martlet.__version__))

    def _list(self, _: Request) -> Response:
        return _json({"models": sorted(n for n, m in self._catalogue.models.items() if m.variants)})

    def _model(self, tell: Callable[[ModelRef], Response]) -> Callable[..., Handler]:
        def made(name: str, version: str | None = None) -> Handler:
            ref = calls.ref_of(name, version)
            return lambda _: tell(ref)

        return made

    def _model_ready(self, ref: ModelRef) -> Response:
        ready = self._catalogue.model_ready(ref)
        return _json({"name": ref.name, "ready": ready}, 200 if ready else 503)

    def _metadata(self, ref: ModelRef) -> Response:
        return _json(self._catalogue.metadata(ref))

    def _config(self, ref: ModelRef) -> Response:
        return _json(self._catalogue.config(ref))

    def _statistics(self, ref: ModelRef) -> Response:
        return _json({"model_stats": self._catalogue.statistics(ref)})

    def _all_statistics(self, _: Request) -> Response:
        return _json({"model_stats": self._catalogue.statistics(None)})

    # -- the repository ------------------------------------------------------------------------

    def _index(self, given: Request) -> Response:
        ready = _object(given.body).get("ready", False)
        if type(ready) is not bool:
            raise InvalidInput("'ready' must be true or false")
        return _json(self._catalogue.index(ready))

    def _load(self, name: str) -> Handler:
        def handler(given: Request) -> Awaitable[Response]:
            parameters = _object(given.body).get("parameters") or {}
            return self._away(lambda: self._catalogue.load(name, parameters, self._until()))

        return handler

    def _unload(self, name: str) -> Handler:
        def handler(given: Request) -> Awaitable[Response]:
            _object(given.body)
            return self._away(lambda: self._catalogue.unload(name, self._until()))

        return handler

    def _until(self) -> float:
        return time.monotonic() + _LOAD_S

    @staticmethod
    async def _away(act: Callable[[], None]) -> Response:
        # It waits until every worker has done it, so not on the loop.
        await asyncio.get_running_loop().run_in_executor(None, act)
        return Response(200, b"")


def _get(path: str, handler: Handler) -> Route:
    return Route("GET", re.compile(path), lambda: handler)


def _json(value: Any, status: int = 200) -> Response:
    return Response(status, orjson.dumps(value))


def _object(body: bytes) -> dict[str, Any]:
    """Return the JSON object that *body* holds; an empty body is an empty one."""
    if not body:
        return {}
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise InvalidInput(f"the request is not JSON: {exc}") from None
    if type(found) is not dict:
        raise InvalidInput("the request must be a JSON object")
    return found


def _form(ref: ModelRef, variant: Variant[Servable]) -> Form | None:
    """Return how the common requests to *variant* are read and written; None: there are none."""
    name, signature = calls.signature_of(variant.servable)
    decode = plan.compile_plan(signature)
    if decode is None:
        return None
    (output,) = signature.outputs.values()
    replies = response.parts(ref.name, str(variant.version), output)
    if replies is None:
        return None
    in_json, in_binary, kind = replies

    def write(outputs: Tensors, reading: Reading) -> Response:
        _, binary, *more = reading
        said = orjson.loads(b"{%b}" % more[0][1:]) if more else {}
        asked = request.InferRequest({}, id=said.get("id"), binary=binary)
        return _written(*response.write(asked, ref.name, str(variant.version), outputs), None)

    return Form(
        name,
        decode,
        (Reply(*in_json, Layout.FLAT, kind), Reply(*in_binary, Layout.RAW, kind)),
        write,
        apart=(b"accept-encoding",),
        length_field=_HEADER.lower(),
    )


def _written(body: bytes, json_length: int | None, accept: bytes | None) -> Response:
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if json_length is not None:
        headers = ((_HEADER, b"%d" % json_length),)
    encoding = None if accept is None else compression.accepted(accept)
    if encoding is not None:
        body = compression.deflate(body, encoding)
        headers = (*headers, (b"Content-Encoding", encoding))
    return Response(200, body, JSON if json_length is None else _OCTETS, headers)
