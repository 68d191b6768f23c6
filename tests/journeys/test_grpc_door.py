"""What the gRPC port refuses, and what it is beside the services: a socket, raw messages."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

grpc = pytest.importorskip("grpc")

from martlet.wire.openinference.contents import ModelInferRequest, ModelInferResponse  # noqa: E402

RAW = np.array([[1, 2]], "<f4").tobytes()


def request(**changes: Any) -> Any:
    """A good request for ``sums``, changed."""
    made = ModelInferRequest(model_name="sums")
    one = made.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    one.contents.fp32_contents.extend([1, 2])
    change = changes.pop("change", None)
    if change is not None:
        change(made, one)
    return made


@pytest.fixture
def channel(onnx_server):
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(onnx_server.grpc, options) as found:
        yield found


@pytest.fixture
def infer(channel):
    call = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        request_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
        response_deserializer=ModelInferResponse.FromString,
    )
    return lambda message, **how: call(message, timeout=how.pop("timeout", 20), **how)


def raw(made: Any, one: Any, content: bytes = RAW) -> None:
    one.ClearField("contents")
    made.raw_input_contents.append(content)


def _typed_and_raw(made: Any, one: Any) -> None:
    made.raw_input_contents.append(RAW)


def _wrong_field(made: Any, one: Any) -> None:
    one.contents.int_contents.append(1)


def _set(**fields: Any) -> Any:
    def change(made: Any, one: Any) -> None:
        for name, value in fields.items():
            if name == "shape":
                del one.shape[:]
                one.shape.extend(value)
            else:
                setattr(one, name, value)

    return change


def _twice(made: Any, one: Any) -> None:
    made.inputs.add().CopyFrom(one)


def _outputs(*names: str) -> Any:
    def change(made: Any, one: Any) -> None:
        for name in names:
            made.outputs.add(name=name)

    return change


BAD: dict[str, Any] = {
    "wrong input name": _set(name="y"),
    "duplicate input": _twice,
    "no inputs": lambda made, one: made.ClearField("inputs"),
    "wrong width": _set(shape=[1, 3]),
    "negative size": _set(shape=[-1, 2]),
    "overflowing shape": _set(shape=[2**62, 4]),
    "unknown datatype": _set(datatype="FLOAT"),
    "another datatype": _set(datatype="INT32"),
    "typed contents of another type": _wrong_field,
    "raw and typed together": _typed_and_raw,
    "raw too short": lambda made, one: raw(made, one, RAW[:-1]),
    "raw too long": lambda made, one: raw(made, one, RAW + b"\0"),
    "raw for more inputs than there are": lambda made, one: [raw(made, one), raw(made, one)],
    "unknown output": _outputs("z"),
    "duplicate output": _outputs("sum", "sum"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_request_is_refused_and_the_next_is_answered(infer, case):
    with pytest.raises(grpc.RpcError) as caught:
        infer(request(change=BAD[case]))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, caught.value.details()
    assert infer(request()).outputs[0].contents.fp32_contents == [3.0]


def test_bytes_that_are_no_message_are_refused(infer):
    with pytest.raises(grpc.RpcError) as caught:
        infer(b"\xff\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_the_answer_has_the_requests_form(infer):
    assert infer(request()).outputs[0].contents.fp32_contents == [3.0]
    found = infer(request(change=raw))
    assert found.raw_output_contents == [np.array([3], "<f4").tobytes()]
    assert not found.outputs[0].HasField("contents")


def test_a_message_of_8_mib_passes(infer):
    rows = np.ones((1 << 20, 2), np.float32)
    made = ModelInferRequest(model_name="sums", raw_input_contents=[rows.tobytes()])
    made.inputs.add(name="x", datatype="FP32", shape=rows.shape)
    assert len(infer(made).raw_output_contents[0]) == 4 << 20


def test_a_message_past_the_limit_is_resource_exhausted(infer):
    made = ModelInferRequest(model_name="sums", raw_input_contents=[b"\0" * (65 << 20)])
    with pytest.raises(grpc.RpcError) as caught:
        infer(made)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def steps(count: int) -> Any:
    made = ModelInferRequest(model_name="slow")
    made.inputs.add(name="steps", datatype="INT64", shape=[1]).contents.int64_contents.append(count)
    return made


def test_work_whose_deadline_passed_while_it_waited_is_not_begun(onnx_server, infer, channel):
    began, before = time.monotonic(), onnx_server.cpu_s()
    infer(steps(1200))
    took, alone = time.monotonic() - began, onnx_server.cpu_s() - before
    call = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        request_serializer=lambda m: m.SerializeToString(),
        response_deserializer=ModelInferResponse.FromString,
    )
    # Each takes many times as long as it has; most are late before a thread is free.
    before = onnx_server.cpu_s()
    futures = [call.future(steps(1200), timeout=took / 16) for _ in range(40)]
    codes = {each.code() for each in futures}
    assert codes == {grpc.StatusCode.DEADLINE_EXCEEDED}
    infer(steps(1), timeout=60)
    assert onnx_server.cpu_s() - before < 20 * alone


def test_calls_that_are_cancelled_free_their_work(onnx_server, infer, channel):
    before = onnx_server.cpu_s()
    infer(steps(1200), timeout=60)
    alone = (onnx_server.cpu_s() - before) / 4
    call = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        request_serializer=lambda m: m.SerializeToString(),
        response_deserializer=ModelInferResponse.FromString,
    )
    futures = [call.future(steps(300), timeout=60) for _ in range(60)]
    for each in futures:
        each.cancel()
    before = onnx_server.cpu_s()
    infer(steps(1), timeout=60)
    assert onnx_server.cpu_s() - before < 30 * alone, "most of the sixty were not begun"


def test_health_names_the_services(channel):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    stub = health_pb2_grpc.HealthStub(channel)
    for name in ("", "inference.GRPCInferenceService", "PredictionService"):
        found = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=20)
        assert found.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_lists_and_describes_the_services(channel):
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
        ProtoReflectionDescriptorDatabase,
    )

    found = ProtoReflectionDescriptorDatabase(channel)
    names = set(found.get_services())
    assert names >= {
        "inference.GRPCInferenceService",
        "tensorflow.serving.PredictionService",
        "tensorflow.serving.ModelService",
        "grpc.health.v1.Health",
    }
    for name in names:
        assert found.FindFileContainingSymbol(name).service


def test_a_compressed_message_is_measured_once_it_is_unpacked(infer):
    made = ModelInferRequest(model_name="sums", raw_input_contents=[b"\0" * (80 << 20)])
    with pytest.raises(grpc.RpcError) as caught:
        infer(made, compression=grpc.Compression.Gzip)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert infer(request()).outputs[0].contents.fp32_contents == [3.0]
