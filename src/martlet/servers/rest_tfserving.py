"""TensorFlow Serving's REST API: predict, classify, regress, status and metadata.

Source: tensorflow_serving/model_servers/http_rest_api_handler.cc and http_rest_api_util.cc.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from time import perf_counter_ns

from martlet.errors import InvalidInput, MartletError
from martlet.events import NOBODY, Sink
from martlet.names import ModelRef, read_version
from martlet.servable import DEFAULT_SIGNATURE, Servable, check_inputs, form_of
from martlet.servers import tfserving_calls
from martlet.servers.routes import JSON, Handler, Request, Response, Route, failure
from martlet.servers.shortcut import NONE, Form, Layout, Reading, Reply, Shortcuts
from martlet.servers.tfserving_calls import Seat
from martlet.servers.timed import Answer, Timed
from martlet.serving.engine import Engine
from martlet.serving.traffic import Variant
from martlet.tensors import Signature, Tensor, Tensors
from martlet.wire.rows import RowPlan
from martlet.wire.tfserving import inference, metadata, requests, responses, status

_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"


class TFServing:
    """
    The paths under ``/v1/``, over one engine.

    Args:
        engine: Has the models.
        sink: Is told of every answer.
        timeout_s: An answer that takes longer becomes 504.
        cors: Whether browsers of other origins may call.
        shortcuts: Gets the paths whose predicts have a common form.
    """

    def __init__(
        self,
        engine: Engine,
        sink: Sink = NOBODY,
        timeout_s: float = 30.0,
        cors: bool = False,
        shortcuts: Shortcuts = NONE,
    ) -> None:
        self._engine = engine
        self._timed = Timed(engine, sink, timeout_s, shortcuts)
        self._cors = _CORS if cors else ()
        self.routes = [
            Route("POST", _path(":predict"), self._told(self._predict), query=False),
            Route("POST", _path(":classify"), self._scored("classify", _classified), query=False),
            Route("POST", _path(":regress"), self._scored("regress", _regressed), query=False),
            Route("GET", _path("/metadata"), self._told(self._metadata), query=False),
            Route("GET", _path(""), self._told(self._status), query=False),
        ]
        if cors:
            self.routes.append(Route("OPTIONS", re.compile("/v1/.*"), lambda: self._options))

    def unmatched(self, request: Request) -> Response | None:
        """Answer ``Malformed request`` to any other path under ``/v1/``, as upstream does."""
        path = request.target.lower()
        if request.method == "GET" and path == "/v1/models":
            return failure(400, "Missing model name in request.")
        if path.startswith("/v1/") or path == "/v1":
            return failure(400, f"Malformed request: {request.method} {request.target}")
        return None

    # -- calls of a model ----------------------------------------------------------------------

    def _told(self, make: Callable[[ModelRef], Handler]) -> Callable[..., Handler]:
        """Return *make* as a maker of the path's parts, which refuses versions as upstream does."""

        def made(name: str, version: str | None = None, label: str | None = None) -> Handler:
            try:
                number = None if version is None else read_version(version)
            except InvalidInput:
                # Upstream returns before it writes an error text: the body is empty.
                return lambda _: Response(400, b"")
            return make(ModelRef(name, number, label))

        return made

    def _predict(self, ref: ModelRef) -> Handler:
        seat, readers, cors = Seat(self._engine, ref), _Readers(), self._cors

        def call(request: Request) -> Answer:
            try:
                variant = seat.acquire()
            except MartletError:
                # Upstream parses the body before it looks for the model, so bad JSON comes first.
                requests.signature_name_of(requests.parse_object(request.body))
                raise
            try:
                name, inputs, by_row = readers.read(variant.servable, request.body)
                started = perf_counter_ns()
                outputs = variant.servable.predict(inputs, name)
                model_ns = perf_counter_ns() - started
            finally:
                variant.release()
            response = write(outputs, (inputs, by_row))
            return response, variant.version, _rows(inputs), model_ns

        def form(variant: Variant[Servable]) -> Form | None:
            name, plan = readers.usual(variant.servable)
            if plan is None:
                return None
            fields = b"".join(b"%b: %b\r\n" % each for each in cors)
            return Form(name, plan.decode, _REPLIES, write, fields)

        def write(outputs: Tensors, reading: Reading) -> Response:
            by_row = reading[1]
            written = responses.predictions(outputs) if by_row else responses.outputs(outputs)
            return Response(200, written, JSON, cors)

        return self._timed.handler(call, "predict", ref, form)

    def _scored(
        self, api: str, written: Callable[[Variant[Servable], str, Tensor], bytes]
    ) -> Callable[..., Handler]:
        """Return what makes the handler of ``:classify`` or ``:regress``."""

        def make(ref: ModelRef) -> Handler:
            def call(request: Request) -> Answer:
                name, given = _examples(request.body)
                with tfserving_calls.lease(self._engine, ref) as variant:
                    started = perf_counter_ns()
                    body = written(variant, name, given)
                    model_ns = perf_counter_ns() - started
                return Response(200, body, JSON, self._cors), variant.version, len(given), model_ns

            return self._timed.handler(call, api, ref)

        return self._told(make)

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


