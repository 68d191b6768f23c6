"""TensorFlow Serving's REST API: predict, classify, regress, status and metadata.

Source: tensorflow_serving/model_servers/http_rest_api_handler.cc and http_rest_api_util.cc.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from martlet.errors import InvalidInput
from martlet.names import ModelRef
from martlet.servable import DEFAULT_SIGNATURE, Servable
from martlet.servers import tfserving_lookup
from martlet.servers.routes import Handler, Request, Response, Route, failure
from martlet.serving.engine import Engine, score
from martlet.serving.traffic import Variant
from martlet.tensors import Signature
from martlet.wire.tfserving import metadata, requests, responses, status

_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_MAX_VERSION = 2**63 - 1


class TFServing:
    """The paths under ``/v1/``, over one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.routes = [
            Route("POST", _path(":predict"), self._versioned(self._predict)),
            Route("GET", _path("/metadata"), self._versioned(self._metadata)),
            Route("GET", _path(""), self._versioned(self._status)),
        ]

    def unmatched(self, request: Request) -> Response | None:
        """Say ``Malformed request`` of whatever else is under ``/v1/``, whatever the method."""
        path = request.target.lower()
        if request.method == "GET" and path == "/v1/models":
            return failure(400, "Missing model name in request.")
        if path.startswith("/v1/") or path == "/v1":
            return failure(400, f"Malformed request: {request.method} {request.target}")
        return None

    def _versioned(self, make: Callable[[ModelRef], Handler]) -> Callable[..., Handler]:
        """Return a maker that takes the path's parts, and refuses what upstream refuses."""

        def made(name: str, version: str | None = None, label: str | None = None) -> Handler:
            if version is not None and int(version) > _MAX_VERSION:
                # Upstream leaves before it writes the error: the body is empty.
                return lambda _: Response(400, b"")
            inner = make(ModelRef(name, None if version is None else int(version), label))

            def handler(request: Request) -> Response:
                if "?" in request.target:
                    raise InvalidInput(f"Malformed request: {request.method} {request.target}")
                return inner(request)  # type: ignore[return-value]  # ours are synchronous

            return handler

        return made

    # -- predict -------------------------------------------------------------------------------

    def _predict(self, ref: ModelRef) -> Handler:
        engine = self._engine
        decoders: dict[str, tuple[Signature, requests.PredictDecoder]] = {}

        def handler(request: Request) -> Response:
            document = requests.parse_object(request.body)
            name = requests.signature_name_of(document)
            variant = tfserving_lookup.acquire(engine, ref)
            try:
                decoder = _decoder(decoders, variant, name)
                inputs, by_row = decoder.decode(document)
                outputs = score(variant, inputs, name or DEFAULT_SIGNATURE).outputs
            finally:
                variant.release()
            body = responses.predictions(outputs) if by_row else responses.outputs(outputs)
            return Response(200, body)

        return handler

    # -- what is there -------------------------------------------------------------------------

    def _metadata(self, ref: ModelRef) -> Handler:
        def handler(_: Request) -> Response:
            variant = tfserving_lookup.acquire(self._engine, ref)
            try:
                body = metadata.metadata_json(
                    ref.name, variant.version, variant.servable.signatures
                )
            finally:
                variant.release()
            return Response(200, body)

        return handler

    def _status(self, ref: ModelRef) -> Handler:
        def handler(_: Request) -> Response:
            model = self._engine.table.models.get(ref.name)
            known = () if model is None else model.statuses
            return Response(200, status.status_json(status.choose(ref.name, known, ref.version)))

        return handler


def _path(end: str) -> re.Pattern[str]:
    return re.compile(_MODEL + end, re.IGNORECASE)


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
