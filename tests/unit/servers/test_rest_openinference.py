"""The Open Inference Protocol over REST: what is answered, and what is refused; no socket."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Awaitable, Mapping
from typing import Any

import numpy as np
import pytest

from martlet.errors import MartletError
from martlet.monitor.counts import Counts
from martlet.servable import DEFAULT_SIGNATURE
from martlet.servers.catalogue import Catalogue
from martlet.servers.control import Control
from martlet.servers.failures import failed
from martlet.servers.rest_openinference import OpenInference
from martlet.servers.routes import Request, Response, Router
from martlet.serving.engine import Engine
from martlet.serving.traffic import Model, Table, Variant
from martlet.states import State, VersionStatus
from martlet.tensors import DType, Signature, Spec, Tensors


def at_once(answer: Response | Awaitable[Response]) -> Response:
    """Return the answer, waited for where the path's pace is not known yet."""
    if isinstance(answer, Response):
        return answer

    async def wait() -> Response:
        return await answer

    return asyncio.run(wait())


class Sums:
    """FP32 [-1, 2] to the sum of each row, and the rows as they came; or to each row's greatest."""

    def __init__(self) -> None:
        spec = Spec("x", DType.FLOAT32, (-1, 2))
        outputs = [Spec("sum", DType.FLOAT32, (-1,)), Spec("same", DType.FLOAT32, (-1, 2))]
        self.signatures: Mapping[str, Signature] = {
            DEFAULT_SIGNATURE: Signature.of([spec], outputs),
            "greatest": Signature.of([spec], [Spec("max", DType.FLOAT32, (-1,))]),
        }

    def predict(self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE) -> dict[str, Any]:
        if signature_name == "greatest":
            return {"max": inputs["x"].max(axis=1)}
        return {"sum": inputs["x"].sum(axis=1), "same": inputs["x"]}

    def close(self) -> None:
        pass


class Words:
    """BYTES and INT64 to themselves."""

    def __init__(self) -> None:
        specs = [Spec("word", DType.STRING, (-1,)), Spec("id", DType.INT64, (-1,))]
        self.signatures: Mapping[str, Signature] = {DEFAULT_SIGNATURE: Signature.of(specs, specs)}

    def predict(self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE) -> dict[str, Any]:
        return dict(inputs)

    def close(self) -> None:
        pass


LIMIT = 1 << 20


class Caller:
    def __init__(self) -> None:
        self.counts = Counts()
        engine = Engine()
        states = (VersionStatus(3, State.AVAILABLE),)
        engine.publish(
            Table(
                {
                    "sums": Model("sums", {3: Variant("sums", 3, Sums())}, {"good": 3}, states),
                    "words": Model("words", {3: Variant("words", 3, Words())}, {}, states),
                    "away": Model("away", {}, {}, (VersionStatus(1, State.LOADING),)),
                }
            )
        )
        catalogue = Catalogue(engine, Control(engine, None), self.counts.totals)
        self.router = Router([OpenInference(engine, catalogue, self.counts)], body_bytes=LIMIT)

    def __call__(
        self, method: str, target: str, body: Any = b"", headers: dict[bytes, bytes] | None = None
    ) -> Response:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            found = at_once(self.router.answer(Request(method, target, headers or {}, raw)))
        except MartletError as exc:
            found = failed(exc)
        return found


@pytest.fixture
def ask() -> Caller:
    return Caller()


INFER = "/v2/models/sums/infer"
X = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}
GOOD = {"id": "7", "inputs": [X]}


