"""TensorFlow Serving's REST API: predict, classify, regress, status and metadata.

Source: tensorflow_serving/model_servers/http_rest_api_handler.cc and http_rest_api_util.cc.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

from martlet.errors import DeadlineExceeded, InvalidInput, MartletError
from martlet.events import NOBODY, Sink
from martlet.names import ModelRef
from martlet.servable import DEFAULT_SIGNATURE, Servable
from martlet.servers import tfserving_calls
from martlet.servers.offload import Offload, Pace
from martlet.servers.routes import Handler, Request, Response, Route, failure
from martlet.serving.engine import Engine, score
from martlet.serving.traffic import Variant
from martlet.tensors import Signature, Tensor
from martlet.wire.tfserving import inference, metadata, requests, responses, status

_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_MAX_VERSION = 2**63 - 1


@dataclass(slots=True)
class _Answer:
    """What a call gave: the body, who answered, and how long the model took."""

    body: bytes
    version: int
    rows: int
    model_ns: int


_Call = Callable[[bytes], _Answer]
"""Answers one body. Any thread may call it."""


class TFServing:
    """
    The paths under ``/v1/``, over one engine.

    Args:
        engine: Whose models.
        sink: Hears of every answer.
        timeout_s: An answer that takes longer is 504.
        cors: Whether browsers of other origins may call.
    """

    def __init__(
        self,
        engine: Engine,
        sink: Sink = NOBODY,
        timeout_s: float = 30.0,
        cors: bool = False,
    ) -> None:
        self._engine = engine
        self._sink = sink
        self._timeout_s = timeout_s
        self._cors = _CORS if cors else ()
        self._offload = Offload()
        self.routes = [
            Route("POST", _path(":predict"), self._called(self._predict, "predict")),
            Route("POST", _path(":classify"), self._called(self._classify, "classify")),
            Route("POST", _path(":regress"), self._called(self._regress, "regress")),
            Route("GET", _path("/metadata"), self._told(self._metadata)),
            Route("GET", _path(""), self._told(self._status)),
        ]
        if cors:
            self.routes.append(Route("OPTIONS", re.compile("/v1/.*"), lambda: self._options))

    def unmatched(self, request: Request) -> Response | None:
        """Say ``Malformed request`` of whatever else is under ``/v1/``, whatever the method."""
        path = request.target.lower()
        if request.method == "GET" and path == "/v1/models":
            return failure(400, "Missing model name in request.")
        if path.startswith("/v1/") or path == "/v1":
            return failure(400, f"Malformed request: {request.method} {request.target}")
        return None

    # -- calls of a model ----------------------------------------------------------------------

    def _called(self, make: Callable[[ModelRef], _Call], api: str) -> Callable[..., Handler]:
        """Return a maker of handlers that time a call, tell of it, and keep its deadline."""

        def made(ref: ModelRef) -> Handler:
            call, pace = make(ref), Pace()

            def handler(request: Request) -> Response | Coroutine[Any, Any, Response]:
                if pace.slow:
                    return self._later(call, api, ref, pace, request)
                started = perf_counter_ns()
                try:
                    answer = call(request.body)
                except MartletError as exc:
                    self._failed(api, ref, exc, perf_counter_ns() - started)
                    raise
                return self._told_of(answer, api, ref, pace, perf_counter_ns() - started)

            return handler

        return self._told(made)

    async def _later(
        self, call: _Call, api: str, ref: ModelRef, pace: Pace, request: Request
    ) -> Response:
        started = perf_counter_ns()
        try:
            answer = await self._offload.run(lambda: call(request.body), self._timeout_s)
        except MartletError as exc:
            self._failed(api, ref, exc, perf_counter_ns() - started)
            raise
        return self._told_of(answer, api, ref, pace, perf_counter_ns() - started)

    def _told_of(
        self, answer: _Answer, api: str, ref: ModelRef, pace: Pace, took_ns: int
    ) -> Response:
        pace.note(answer.model_ns)
        if took_ns > self._timeout_s * 1e9:
            late = DeadlineExceeded(f"the answer took {took_ns / 1e6:.0f} ms, past the limit")
            self._failed(api, ref, late, took_ns)
            raise late
        self._sink.answered(
            "REST", api, ref.name, answer.version, None, answer.rows, took_ns, answer.model_ns
        )
        return Response(200, answer.body, headers=self._cors)

    def _failed(self, api: str, ref: ModelRef, exc: MartletError, took_ns: int) -> None:
        # A name that is no model's would be a counter for every typo of every client.
        if ref.name in self._engine.table.models:
            self._sink.answered("REST", api, ref.name, 0, exc.code, 0, took_ns, 0)

    def _told(self, make: Callable[[ModelRef], Handler]) -> Callable[..., Handler]:
        """Return a maker that takes the path's parts, and refuses what upstream refuses."""

        def made(name: str, version: str | None = None, label: str | None = None) -> Handler:
            if version is not None and int(version) > _MAX_VERSION:
                # Upstream leaves before it writes the error: the body is empty.
                return lambda _: Response(400, b"")
            inner = make(ModelRef(name, None if version is None else int(version), label))

            def handler(request: Request) -> Any:
                if "?" in request.target:
                    raise InvalidInput(f"Malformed request: {request.method} {request.target}")
                return inner(request)

            return handler

        return made

    def _predict(self, ref: ModelRef) -> _Call:
        engine = self._engine
        decoders: dict[str, tuple[Signature, requests.PredictDecoder]] = {}

        def call(body: bytes) -> _Answer:
            document = requests.parse_object(body)
            name = requests.signature_name_of(document)
            variant = tfserving_calls.acquire(engine, ref)
            try:
                decoder = _decoder(decoders, variant, name)
                inputs, by_row = decoder.decode(document)
                started = perf_counter_ns()
                outputs = score(variant, inputs, name or DEFAULT_SIGNATURE).outputs
                model_ns = perf_counter_ns() - started
            finally:
                variant.release()
            written = responses.predictions(outputs) if by_row else responses.outputs(outputs)
            return _Answer(written, variant.version, _rows(inputs), model_ns)

        return call

    def _classify(self, ref: ModelRef) -> _Call:
        def call(body: bytes) -> _Answer:
            name, given = _examples(body)
            with tfserving_calls.lease(self._engine, ref) as variant:
                started = perf_counter_ns()
                found = tfserving_calls.classify(variant, name, given)
                model_ns = perf_counter_ns() - started
            return _Answer(inference.classify_json(found), variant.version, len(given), model_ns)

        return call

    def _regress(self, ref: ModelRef) -> _Call:
        def call(body: bytes) -> _Answer:
            name, given = _examples(body)
            with tfserving_calls.lease(self._engine, ref) as variant:
                started = perf_counter_ns()
                found = tfserving_calls.regress(variant, name, given)
                model_ns = perf_counter_ns() - started
            return _Answer(inference.regress_json(found), variant.version, len(given), model_ns)

        return call

    # -- what is there -------------------------------------------------------------------------

    def _metadata(self, ref: ModelRef) -> Handler:
        def handler(_: Request) -> Response:
            with tfserving_calls.lease(self._engine, ref) as variant:
                signatures = variant.servable.signatures
                body = metadata.metadata_json(ref.name, variant.version, signatures)
            return Response(200, body, headers=self._cors)

        return handler

    def _status(self, ref: ModelRef) -> Handler:
        def handler(_: Request) -> Response:
            found = tfserving_calls.statuses(self._engine, ref)
            return Response(200, status.status_json(found), headers=self._cors)

        return handler

    def _options(self, request: Request) -> Response:
        origin = request.headers.get(b"origin", b"")
        if not origin.startswith((b"http://", b"https://")):
            return Response(400, b"")
        return Response(200, b"", headers=self._cors)


