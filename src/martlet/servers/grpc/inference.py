"""``inference.GRPCInferenceService``: the Open Inference Protocol over gRPC.

Source: kserve/open-inference-protocol, open_inference_grpc.proto; Triton's grpc_service.proto
for ModelStreamInfer, ModelConfig, ModelStatistics and the repository.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from time import perf_counter_ns
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict

import martlet
from martlet.errors import Code, MartletError
from martlet.events import NOBODY, Sink
from martlet.servers import openinference_calls as calls
from martlet.servers.catalogue import Catalogue
from martlet.servers.grpc.lanes import Lanes
from martlet.servers.grpc.method import stream, time_left, unary
from martlet.servers.grpc.threads import Threads
from martlet.serving.engine import Engine
from martlet.wire.openinference import contents, describe
from martlet.wire.protos import message, pool

SERVICE = "inference.GRPCInferenceService"


class InferenceService:
    """
    Answers from one engine.

    Args:
        engine: Whose models.
        catalogue: What there is, and who changes it.
        lanes: Where calls of models work.
        threads: Those that gRPC answers in.
        sink: Hears of every answer.
    """

    def __init__(
        self,
        engine: Engine,
        catalogue: Catalogue,
        lanes: Lanes,
        threads: Threads,
        sink: Sink = NOBODY,
    ) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._lanes = lanes
        self._threads = threads
        self._sink = sink

    def handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        """Return the service's methods by name."""
        told: dict[str, Callable[[Any], Mapping[str, Any]]] = {
            "ServerLive": lambda _: {"live": True},
            "ServerReady": lambda _: {"ready": self._catalogue.ready()},
            "ModelReady": lambda q: {"ready": self._catalogue.model_ready(_ref(q))},
            "ServerMetadata": lambda _: describe.server_metadata(martlet.__version__),
            "ModelMetadata": lambda q: self._catalogue.metadata(_ref(q)),
            "ModelConfig": lambda q: {"config": self._catalogue.config(_ref(q))},
            "ModelStatistics": lambda q: {
                "model_stats": self._catalogue.statistics(_ref(q) if q.name else None)
            },
            "RepositoryIndex": lambda q: {"models": self._catalogue.index(q.ready)},
        }
        service = pool().FindServiceByName(SERVICE)
        found = {name: _telling(service.methods_by_name[name], tell) for name, tell in told.items()}
        found["ModelInfer"] = unary(contents.ModelInferRequest, self._infer)
        found["ModelStreamInfer"] = stream(
            contents.ModelInferRequest, self._streamed, self._threads
        )
        found["RepositoryModelLoad"] = unary(
            message("inference.RepositoryModelLoadRequest"), self._load
        )
        found["RepositoryModelUnload"] = unary(
            message("inference.RepositoryModelUnloadRequest"), self._unload
        )
        return found

    def _infer(self, given: Any, context: grpc.ServicerContext) -> Any:
        ref = calls.ref_of(given.model_name, given.model_version)
        started = perf_counter_ns()
        version = rows = model_ns = 0
        code: Code | None = None

        def work() -> Any:
            nonlocal version, rows, model_ns
            with self._engine.lease(ref) as variant:
                version = variant.version
                asked = contents.read(given)
                found = calls.infer(variant, asked)
                rows, model_ns = found.rows, found.model_ns
                return contents.write(asked, ref.name, str(version), found.outputs)

        try:
            return self._lanes.call(ref, work, context)
        except MartletError as exc:
            code = exc.code
            raise
        finally:
            if ref.name in self._catalogue.models:
                took_ns = perf_counter_ns() - started
                self._sink.answered(
                    "GRPC", "ModelInfer", ref.name, version, code, rows, took_ns, model_ns
                )

    def _streamed(self, given: Any, context: grpc.ServicerContext) -> Any:
        found = message("inference.ModelStreamInferResponse")()
        try:
            found.infer_response.CopyFrom(self._infer(given, context))
        except MartletError as exc:
            # The stream goes on: one bad request is told in its own response.
            found.error_message = str(exc)
            found.infer_response.id = given.id
        return found

    def _load(self, given: Any, context: grpc.ServicerContext) -> Any:
        name = _model_name(given)
        self._catalogue.load(name, given.parameters, _until(context))
        return message("inference.RepositoryModelLoadResponse")(model_name=name, isLoaded=True)

    def _unload(self, given: Any, context: grpc.ServicerContext) -> Any:
        name = _model_name(given)
        self._catalogue.unload(name, _until(context))
        return message("inference.RepositoryModelUnloadResponse")(model_name=name, isUnloaded=True)


def _telling(method: Any, tell: Callable[[Any], Mapping[str, Any]]) -> grpc.RpcMethodHandler:
    """Return the handler of a method whose response is a plain value."""
    request_type = message(method.input_type.full_name)
    response_type = message(method.output_type.full_name)

    def answer(given: Any, context: grpc.ServicerContext) -> Any:
        return ParseDict(dict(tell(given)), response_type())

    return unary(request_type, answer)


def _ref(given: Any) -> Any:
    return calls.ref_of(given.name, given.version)


def _model_name(given: Any) -> str:
    # KServe's message has the model's name in field 1, where Triton's has the repository's.
    return str(given.model_name or given.repository_name)


def _until(context: grpc.ServicerContext) -> float | None:
    left = time_left(context)
    return None if left is None else time.monotonic() + left
