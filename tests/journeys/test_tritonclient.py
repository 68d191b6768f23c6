"""tritonclient, unchanged and with its default settings: HTTP and gRPC, sync and asyncio."""

from __future__ import annotations

import asyncio
import queue
from typing import Any

import numpy as np
import pytest

httpclient = pytest.importorskip("tritonclient.http")
grpcclient = pytest.importorskip("tritonclient.grpc")

ROWS = np.array([[1, 2], [3, 4], [5, 6.5]], np.float32)
SUMS = [3.0, 7.0, 11.5]
WORDS = np.array(["a", "é", ""], object)
IDS = np.array([1, -(2**63), 2**63 - 1], np.int64)


def tensors(module: Any, arrays: dict[str, np.ndarray], **how: Any) -> list[Any]:
    kinds = {"f": "FP32", "i": "INT64", "O": "BYTES"}
    found = []
    for name, array in arrays.items():
        each = module.InferInput(name, list(array.shape), kinds[array.dtype.kind])
        each.set_data_from_numpy(array, **how)
        found.append(each)
    return found


@pytest.fixture
def http(onnx_server):
    with httpclient.InferenceServerClient(onnx_server.rest) as client:
        yield client


@pytest.fixture
def grpc(onnx_server):
    with grpcclient.InferenceServerClient(onnx_server.grpc) as client:
        yield client