def header(document: Any, raw: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    text = json.dumps(document).encode()
    return text + raw, {b"inference-header-content-length": str(len(text)).encode()}


class TestInfer:
    @pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4.0]]])
    def test_data_is_flat_or_nested(self, ask, data):
        found = ask("POST", INFER, {"id": "7", "inputs": [X | {"data": data}]})
        assert json.loads(found.body) == {
            "model_name": "sums",
            "model_version": "3",
            "id": "7",
            "outputs": [
                {"name": "sum", "datatype": "FP32", "shape": [2], "data": [3.0, 7.0]},
                {"name": "same", "datatype": "FP32", "shape": [2, 2], "data": [1.0, 2.0, 3.0, 4.0]},
            ],
        }

    def test_only_the_outputs_that_are_asked_for_come_back(self, ask):
        found = ask("POST", INFER, GOOD | {"outputs": [{"name": "sum"}]})
        assert [each["name"] for each in json.loads(found.body)["outputs"]] == ["sum"]

    def test_binary_goes_both_ways(self, ask):
        raw = np.array([[1, 2], [3, 4]], "<f4").tobytes()
        tensor = {k: v for k, v in X.items() if k != "data"}
        tensor["parameters"] = {"binary_data_size": len(raw)}
        outputs = [{"name": "sum", "parameters": {"binary_data": False}}, {"name": "same"}]
        document = {
            "inputs": [tensor],
            "outputs": outputs,
            "parameters": {"binary_data_output": True},
        }
        found = ask("POST", INFER, *header(document, raw))
        length = int(dict(found.headers)[b"Inference-Header-Content-Length"])
        told = json.loads(found.body[:length])
        assert told["outputs"][0]["data"] == [3.0, 7.0]
        assert told["outputs"][1]["parameters"] == {"binary_data_size": 16}
        assert found.body[length:] == raw
        assert found.content_type == b"application/octet-stream"

    def test_a_raw_request_is_the_one_inputs_bytes(self, ask):
        raw = np.array([1, 2, 3, 4], "<f4").tobytes()
        found = ask("POST", INFER, raw, {b"inference-header-content-length": b"0"})
        length = int(dict(found.headers)[b"Inference-Header-Content-Length"])
        assert found.body[length:] == np.array([3, 7, 1, 2, 3, 4], "<f4").tobytes()

    def test_text_and_whole_numbers_are_exact(self, ask):
        inputs = [
            {"name": "word", "shape": [2], "datatype": "BYTES", "data": ["é", ""]},
            {"name": "id", "shape": [2], "datatype": "INT64", "data": [2**63 - 1, -(2**63)]},
        ]
        found = json.loads(ask("POST", "/v2/models/words/infer", {"inputs": inputs}).body)
        assert found["outputs"] == inputs

    def test_bytes_elements_carry_their_lengths(self, ask):
        raw = b"\x02\0\0\0\xff\xfe\0\0\0\0"
        word = {"name": "word", "shape": [2], "datatype": "BYTES"}
        word["parameters"] = {"binary_data_size": len(raw)}
        ids = {"name": "id", "shape": [2], "datatype": "INT64", "data": [1, 2]}
        outputs = [{"name": "word", "parameters": {"binary_data": True}}]
        document = {"inputs": [word, ids], "outputs": outputs}
        found = ask("POST", "/v2/models/words/infer", *header(document, raw))
        assert found.body.endswith(raw)
        refused = ask("POST", "/v2/models/words/infer", *header({"inputs": [word, ids]}, raw))
        assert (refused.status, b"not UTF-8" in refused.body) == (400, True)

    @pytest.mark.parametrize(
        ("encoding", "pack"), [(b"gzip", gzip.compress), (b"deflate", zlib.compress)]
    )
    def test_bodies_and_replies_are_compressed_on_request(self, ask, encoding, pack):
        headers = {b"content-encoding": encoding, b"accept-encoding": encoding}
        found = ask("POST", INFER, pack(json.dumps(GOOD).encode()), headers)
        assert found.status == 200
        assert dict(found.headers)[b"Content-Encoding"] == encoding
        plain = gzip.decompress(found.body) if encoding == b"gzip" else zlib.decompress(found.body)
        assert json.loads(plain)["id"] == "7"

    def test_another_signature_is_asked_by_name(self, ask):
        found = ask("POST", INFER, GOOD | {"parameters": {"signature_name": "greatest"}})
        assert json.loads(found.body)["outputs"] == [
            {"name": "max", "datatype": "FP32", "shape": [2], "data": [2.0, 4.0]}
        ]

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("leaf", "no signature is named 'leaf'; the signatures are 'serving_default', 'gr"),
            (3, "the parameter 'signature_name' must be the name of a signature"),
            ("", "the parameter 'signature_name' must be the name of a signature"),
        ],
    )
    def test_a_signature_that_there_is_not_is_refused(self, ask, name, why):
        found = ask("POST", INFER, GOOD | {"parameters": {"signature_name": name}})
        assert (found.status, why in json.loads(found.body)["error"]) == (400, True)

    def test_a_version_is_a_number_or_a_label(self, ask):
        for version in ("3", "good"):
            assert ask("POST", f"/v2/models/sums/versions/{version}/infer", GOOD).status == 200


