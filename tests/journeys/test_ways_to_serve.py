"""Five ways to bring offline results online, each by itself and all of them in one recommender.

Stored results; embeddings and nearest neighbours; embeddings and a light model; a model in an
exchange format; a deep model. Expected scores are arithmetic of this file's own.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from martlet.cli import main

from .running import serving

onnx = pytest.importorskip("onnx")

USERS, ITEMS = [1, 2], [10, 11, 12, 13, 14]
AGES, YEARS = np.array([30.0, 60.0]), np.array([1990.0, 2000.0, 2010.0, 2020.0, 1980.0])
DICE = np.random.default_rng(8)
TASTES, FILMS = DICE.normal(size=(2, 4)).astype("f4"), DICE.normal(size=(5, 4)).astype("f4")
LIGHT = DICE.normal(size=(4, 1)).astype("f4")
BELOW, ABOVE = DICE.normal(size=(8, 6)).astype("f4"), DICE.normal(size=(6, 1)).astype("f4")
NIGHTLY = {1: [(13, 0.9), (10, 0.8), (12, 0.1)], 2: [(14, 0.7)]}
POPULAR = [(11, 50.0), (10, 40.0), (13, 30.0), (12, 20.0), (14, 10.0)]

TABLES = """
[tables]
users = "users"
items = "items"
user_vectors = "user_vectors"
item_vectors = "item_vectors"
nightly = "nightly"
popular = "popular"
"""
STORED = '[[candidates]]\nfrom = "stored"\nlists = "nightly"\n'
NEAREST = '[[candidates]]\nfrom = "neighbours"\nquery = "user_vectors"\nitems = "item_vectors"\n'
POPULAR_LIST = '[[candidates]]\nfrom = "popular"\nlists = "popular"\n'
BY_VECTORS = (
    'features.user = { unit = "user_vectors" }\nfeatures.item = { item = "item_vectors" }\n'
)
DOT = '[[ranking]]\ndot = ["user_vectors", "item_vectors"]\n'
LIGHT_MODEL = f'[[ranking]]\nmodel = "light"\n{BY_VECTORS}'
EXCHANGED = '[[ranking]]\nmodel = "exchanged"\nunits = "users"\nitems = "items"\n'
DEEP = f'[[ranking]]\nmodel = "deep"\n{BY_VECTORS}'

WAYS = {
    "stored": STORED,
    "nearest": NEAREST + DOT,
    "light_model": NEAREST + LIGHT_MODEL,
    "exchange_format": STORED + POPULAR_LIST + EXCHANGED,
    "deep_model": NEAREST + DEEP,
    "all_of_them": STORED + NEAREST + POPULAR_LIST + DEEP + EXCHANGED + LIGHT_MODEL + DOT,
}

PMML = """<PMML xmlns="http://www.dmg.org/PMML-4_4" version="4.4"><Header/>
<DataDictionary><DataField name="age" optype="continuous" dataType="double"/>
<DataField name="year" optype="continuous" dataType="double"/>
<DataField name="score" optype="continuous" dataType="double"/></DataDictionary>
<RegressionModel functionName="regression"><MiningSchema><MiningField name="age"/>
<MiningField name="year"/><MiningField name="score" usageType="target"/></MiningSchema>
<RegressionTable intercept="1.5"><NumericPredictor name="age" coefficient="-0.25"/>
<NumericPredictor name="year" coefficient="0.5"/></RegressionTable></RegressionModel></PMML>"""


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def dot(user: int) -> np.ndarray:
    return FILMS @ TASTES[USERS.index(user)]


def light(user: int) -> np.ndarray:
    return sigmoid((FILMS * TASTES[USERS.index(user)]) @ LIGHT)[:, 0]


def exchanged(user: int) -> np.ndarray:
    return 1.5 - 0.25 * AGES[USERS.index(user)] + 0.5 * YEARS


def deep(user: int) -> np.ndarray:
    both = np.hstack([np.repeat(TASTES[USERS.index(user)][None], 5, axis=0), FILMS])
    return sigmoid(np.maximum(both @ BELOW, 0) @ ABOVE)[:, 0]


MODELS = {"light": light, "exchanged": exchanged, "deep": deep}


def save_net(path):
    """A net over the two vectors, as a framework's exporter leaves one."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Concat", ["user", "item"], ["both"], axis=1),
        helper.make_node("MatMul", ["both", "below"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("MatMul", ["active", "above"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 4]) for n in ("user", "item")],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(BELOW, "below"), numpy_helper.from_array(ABOVE, "above")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    """A server of a registry into which each file was imported by a command."""
    at = tmp_path_factory.mktemp("ways")
    lines = [f"{user},{age}" for user, age in zip(USERS, AGES, strict=True)]
    (at / "users.csv").write_text("\n".join(["user,age", *lines]))
    lines = [f"{item},{year}" for item, year in zip(ITEMS, YEARS, strict=True)]
    (at / "items.csv").write_text("\n".join(["item,year", *lines]))
    np.savez(at / "user_vectors.npz", keys=USERS, vectors=TASTES)
    np.savez(at / "item_vectors.npz", keys=ITEMS, vectors=FILMS)
    (at / "nightly.json").write_text(json.dumps(NIGHTLY))
    (at / "popular.json").write_text(json.dumps({"all": POPULAR}))
    np.savez(at / "light.npz", inputs=np.array(["product"]), w0=LIGHT, b0=np.zeros(1))
    (at / "exchanged.pmml").write_text(PMML)
    save_net(at / "deep.onnx")
    files = sorted(at.iterdir())
    for name, parts in WAYS.items():
        (at / f"{name}.toml").write_text(TABLES + parts)
        files.append(at / f"{name}.toml")
    for file in files:
        words = ["import", str(file), "--name", file.stem, "--as-is", "--root", str(at / "r")]
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, done.output
    with serving("--root", at / "r") as found:
        yield found


def slate(server, way: str, user: int) -> tuple[str, dict[int, float]]:
    status, reply = server.ask(f"/v1/recommenders/{way}:recommend", {"user": user, "size": 5})
    assert status == 200, reply
    return reply["answered_by"], {each["item"]: each["score"] for each in reply["items"]}


def test_stored_results_come_in_their_order(server):
    answered_by, found = slate(server, "stored", 1)
    assert answered_by == "order"
    assert list(found.items()) == [(item, pytest.approx(score)) for item, score in NIGHTLY[1]]


@pytest.mark.parametrize(
    ("way", "by", "scores"),
    [
        ("nearest", "dot", dot),
        ("light_model", "light", light),
        ("exchange_format", "exchanged", exchanged),
        ("deep_model", "deep", deep),
        ("all_of_them", "deep", deep),
    ],
)
@pytest.mark.parametrize("user", USERS)
def test_items_come_by_the_score_that_arithmetic_gives(server, way, by, scores, user):
    answered_by, found = slate(server, way, user)
    expected = dict(zip(ITEMS, scores(user), strict=True))
    assert answered_by == by
    assert list(found) == sorted(expected, key=lambda item: -expected[item])
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_one_recommender_feeds_each_of_its_models(server, model):
    body = {"recommender": "all_of_them", "user": 2, "items": ITEMS}
    status, reply = server.ask(f"/v1/models/{model}:rank", body)
    assert status == 200, reply
    assert reply["scores"] == pytest.approx(MODELS[model](2).tolist(), rel=1e-5)


def test_somebody_unknown_gets_the_popular_list(server):
    answered_by, found = slate(server, "all_of_them", 99)
    assert answered_by == "popular"
    assert list(found) == [item for item, _ in POPULAR]
