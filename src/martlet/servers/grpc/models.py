"""``tensorflow.serving.ModelService``: the states of versions, and another model config.

Source: tensorflow_serving/model_servers/{model_service_impl,get_model_status_impl}.cc.
"""

from __future__ import annotations

import time
from typing import Any

import grpc

from martlet.errors import Code, InvalidInput
from martlet.servers import tfserving_calls
from martlet.servers.control import Control
from martlet.servers.grpc.method import time_left, unary
from martlet.servers.grpc.prediction import CUT, ref_of
from martlet.serving.engine import Engine
from martlet.wire.tfserving import messages
from martlet.wire.tfserving.config import models_of

SERVICE = "tensorflow.serving.ModelService"


class ModelService:
    """Tells the states of an engine's models, and asks for others."""

    def __init__(self, engine: Engine, control: Control) -> None:
        self._engine = engine
        self._control = control

    def handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        """Return the service's methods by name."""
        return {
            "GetModelStatus": unary(messages.GetModelStatusRequest, self._status, CUT),
            "HandleReloadConfigRequest": unary(messages.ReloadConfigRequest, self._reload, CUT),
        }

    def _status(self, request: Any, context: grpc.ServicerContext) -> Any:
        response = messages.GetModelStatusResponse()
        for each in tfserving_calls.statuses(self._engine, ref_of(request)):
            found = response.model_version_status.add(version=each.version)
            found.state = type(found).State.Value(each.state.value)
            found.status.error_code = 0 if each.error is None else _number(each.error)
            found.status.error_message = each.message
        return response

    def _reload(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.config.WhichOneof("config") != "model_config_list":
            raise InvalidInput(
                "Invalid ServerModelConfig type: Only ModelConfigList is currently supported"
            )
        left = time_left(context)
        until = None if left is None else time.monotonic() + left
        self._control.serve(models_of(request.config) or (), until)
        response = messages.ReloadConfigResponse()
        response.status.error_code = 0
        return response


def _number(code: Code) -> int:
    return int(grpc.StatusCode[code.name].value[0])