_REPLIES = (
    Reply(responses.BY_COLUMN, None, b"", b"}", Layout.NESTED),
    Reply(responses.BY_ROW, None, b"", b"}", Layout.NESTED),
)
"""To columns, and to rows."""

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


def _classified(variant: Variant[Servable], name: str, examples: Tensor) -> bytes:
    return inference.classify_json(tfserving_calls.classify(variant, name, examples))


def _regressed(variant: Variant[Servable], name: str, examples: Tensor) -> bytes:
    return inference.regress_json(tfserving_calls.regress(variant, name, examples))


def _examples(body: bytes) -> tuple[str, Tensor]:
    from martlet.wire.tfserving import examples

    document = requests.parse_object(body)
    return requests.signature_name_of(document), examples.examples_of(document)


class _Readers:
    """
    Reads the bodies of one path: by a signature's compiled plan, else by its complete decoder.

    Both are kept by the name that a body gives (or leaves out) and the signature that is called for
    it, which may be the other form of the named one (``Signature.also``). They are made again when
    a version with other signatures answers the path.
    """

    __slots__ = ("_known", "_last")

    def __init__(self) -> None:
        self._known: dict[
            tuple[str, str], tuple[Signature, RowPlan | None, requests.PredictDecoder]
        ] = {}
        self._last = DEFAULT_SIGNATURE, DEFAULT_SIGNATURE

    def usual(self, servable: Servable) -> tuple[str, RowPlan | None]:
        """Return the signature that was last called, and its plan, where there is one."""
        name, called = self._last
        signature = servable.signatures.get(called)
        return called, None if signature is None else self._of(name, called, signature)[1]

    def read(self, servable: Servable, body: bytes) -> tuple[str, dict[str, Tensor], bool]:
        """
        Return the signature to call for *body*, tensors that fit it, and whether they came by row.

        Raises:
            InvalidInput, Unimplemented: as ``PredictDecoder.decode`` and ``check_inputs``.
        """
        # The signature that was called last is tried first, without parsing the document: its plan
        # declines a body that names another.
        called, plan = self.usual(servable)
        found = None if plan is None else plan.decode(body)
        if found is not None:
            return called, *found
        document = requests.parse_object(body)
        given = requests.signature_name_of(document)
        name = given or DEFAULT_SIGNATURE
        if name not in servable.signatures:
            raise InvalidInput(f'Serving signature name: "{name}" not found in signature def')
        called = form_of(servable, name, requests.names_of(document))
        _, _, decoder = self._of(name, called, servable.signatures[called])
        self._last = name, called
        tensors, by_row = decoder.decode(document)
        called, checked = check_inputs(servable, called, tensors)
        return called, checked, by_row

    def _of(
        self, name: str, called: str, signature: Signature
    ) -> tuple[Signature, RowPlan | None, requests.PredictDecoder]:
        found = self._known.get((name, called))
        if found is None or found[0] is not signature:
            plan, decoder = (
                RowPlan.compile(signature, name),
                requests.PredictDecoder(signature, name),
            )
            found = self._known[name, called] = (signature, plan, decoder)
        return found