def tensor(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{k: v for k, v in (X | changes).items() if v is not ...}]}


BINARY = {"name": "x", "shape": [1, 2], "datatype": "FP32"}


def binary(size: Any, raw: bytes, **more: Any) -> tuple[bytes, dict[bytes, bytes]]:
    return header({"inputs": [BINARY | {"parameters": {"binary_data_size": size}} | more]}, raw)


BAD: dict[str, Any] = {
    "wrong input name": tensor(name="y"),
    "missing input": {"inputs": [{"name": "z", "shape": [1], "datatype": "FP32", "data": [1]}]},
    "duplicate input": {"inputs": [X, X]},
    "wrong width": tensor(shape=[1, 3], data=[1, 2, 3]),
    "wrong rank": tensor(shape=[4]),
    "null in data": tensor(data=[1, None, 3, 4]),
    "a bool among numbers": tensor(data=[1, True, 3, 4]),
    "booleans for floats": tensor(datatype="BOOL", data=[True] * 4),
    "NaN": json.dumps(GOOD).replace("[1, 2, 3, 4]", "[NaN, 2, 3, 4]").encode(),
    "1e400": json.dumps(GOOD).replace("[1, 2, 3, 4]", "[1e400, 2, 3, 4]").encode(),
    "1e39, past FP32": tensor(data=[1e39, 2, 3, 4]),
    "ragged rows": tensor(data=[[1, 2], [3]]),
    "rows of another shape": tensor(data=[[1, 2, 3, 4]]),
    "half nested": tensor(data=[[1, 2], 3, 4]),
    "text in FP32": tensor(data=["1", 2, 3, 4]),
    "too few elements": tensor(data=[1, 2, 3]),
    "overflowing shape": tensor(shape=[2**62, 4]),
    "a zero beside a giant": tensor(shape=[0, 2**62], data=[]),
    "negative size": tensor(shape=[-1, 2]),
    "fractional size": tensor(shape=[2.0, 2]),
    "boolean size": tensor(shape=[True, 4]),
    "shape missing": tensor(shape=...),
    "datatype missing": tensor(datatype=...),
    "unknown datatype": tensor(datatype="FLOAT"),
    "data missing": tensor(data=...),
    "data no list": tensor(data=1),
    "empty inputs": {"inputs": []},
    "no inputs": {},
    "inputs no list": {"inputs": X},
    "unknown output": GOOD | {"outputs": [{"name": "z"}]},
    "duplicate output": GOOD | {"outputs": [{"name": "sum"}, {"name": "sum"}]},
    "id no text": GOOD | {"id": 7},
    "malformed JSON": b'{"inputs": [',
    "array at the root": b"[]",
    "null at the root": b"null",
    "empty body": b"",
    "nested 100,000 deep": b'{"inputs":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "bad UTF-8": b'{"inputs": "\xff"}',
    "raw bytes and no header length": b"\0" * 16,
}
BAD_BINARY: dict[str, tuple[bytes, dict[bytes, bytes]]] = {
    "header length too long": (b"{}", {b"inference-header-content-length": b"3"}),
    "header length negative": (b"{}", {b"inference-header-content-length": b"-1"}),
    "header length no number": (b"{}", {b"inference-header-content-length": b"two"}),
    "header length past int32": (b"{}", {b"inference-header-content-length": b"99999999999"}),
    "size too long": binary(12, b"\0" * 8),
    "size too short": binary(4, b"\0" * 4),
    "size as text": binary("8", b"\0" * 8),
    "size negative": binary(-8, b"\0" * 8),
    "size as a float": binary(8.0, b"\0" * 8),
    "trailing bytes": binary(8, b"\0" * 9),
    "binary and data": binary(8, b"\0" * 8, data=[1, 2]),
    "raw of a wrong size": (b"\0" * 7, {b"inference-header-content-length": b"0"}),
    "broken gzip": (b"\x1f\x8b nonsense", {b"content-encoding": b"gzip"}),
    "cut gzip": (gzip.compress(b"{}")[:-4], {b"content-encoding": b"gzip"}),
}


