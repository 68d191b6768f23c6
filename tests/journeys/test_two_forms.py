"""A table's rows as one matrix or as named columns: every door takes both, unasked."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

lightgbm = pytest.importorskip("lightgbm")
grpc = pytest.importorskip("grpc")

from martlet.cli import main  # noqa: E402
from martlet.wire.openinference.contents import ModelInferRequest, ModelInferResponse  # noqa: E402
from martlet.wire.tfserving import messages  # noqa: E402

from .running import Server, serving  # noqa: E402

NAMED = ["age", "price", "hour"]
ROWS = np.array([[30, 1.5, 20], [50, 2.5, 7], [20, 9.0, 0]])


def train(names: Any) -> Any:
    pick = np.random.default_rng(5)
    x = pick.uniform(0, 60, (400, 3))
    y = x[:, 0] * 0.1 + x[:, 1] - (x[:, 2] > 12)
    data = lightgbm.Dataset(x, y, feature_name=names)
    return lightgbm.train({"verbose": -1, "num_leaves": 7, "num_threads": 1}, data, 20)


@pytest.fixture(scope="module")
def boosters() -> dict[str, Any]:
    """``named`` has chosen names, so columns are its default; of ``plain`` the matrix is."""
    return {"named": train(NAMED), "plain": train("auto")}


@pytest.fixture(scope="module")
def server(boosters, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, words = tmp_path_factory.mktemp("forms"), []
    for name, booster in boosters.items():
        booster.save_model(folder / f"{name}.txt")
        words += ["--model", f"{name}={folder / f'{name}.txt'}"]
    with serving(*words) as found:
        yield found


@pytest.fixture(params=["named", "plain"])
def asked(request: pytest.FixtureRequest, boosters) -> tuple[str, list[str], np.ndarray]:
    """A model, its columns, and what LightGBM itself says of ROWS."""
    booster = boosters[request.param]
    return request.param, booster.feature_name(), booster.predict(ROWS)


def post(server: Server, path: str, body: Any, **headers: str) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with urllib.request.urlopen(
        urllib.request.Request(f"http://{server.rest}{path}", data, named), timeout=30
    ) as answer:
        return json.loads(answer.read().partition(b"\n")[0])


def bodies(names: list[str]) -> dict[str, Any]:
    columns = {name: ROWS[:, i].tolist() for i, name in enumerate(names)}
    return {
        "rows of a matrix": {"instances": ROWS.tolist()},
        "rows that name the matrix": {"instances": [{"X": row} for row in ROWS.tolist()]},
        "rows of columns": {
            "instances": [dict(zip(names, row, strict=True)) for row in ROWS.tolist()]
        },
        "the matrix": {"inputs": ROWS.tolist()},
        "the matrix by name": {"inputs": {"X": ROWS.tolist()}},
        "columns": {"inputs": columns},
    }


def numbers(found: Any) -> np.ndarray:
    if isinstance(found, list) and found and isinstance(found[0], dict):
        found = [next(iter(row.values())) for row in found]
    if isinstance(found, dict):
        found = next(iter(found.values()))
    return np.ravel(np.array(found, np.float64))


@pytest.mark.parametrize("form", list(bodies(NAMED)))
def test_tensorflow_servings_rest_takes_both(server, asked, form):
    name, columns, expected = asked
    # Twice: the second is read by the plan that the first has left.
    for _ in range(2):
        found = post(server, f"/v1/models/{name}:predict", bodies(columns)[form])
        got = numbers(found.get("predictions", found.get("outputs")))
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_forms_may_alternate(server, asked):
    name, columns, expected = asked
    for _ in range(3):
        for body in bodies(columns).values():
            found = post(server, f"/v1/models/{name}:predict", body)
            got = numbers(found.get("predictions", found.get("outputs")))
            np.testing.assert_allclose(got, expected, rtol=1e-12)


def tensors(columns: list[str], matrix: bool) -> dict[str, np.ndarray]:
    return {"X": ROWS} if matrix else {each: ROWS[:, i] for i, each in enumerate(columns)}


FORMS = pytest.mark.parametrize("matrix", [True, False], ids=["matrix", "columns"])


@FORMS
def test_open_inferences_rest_takes_both(server, asked, matrix):
    name, columns, expected = asked
    inputs = [
        {"name": n, "datatype": "FP64", "shape": list(v.shape), "data": v.ravel().tolist()}
        for n, v in tensors(columns, matrix).items()
    ]
    found = post(server, f"/v2/models/{name}/infer", {"inputs": inputs})
    np.testing.assert_allclose(found["outputs"][0]["data"], expected, rtol=1e-12)


def test_bytes_without_a_name_are_the_matrix(server, asked):
    name, _, expected = asked
    request = urllib.request.Request(
        f"http://{server.rest}/v2/models/{name}/infer",
        ROWS.astype("<f8").tobytes(),
        {"Inference-Header-Content-Length": "0"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        length = int(answer.headers["Inference-Header-Content-Length"])
        # Of a regression both outputs are the same: the score, and the raw score.
        got = np.frombuffer(answer.read()[length:], "<f8")[:3]
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@FORMS
def test_open_inferences_grpc_takes_both(server, asked, matrix):
    name, columns, expected = asked
    request = ModelInferRequest(model_name=name)
    for each, value in tensors(columns, matrix).items():
        one = request.inputs.add(name=each, datatype="FP64", shape=value.shape)
        one.contents.fp64_contents.extend(value.ravel())
    with grpc.insecure_channel(server.grpc) as channel:
        raw = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(
            request.SerializeToString(), timeout=20
        )
    got = ModelInferResponse.FromString(raw).outputs[0].contents.fp64_contents
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@FORMS
def test_tensorflow_servings_grpc_takes_both(server, asked, matrix):
    name, columns, expected = asked
    request = messages.PredictRequest()
    request.model_spec.name = name
    for each, value in tensors(columns, matrix).items():
        tensor = request.inputs[each]
        tensor.dtype = 2
        for size in value.shape:
            tensor.tensor_shape.dim.add(size=size)
        tensor.double_val.extend(value.ravel())
    with grpc.insecure_channel(server.grpc) as channel:
        raw = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")(
            request.SerializeToString(), timeout=20
        )
    found = messages.PredictResponse.FromString(raw)
    output = next(iter(found.outputs.values()))
    np.testing.assert_allclose(output.double_val, expected, rtol=1e-12)
    assert found.model_spec.signature_name == "serving_default"


@FORMS
def test_ranking_takes_both(server, asked, matrix):
    name, columns, expected = asked
    items = {n: v.tolist() for n, v in tensors(columns, matrix).items()}
    found = post(server, f"/v1/models/{name}:rank", {"items": items})
    np.testing.assert_allclose(found["scores"], expected, rtol=1e-12)


@pytest.mark.parametrize("form", list(bodies(NAMED)))
def test_a_file_takes_both(boosters, form, tmp_path):
    boosters["named"].save_model(tmp_path / "m.txt")
    body = json.dumps(bodies(NAMED)[form])
    told = CliRunner().invoke(main, ["predict", str(tmp_path / "m.txt"), body])
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    got = numbers(found.get("predictions", found.get("outputs")))
    np.testing.assert_allclose(got, boosters["named"].predict(ROWS), rtol=1e-12)


def test_what_fits_neither_form_is_refused_in_the_defaults_words(server):
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(server, "/v1/models/named:predict", {"instances": [{"age": 1, "Z": 2}]})
    assert caught.value.code == 400
    assert "does not have named input: Z" in caught.value.read().decode()