class TestHttp:
    def test_its_defaults_are_binary_both_ways(self, http):
        found = http.infer("sums", tensors(httpclient, {"x": ROWS}))
        assert found.as_numpy("sum").tolist() == SUMS
        assert found.get_response()["outputs"][0]["parameters"]["binary_data_size"] == 12

    def test_json_both_ways(self, http):
        outputs = [httpclient.InferRequestedOutput("sum", binary_data=False)]
        inputs = tensors(httpclient, {"x": ROWS}, binary_data=False)
        found = http.infer("sums", inputs, outputs=outputs, request_id="42", model_version="1")
        assert found.as_numpy("sum").tolist() == SUMS
        assert found.get_response()["id"] == "42"

    @pytest.mark.parametrize("binary", [True, False])
    def test_text_and_whole_numbers(self, http, binary):
        inputs = tensors(httpclient, {"word": WORDS, "id": IDS}, binary_data=binary)
        outputs = [
            httpclient.InferRequestedOutput(n, binary_data=binary) for n in ("word_out", "id_out")
        ]
        found = http.infer("words", inputs, outputs=outputs)
        assert found.as_numpy("id_out").tolist() == IDS.tolist()
        said = found.as_numpy("word_out").tolist()
        assert [w.decode() if isinstance(w, bytes) else w for w in said] == WORDS.tolist()

    @pytest.mark.parametrize("request_by", ["gzip", "deflate", None])
    @pytest.mark.parametrize("reply_by", ["gzip", "deflate", None])
    def test_compressed_either_way(self, http, request_by, reply_by):
        found = http.infer(
            "sums",
            tensors(httpclient, {"x": ROWS}),
            request_compression_algorithm=request_by,
            response_compression_algorithm=reply_by,
        )
        assert found.as_numpy("sum").tolist() == SUMS

    def test_several_at_once(self, http):
        pending = [http.async_infer("sums", tensors(httpclient, {"x": ROWS})) for _ in range(8)]
        assert [each.get_result().as_numpy("sum").tolist() for each in pending] == [SUMS] * 8

    def test_health_metadata_and_statistics(self, http):
        assert http.is_server_live()
        assert http.is_server_ready()
        assert http.is_model_ready("sums")
        assert not http.is_model_ready("nobody")
        assert "binary_tensor_data" in http.get_server_metadata()["extensions"]
        [given] = http.get_model_metadata("sums")["inputs"]
        assert given == {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
        assert http.get_model_config("sums")["input"][0]["data_type"] == "TYPE_FP32"
        [done] = http.get_inference_statistics("sums")["model_stats"]
        assert set(done["inference_stats"]) >= {"success", "fail", "queue", "compute_infer"}

    def test_a_model_leaves_and_comes_back(self, http):
        http.unload_model("words")
        assert not http.is_model_ready("words")
        states = {each["name"]: each["state"] for each in http.get_model_repository_index()}
        assert states["words"] == "UNAVAILABLE"
        http.load_model("words")
        assert http.is_model_ready("words")

    def test_an_error_is_its_exception(self, http):
        with pytest.raises(Exception, match=r"no input is named|is missing") as caught:
            http.infer("sums", tensors(httpclient, {"z": ROWS}))
        assert caught.value.status() == "400"

    def test_asyncio(self, onnx_server):
        aio = pytest.importorskip("tritonclient.http.aio")

        async def ask() -> Any:
            async with aio.InferenceServerClient(onnx_server.rest) as client:
                assert await client.is_server_ready()
                asked = [client.infer("sums", tensors(httpclient, {"x": ROWS})) for _ in range(4)]
                return [each.as_numpy("sum").tolist() for each in await asyncio.gather(*asked)]

        assert asyncio.run(ask()) == [SUMS] * 4


class TestGrpc:
    def test_its_defaults_are_raw(self, grpc):
        found = grpc.infer("sums", tensors(grpcclient, {"x": ROWS}), request_id="42")
        assert found.as_numpy("sum").tolist() == SUMS
        assert found.get_response().id == "42"

    def test_text_and_whole_numbers(self, grpc):
        found = grpc.infer("words", tensors(grpcclient, {"word": WORDS, "id": IDS}))
        assert found.as_numpy("id_out").tolist() == IDS.tolist()
        assert [w.decode() for w in found.as_numpy("word_out")] == WORDS.tolist()

    @pytest.mark.parametrize("by", ["gzip", "deflate"])
    def test_compressed(self, grpc, by):
        found = grpc.infer("sums", tensors(grpcclient, {"x": ROWS}), compression_algorithm=by)
        assert found.as_numpy("sum").tolist() == SUMS

    def test_health_metadata_configuration_and_statistics(self, grpc):
        assert grpc.is_server_live()
        assert grpc.is_server_ready()
        assert grpc.is_model_ready("sums")
        assert grpc.get_server_metadata().name == "martlet"
        assert list(grpc.get_model_metadata("sums").inputs[0].shape) == [-1, 2]
        assert grpc.get_model_config("sums").config.input[0].name == "x"
        assert grpc.get_inference_statistics("sums").model_stats[0].name == "sums"
        assert {each.name for each in grpc.get_model_repository_index().models} >= {"sums"}

    def test_a_stream_answers_each_in_turn(self, grpc):
        answers: queue.Queue[Any] = queue.Queue()
        grpc.start_stream(lambda result, error: answers.put((result, error)))
        for _ in range(3):
            grpc.async_stream_infer("sums", tensors(grpcclient, {"x": ROWS}))
        found = [answers.get(timeout=60) for _ in range(3)]
        grpc.stop_stream()
        assert [each.as_numpy("sum").tolist() for each, error in found if not error] == [SUMS] * 3

    def test_an_error_is_its_exception(self, grpc):
        with pytest.raises(grpcclient.InferenceServerException) as caught:
            grpc.infer("nobody", tensors(grpcclient, {"x": ROWS}))
        assert caught.value.status() == "StatusCode.NOT_FOUND"

    def test_a_deadline_passes(self, grpc):
        steps = tensors(grpcclient, {"steps": np.array([3000], np.int64)})
        with pytest.raises(grpcclient.InferenceServerException) as caught:
            grpc.infer("slow", steps, client_timeout=0.2)
        assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"

    def test_asyncio(self, onnx_server):
        aio = pytest.importorskip("tritonclient.grpc.aio")

        async def ask() -> Any:
            async with aio.InferenceServerClient(onnx_server.grpc) as client:
                assert await client.is_server_ready()
                asked = [client.infer("sums", tensors(grpcclient, {"x": ROWS})) for _ in range(4)]
                return [each.as_numpy("sum").tolist() for each in await asyncio.gather(*asked)]

        assert asyncio.run(ask()) == [SUMS] * 4