_CORS = (
    (b"Access-Control-Allow-Origin", b"*"),
    (b"Access-Control-Allow-Methods", b"POST, GET"),
    (b"Access-Control-Allow-Headers", b"Content-Type"),
)


def _path(end: str) -> re.Pattern[str]:
    return re.compile(_MODEL + end, re.IGNORECASE)


def _rows(inputs: dict[str, Tensor]) -> int:
    for each in inputs.values():
        return len(each) if each.ndim else 1
    return 1


def _examples(body: bytes) -> tuple[str, Tensor]:
    from martlet.wire.tfserving import examples

    document = requests.parse_object(body)
    return requests.signature_name_of(document), examples.examples_of(document)


def _decoder(
    known: dict[str, tuple[Signature, requests.PredictDecoder]],
    variant: Variant[Servable],
    name: str,
) -> requests.PredictDecoder:
    """Return the decoder of *variant*'s signature, made again when the signature is another."""
    signature = variant.servable.signatures.get(name or DEFAULT_SIGNATURE)
    if signature is None:
        raise InvalidInput(
            f'Serving signature name: "{name or DEFAULT_SIGNATURE}" not found in signature def'
        )
    found = known.get(name)
    if found is None or found[0] is not signature:
        found = known[name] = (signature, requests.PredictDecoder(signature, name))
    return found[1]
