"""The client over gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from numpy.typing import ArrayLike

from martlet.client.reply import Prediction, error_of
from martlet.client.seam import AsyncClient, Client
from martlet.errors import Code, MartletError
from martlet.names import ModelRef
from martlet.tensors import Tensor
from martlet.wire.openinference import asking
from martlet.wire.openinference.contents import ModelInferRequest, ModelInferResponse
from martlet.wire.openinference.datatypes import dtype_of, from_raw, name_of, to_raw
from martlet.wire.openinference.request import SIGNATURE_NAME
from martlet.wire.protos import message

_SERVICE = "/inference.GRPCInferenceService/"
_OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
_READY_S = 5.0


def _request(model: str, inputs: Mapping[str, ArrayLike], signature_name: str | None) -> Any:
    ref = ModelRef.parse(model)
    which = ref.label if ref.version is None else ref.version
    made = ModelInferRequest(model_name=ref.name, model_version="" if which is None else str(which))
    for name, array in asking.arrays(inputs).items():
        made.inputs.add(name=name, datatype=name_of(name, array), shape=array.shape)
        made.raw_input_contents.append(to_raw(array))
    if signature_name is not None:
        made.parameters[SIGNATURE_NAME].string_param = signature_name
    return made


def _prediction(found: Any) -> Prediction:
    outputs: dict[str, Tensor] = {}
    for each, raw in zip(found.outputs, found.raw_output_contents, strict=True):
        dtype = dtype_of(each.name, each.datatype)
        outputs[each.name] = from_raw(each.name, raw, dtype, list(each.shape))
    version = found.model_version
    return Prediction(outputs, int(version) if version.isdigit() else 0)


def _error(exc: Any) -> MartletError:
    name = exc.code().name
    known = Code[name] if name in Code.__members__ else Code.INTERNAL
    return error_of(known, exc.details() or name)


def _calls(channel: Any) -> tuple[Any, Any]:
    infer = channel.unary_unary(
        f"{_SERVICE}ModelInfer",
        request_serializer=ModelInferRequest.SerializeToString,
        response_deserializer=ModelInferResponse.FromString,
    )
    ready = channel.unary_unary(
        f"{_SERVICE}ServerReady",
        request_serializer=message("inference.ServerReadyRequest").SerializeToString,
        response_deserializer=message("inference.ServerReadyResponse").FromString,
    )
    return infer, ready


def _ready_request() -> Any:
    return message("inference.ServerReadyRequest")()


class GrpcClient(Client):
    """
    A server's gRPC port.

    Args:
        where: ``host:port``.
    """

    def __init__(self, where: str) -> None:
        self._channel = grpc.insecure_channel(where, _OPTIONS)
        self._infer, self._ready = _calls(self._channel)

    def predict(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        timeout_s: float | None = None,
        signature_name: str | None = None,
    ) -> Prediction:
        """Return what *model* answers; as ``Client.predict``."""
        try:
            return _prediction(
                self._infer(_request(model, inputs, signature_name), timeout=timeout_s)
            )
        except grpc.RpcError as exc:
            raise _error(exc) from exc

    def ready(self) -> bool:
        """Return whether the server answers, and with every model that it should."""
        try:
            return bool(self._ready(_ready_request(), timeout=_READY_S).ready)
        except grpc.RpcError:
            return False

    def close(self) -> None:
        """Close its connections."""
        self._channel.close()


class AsyncGrpcClient(AsyncClient):
    """
    A server's gRPC port, for asyncio.

    Args:
        where: ``host:port``.
    """

    def __init__(self, where: str) -> None:
        self._channel = grpc.aio.insecure_channel(where, _OPTIONS)
        self._infer, self._ready = _calls(self._channel)

    async def predict(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        timeout_s: float | None = None,
        signature_name: str | None = None,
    ) -> Prediction:
        """Return what *model* answers; as ``Client.predict``."""
        try:
            return _prediction(
                await self._infer(_request(model, inputs, signature_name), timeout=timeout_s)
            )
        except grpc.RpcError as exc:
            raise _error(exc) from exc

    async def ready(self) -> bool:
        """Return whether the server answers, and with every model that it should."""
        try:
            return bool((await self._ready(_ready_request(), timeout=_READY_S)).ready)
        except grpc.RpcError:
            return False

    async def close(self) -> None:
        """Close its connections."""
        await self._channel.close()
