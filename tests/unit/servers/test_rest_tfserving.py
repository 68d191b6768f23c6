"""TensorFlow Serving's REST dialect over a small model of our own, no socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Mapping
from typing import Any

import numpy as np
import pytest

from martlet.errors import MartletError
from martlet.servable import DEFAULT_SIGNATURE
from martlet.servers.failures import failed
from martlet.servers.rest_tfserving import TFServing
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


class HalfPlusTwo:
    """y = x / 2 + 2, of any shape."""

    def __init__(self) -> None:
        x = Spec("x", DType.FLOAT32, (-1, 1), enforced=False)
        self.signatures: Mapping[str, Signature] = {
            DEFAULT_SIGNATURE: Signature.of([x], [Spec("y", DType.FLOAT32, None)])
        }

    def predict(self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE) -> dict[str, Any]:
        return {"y": inputs["x"] * np.float32(0.5) + np.float32(2)}

    def close(self) -> None:
        pass


@pytest.fixture
def ask():
    model = Model(
        "half",
        variants={2: Variant("half", 2, HalfPlusTwo()), 1: Variant("half", 1, HalfPlusTwo())},
        labels={"stable": 1},
        statuses=(VersionStatus(2, State.AVAILABLE), VersionStatus(1, State.AVAILABLE)),
    )
    engine = Engine()
    engine.publish(Table({"half": model}))
    router = Router([TFServing(engine)])

    def call(method: str, target: str, body: str | bytes = b"") -> tuple[int, Any]:
        raw = body.encode() if isinstance(body, str) else body
        try:
            response = at_once(router.answer(Request(method, target, {}, raw)))
        except MartletError as exc:
            response = failed(exc)
        return response.status, json.loads(response.body) if response.body else None

    return call


PREDICT = "/v1/models/half:predict"


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ('{"instances": [1.0, 2, 5]}', {"predictions": [2.5, 3.0, 4.5]}),
        ('{"instances": [[1.0, 2.0], [3.0, 4.0]]}', {"predictions": [[2.5, 3.0], [3.5, 4.0]]}),
        ('{"instances": [{"x": 1}, {"x": 2}]}', {"predictions": [2.5, 3.0]}),
        ('{"inputs": 2.0}', {"outputs": 3.0}),
        ('{"inputs": []}', {"outputs": []}),
        ('{"inputs": {"x": [[3], [4]], "z": 1}}', {"outputs": [[3.5], [4.0]]}),
        ('{"instances": [2.0]} trailing', {"predictions": [3.0]}),
        ('{"instances": [2.0], "instances": [9.0]}', {"predictions": [3.0]}),
        ('{"signature_name": "", "instances": [2.0]}', {"predictions": [3.0]}),
    ],
)
def test_a_good_body_is_answered_in_its_own_form(ask, body, answer):
    assert ask("POST", PREDICT, body) == (200, answer)


def test_nan_and_the_infinities_travel_as_bare_tokens(ask):
    status, answer = ask("POST", PREDICT, '{"instances": [NaN, -Infinity, 2.0]}')
    assert status == 200
    assert np.isnan(answer["predictions"][0])
    assert answer["predictions"][1:] == [-np.inf, 3.0]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("", "JSON Parse error: The document is empty"),
        ("{", "JSON Parse error: "),
        ('{"instances": [1.0,]}', "JSON Parse error: Invalid value."),
        ('{"instances": [1e400]}', "Number too big"),
        ("[1.0]", "Is not object"),
        ("{}", "Missing 'inputs' or 'instances' key"),
        ('{"instances": [1], "inputs": [1]}', "Not formatted correctly"),
        ('{"instances": 1}', "Expecting 'instances' to be an list/array"),
        ('{"instances": []}', "No values in 'instances' array"),
        ('{"instances": ["x"]}', 'JSON Value: "x" Type: String is not of expected type: float'),
        ('{"instances": [true]}', "not of expected type: float"),
        ('{"instances": [1.0, true]}', "not of expected type: float"),
        ('{"instances": [[1, 2], [3, 4], [5, 6, 7]]}', "Expecting tensor size: 2 but got: 3"),
        ('{"instances": [1, [1]]}', "Expecting shape [] but got: [1]"),
        ('{"instances": [[[1, 2], [3]]]}', "Encountered list at unexpected size: 1"),
        ('{"inputs": [[1, 2], 3]}', "found at incorrect level"),
        ('{"inputs": [1, [2]]}', "Encountered list at unexpected level"),
        ('{"instances": [{"x": 1.0}, [1.0]]}', "Expecting object but got list at item 1"),
        ('{"instances": [1.0, {"x": 1.0}]}', "Expecting value/list but got object at item 1"),
        ('{"instances": [{"z": 1.0}]}', "does not have named input: z"),
        ('{"instances": [{}]}', "keys must be equal to: x"),
        ('{"inputs": {"z": [1]}}', "Missing named input: x in 'inputs' object."),
        ('{"signature_name": 1}', "'signature_name' key must be a string value."),
        ('{"signature_name": "s", "instances": [1]}', 'signature name: "s" not found'),
        ('{"instances":' + "[" * 5000 + "1" + "]" * 5000 + "}", "254 dimensions"),
        ('{"signature_name":' + "[" * 500_000 + "]" * 500_000 + "}", "must be a string"),
    ],
)
def test_a_bad_body_is_refused_in_upstreams_words(ask, body, text):
    status, answer = ask("POST", PREDICT, body)
    assert (status, list(answer)) == (400, ["error"])
    assert text in answer["error"]


@pytest.mark.parametrize(
    ("method", "target", "status", "text"),
    [
        ("POST", "/v1/models/no:predict", 404, "Servable not found for request: Latest(no)"),
        ("POST", "/v1/models/no/versions/5:predict", 404, "Specific(no, 5)"),
        ("POST", "/v1/models/half/labels/z:predict", 400, "Unrecognized servable version label: z"),
        ("GET", "/v1/models/no", 404, "Could not find any versions of model no"),
        ("GET", "/v1/models/half/versions/9", 404, "Could not find version 9 of model half"),
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("GET", "/v1/foo", 400, "Malformed request: GET /v1/foo"),
        ("DELETE", PREDICT, 400, "Malformed request: DELETE"),
        ("POST", PREDICT + "?x=1", 400, "Malformed request"),
    ],
)
def test_what_nobody_answers_is_said_in_upstreams_words(ask, method, target, status, text):
    found, answer = ask(method, target, '{"instances": [1.0]}')
    assert found == status
    assert text in answer["error"]


@pytest.mark.parametrize("version", ["18446744073709551615", "9" * 5000], ids=["20", "5000"])
def test_a_version_past_int64_gets_an_empty_400(ask, version: str):
    assert ask("POST", f"/v1/models/half/versions/{version}:predict") == (400, None)


def test_zeros_before_a_version_count_nothing(ask):
    for zeros in ("0", "0" * 5000):
        status, answer = ask("GET", f"/v1/models/half/versions/{zeros}9")
        assert (status, "Could not find version 9" in answer["error"]) == (404, True)


def test_status_lists_the_versions_highest_first(ask):
    status, answer = ask("GET", "/V1/models/half")
    assert status == 200
    assert [v["version"] for v in answer["model_version_status"]] == ["2", "1"]
    assert answer["model_version_status"][0]["status"] == {"error_code": "OK", "error_message": ""}


def test_metadata_describes_every_signature(ask):
    status, answer = ask("GET", "/v1/models/half/labels/stable/metadata")
    assert status == 200
    assert answer["model_spec"] == {"name": "half", "signature_name": "", "version": "1"}
    definition = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert definition["method_name"] == "tensorflow/serving/predict"
    assert definition["inputs"]["x"] == {
        "name": "x:0",
        "dtype": "DT_FLOAT",
        "tensor_shape": {
            "dim": [{"size": "-1", "name": ""}, {"size": "1", "name": ""}],
            "unknown_rank": False,
        },
    }
    assert definition["outputs"]["y"]["tensor_shape"] == {"dim": [], "unknown_rank": True}
