"""Clients that know of a model what the server says of it, and nothing else.

Each is made from a server and a name, asks for the model's metadata in its own protocol, and casts
what it is given to the dtypes and shapes told there. Over Open Inference it is tritonclient.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from martlet.wire.tfserving import messages

from .running import WAIT_S, Server

Arrays = dict[str, np.ndarray]
Told = dict[str, tuple[np.dtype[Any], list[int]]]
"""The dtype and the sizes of each input or output, by its name."""

# tensorflow/core/framework/types.proto; the field of a TensorProto that holds them.
_DT = {
    "DT_FLOAT": (1, "f4", "float_val"),
    "DT_DOUBLE": (2, "f8", "double_val"),
    "DT_INT32": (3, "i4", "int_val"),
    "DT_INT8": (6, "i1", "int_val"),
    "DT_STRING": (7, "O", "string_val"),
    "DT_INT64": (9, "i8", "int64_val"),
    "DT_BOOL": (10, "?", "bool_val"),
}
_BY_NUMBER = {number: (np.dtype(kind), field) for number, kind, field in _DT.values()}


def cast(given: Arrays, told: Told) -> Arrays:
    """*given* as the metadata wants it: its dtypes, and an axis of one where it has one more."""
    found = {}
    for name, (dtype, sizes) in told.items():
        array = given[name].astype(dtype)
        found[name] = array[..., np.newaxis] if array.ndim + 1 == len(sizes) else array
    return found


class TFServingRest:
    """``:predict`` by row (*rows*) or by column."""

    def __init__(self, server: Server, model: str, rows: bool) -> None:
        self._server, self._path, self._rows = server, f"/v1/models/{model}", rows
        status, answer = server.ask(f"{self._path}/metadata")
        assert status == 200, answer
        definition = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
        self._inputs, self._outputs = (
            {
                name: (
                    np.dtype(_DT[each["dtype"]][1]),
                    [int(dim["size"]) for dim in each["tensor_shape"]["dim"]],
                )
                for name, each in definition[side].items()
            }
            for side in ("inputs", "outputs")
        )

    def predict(self, given: Arrays) -> Arrays:
        columns = {name: each.tolist() for name, each in cast(given, self._inputs).items()}
        if not self._rows:
            found = self._post({"inputs": columns}, "outputs")
            if len(self._outputs) == 1:
                found = dict.fromkeys(self._outputs, found)
        else:
            rows = [
                dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
            ]
            told = self._post({"instances": rows}, "predictions")
            several = len(self._outputs) > 1
            found = {n: [row[n] for row in told] if several else told for n in self._outputs}
        return {n: np.array(found[n], dtype) for n, (dtype, _) in self._outputs.items()}

    def _post(self, body: Any, key: str) -> Any:
        status, answer = self._server.ask(f"{self._path}:predict", body)
        assert status == 200, answer
        return answer[key]


class TFServingGrpc:
    """``Predict``, its numbers in ``tensor_content`` (*content*) or in the ``*_val`` fields."""

    def __init__(self, server: Server, model: str, content: bool) -> None:
        import grpc

        self._channel = grpc.insecure_channel(server.grpc)
        self._model, self._content = model, content
        request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = model
        answer = self._call("GetModelMetadata", request, messages.GetModelMetadataResponse)
        packed = messages.SignatureDefMap()
        assert answer.metadata["signature_def"].Unpack(packed)
        self._inputs = {
            name: (_BY_NUMBER[each.dtype][0], [dim.size for dim in each.tensor_shape.dim])
            for name, each in packed.signature_def["serving_default"].inputs.items()
        }

    def predict(self, given: Arrays) -> Arrays:
        request = messages.PredictRequest()
        request.model_spec.name = self._model
        for name, array in cast(given, self._inputs).items():
            tensor = request.inputs[name]
            tensor.dtype = next(n for n, (kind, _) in _BY_NUMBER.items() if kind == array.dtype)
            for size in array.shape:
                tensor.tensor_shape.dim.add(size=size)
            if array.dtype == object:
                tensor.string_val.extend(str(each).encode() for each in array.flat)
            elif self._content:
                tensor.tensor_content = array.tobytes()
            else:
                getattr(tensor, _BY_NUMBER[tensor.dtype][1]).extend(array.ravel().tolist())
        found = {}
        for name, tensor in self._call(
            "Predict", request, messages.PredictResponse
        ).outputs.items():
            dtype, field = _BY_NUMBER[tensor.dtype]
            shape = [dim.size for dim in tensor.tensor_shape.dim]
            found[name] = np.array(list(getattr(tensor, field)), dtype).reshape(shape)
        return found

    def _call(self, method: str, request: Any, kind: Any) -> Any:
        call = self._channel.unary_unary(f"/tensorflow.serving.PredictionService/{method}")
        return kind.FromString(call(request.SerializeToString(), timeout=WAIT_S))


class Triton:
    """tritonclient over HTTP: JSON, or tensors in *binary*."""

    def __init__(self, server: Server, model: str, binary: bool) -> None:
        import tritonclient.http as client

        self._module, self._model = client, model
        self._client = client.InferenceServerClient(server.rest, network_timeout=WAIT_S)
        self._how: dict[str, bool] = {"binary_data": binary}
        self._metadata = self._client.get_model_metadata(model)

    def predict(self, given: Arrays) -> Arrays:
        inputs, outputs = self._tensors(given)
        found = self._client.infer(self._model, inputs, outputs=outputs)
        names = [each["name"] for each in self._metadata["outputs"]]
        return {name: np.asarray(found.as_numpy(name)) for name in names}

    def _tensors(self, given: Arrays) -> tuple[list[Any], list[Any]]:
        from tritonclient.utils import triton_to_np_dtype

        kinds = {each["name"]: each["datatype"] for each in self._metadata["inputs"]}
        told: Told = {
            each["name"]: (np.dtype(triton_to_np_dtype(each["datatype"])), list(each["shape"]))
            for each in self._metadata["inputs"]
        }
        inputs = []
        for name, array in cast(given, told).items():
            tensor = self._module.InferInput(name, list(array.shape), kinds[name])
            text = array.dtype == object
            inputs.append(
                tensor.set_data_from_numpy(
                    array.astype(str).astype(object) if text else array, **self._how
                )
            )
        names = [each["name"] for each in self._metadata["outputs"]]
        return inputs, [self._module.InferRequestedOutput(n, **self._how) for n in names]


class TritonGrpc(Triton):
    """tritonclient over gRPC, which sends raw bytes."""

    def __init__(self, server: Server, model: str) -> None:
        import tritonclient.grpc as client

        self._module, self._model, self._how = client, model, {}
        self._client = client.InferenceServerClient(server.grpc)
        self._metadata = self._client.get_model_metadata(model, as_json=True)


def clients(server: Server, model: str) -> list[tuple[str, Any]]:
    """A client in each protocol and form, by what it is."""
    return [
        ("TensorFlow Serving's rows", TFServingRest(server, model, rows=True)),
        ("TensorFlow Serving's columns", TFServingRest(server, model, rows=False)),
        ("TensorFlow Serving's gRPC, values", TFServingGrpc(server, model, content=False)),
        ("TensorFlow Serving's gRPC, content", TFServingGrpc(server, model, content=True)),
        ("Open Inference's JSON", Triton(server, model, binary=False)),
        ("Open Inference's binary tensors", Triton(server, model, binary=True)),
        ("Open Inference's gRPC", TritonGrpc(server, model)),
    ]