class TestRefusals:
    @pytest.mark.parametrize("case", BAD)
    def test_a_bad_body_is_400_and_the_next_is_answered(self, ask, case):
        self.refused(ask, BAD[case], None)

    @pytest.mark.parametrize("case", BAD_BINARY)
    def test_a_bad_binary_body_is_400_and_the_next_is_answered(self, ask, case):
        self.refused(ask, *BAD_BINARY[case])

    @staticmethod
    def refused(ask: Caller, body: Any, headers: dict[bytes, bytes] | None) -> None:
        found = ask("POST", INFER, body, headers)
        assert found.status == 400, found.body
        assert list(json.loads(found.body)) == ["error"]
        assert ask("POST", INFER, GOOD).status == 200

    @pytest.mark.parametrize(
        ("target", "status"),
        [
            ("/v2/models/none/infer", 404),
            ("/v2/models/sums/versions/9/infer", 404),
            ("/v2/models/sums/versions/other/infer", 404),
            ("/v2/models/sums/versions/" + "9" * 5000 + "/infer", 400),
            ("/v2/models/away/infer", 503),
        ],
    )
    def test_who_does_not_answer_is_told_apart(self, ask, target, status):
        assert ask("POST", target, GOOD).status == status

    def test_another_method_is_405(self, ask):
        for method, target in (("GET", INFER), ("POST", "/v2"), ("DELETE", "/v2/models/sums")):
            assert ask(method, target).status == 405

    def test_an_unknown_content_encoding_is_415(self, ask):
        assert ask("POST", INFER, GOOD, {b"content-encoding": b"br"}).status == 415

    def test_a_bomb_is_413_before_it_is_unpacked(self, ask):
        for pack in (gzip.compress, zlib.compress):
            name = b"gzip" if pack is gzip.compress else b"deflate"
            body = pack(b"[" + b"0," * (40 * LIMIT))
            assert ask("POST", INFER, body, {b"content-encoding": name}).status == 413

    @pytest.mark.parametrize("name", ["shared_memory_region", "classification"])
    def test_what_we_do_not_have_is_501(self, ask, name):
        body = GOOD | {"outputs": [{"name": "sum", "parameters": {name: 1}}]}
        assert ask("POST", INFER, body).status == 501


class TestDescriptions:
    def test_health_says_what_both_clients_read(self, ask):
        assert json.loads(ask("GET", "/v2/health/live").body) == {"live": True}
        found = ask("GET", "/v2/health/ready")
        assert (found.status, json.loads(found.body)) == (503, {"ready": False, "live": True})
        assert ask("GET", "/v2/models/sums/ready").status == 200
        assert ask("GET", "/v2/models/away/ready").status == 503

    def test_metadata_gives_datatypes_and_shapes(self, ask):
        found = json.loads(ask("GET", "/v2/models/sums").body)
        assert found["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
        assert found["versions"] == ["3"]
        for path in ("/v2", "/v2/"):
            assert "binary_tensor_data" in json.loads(ask("GET", path).body)["extensions"]

    def test_configuration_gives_types_and_dims(self, ask):
        found = json.loads(ask("GET", "/v2/models/sums/config").body)
        assert found["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 2]}]

    def test_the_index_takes_an_empty_body(self, ask):
        found = json.loads(ask("POST", "/v2/repository/index").body)
        assert {"name": "away", "version": "1", "state": "LOADING", "reason": ""} in found
        ready = json.loads(ask("POST", "/v2/repository/index", {"ready": True}).body)
        assert {each["name"] for each in ready} == {"sums", "words"}

    def test_statistics_count_what_was_answered(self, ask):
        ask("POST", INFER, GOOD)
        ask("POST", INFER, GOOD)
        [found] = json.loads(ask("GET", "/v2/models/sums/stats").body)["model_stats"]
        assert found["inference_count"] == 4
        assert found["inference_stats"]["success"]["count"] == 2
        assert found["last_inference"] > 0
