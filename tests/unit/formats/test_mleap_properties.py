"""MLeap bundles made at random, beside the same stages written with numpy alone.

The evaluators are those of Spark ML folders too.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import martlet
from martlet.errors import InvalidInput

sys.path.insert(0, str(Path(__file__).parent))

from bundles import Node, Tensor, files, write_folder, write_zip

LABELS = ["oslo", "bergen", "é", "", "x y"]
NUMBERS = st.floats(-5, 5)
CITIES = st.sampled_from([*LABELS, "unseen"])


def tensor(values: Any) -> Tensor:
    array = np.asarray(values, float)
    return Tensor(array.ravel(order="F").tolist(), list(array.shape))


@contextmanager
def opened(nodes: list[Node], form: str, zipped: bool) -> Iterator[martlet.Checked]:
    write = write_zip if zipped else write_folder
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / ("m.zip" if zipped else "m"), files(nodes, form))
        with martlet.load(path) as model:
            yield model


def pipeline(data: st.DataObject, unseen: str) -> tuple[list[Node], np.ndarray, float]:
    """Index, one-hot, assemble and score: the nodes, and their coefficients and intercept."""
    width = len(LABELS) if unseen == "keep" else len(LABELS) - 1  # the last is dropped
    weights = np.array(data.draw(st.lists(NUMBERS, min_size=width + 1, max_size=width + 1)))
    intercept = data.draw(NUMBERS)
    sizes = len(LABELS) + (unseen == "keep")
    nodes = [
        Node(
            "index",
            "string_indexer",
            {"labels": LABELS, "handle_invalid": unseen},
            {"input": "city"},
            {"output": "code"},
        ),
        Node(
            "spread",
            "one_hot_encoder",
            {"category_sizes": [sizes], "handle_invalid": "error", "drop_last": True},
            {"input0": "code"},
            {"output0": "vector"},
        ),
        Node(
            "join",
            "vector_assembler",
            {},
            {"input0": "age", "input1": "vector"},
            {"output": "features"},
        ),
        Node(
            "score",
            "logistic_regression",
            {
                "num_classes": 2,
                "coefficients": tensor(weights),
                "intercept": intercept,
                "threshold": 0.5,
            },
            {"features": "features"},
            {"prediction": "prediction", "probability": "probability"},
        ),
    ]
    return nodes, weights, intercept


class TestAPipeline:
    @settings(max_examples=40)
    @given(st.data(), st.sampled_from(["json", "protobuf"]), st.booleans())
    def test_scores_what_its_stages_say(self, data: st.DataObject, form: str, zipped: bool) -> None:
        nodes, weights, intercept = pipeline(data, "keep")
        rows = data.draw(st.lists(st.tuples(NUMBERS, CITIES), max_size=6))
        ages = np.array([age for age, _ in rows], float)
        cities = np.array([city for _, city in rows], object)
        with opened(nodes, form, zipped) as model:
            found = model.predict({"age": ages, "city": cities})
        assert found["prediction"].shape == (len(rows),)
        for at, (age, city) in enumerate(rows):
            raw = intercept + weights[0] * age
            if city in LABELS:
                raw += weights[1 + LABELS.index(city)]
            chance = 1 / (1 + np.exp(-raw))
            np.testing.assert_allclose(found["probability"][at], [1 - chance, chance], rtol=1e-9)
            if abs(raw) > 1e-9:
                assert found["prediction"][at] == float(raw > 0)

    @settings(max_examples=20)
    @given(st.data(), st.sampled_from(["json", "protobuf"]))
    def test_refuses_the_category_that_it_may_not_meet(
        self, data: st.DataObject, form: str
    ) -> None:
        nodes, _, _ = pipeline(data, "error")
        with opened(nodes, form, False) as model:
            model.predict({"age": [1.0], "city": [LABELS[0]]})
            with pytest.raises(InvalidInput, match="unseen"):
                model.predict({"age": [1.0, 2.0], "city": [LABELS[0], "unseen"]})


@pytest.mark.parametrize("form", ["json", "protobuf"])
@pytest.mark.parametrize("kind", ["regression", "classifier"])
def test_a_forest_that_scikit_learn_trained_answers_as_there(kind: str, form: str) -> None:
    ensemble = pytest.importorskip("sklearn.ensemble")
    dice = np.random.default_rng(5)
    x = dice.normal(size=(300, 4)).astype(np.float32)
    classify = kind == "classifier"
    label: Any = x[:, 0] * x[:, 1] + x[:, 2]
    name = "RandomForestClassifier" if classify else "RandomForestRegressor"
    own = getattr(ensemble, name)(n_estimators=7, max_depth=4, random_state=1)
    own.fit(x, np.digitize(label, [-0.5, 0.5]) if classify else label)

    def lines(tree: Any, at: int = 0) -> list[dict[str, Any]]:
        if tree.children_left[at] < 0:
            return [{"type": "leaf", "values": tree.value[at, 0].tolist()}]
        split = {
            "type": "continuous",
            "featureIndex": int(tree.feature[at]),
            "threshold": float(tree.threshold[at]),
        }
        left, right = tree.children_left[at], tree.children_right[at]
        return [{"type": "internal", "split": split}, *lines(tree, left), *lines(tree, right)]

    trees = {f"tree{i}": lines(each.tree_) for i, each in enumerate(own.estimators_)}
    attributes: dict[str, Any] = {"num_features": 4}
    inner = dict(attributes)
    if classify:
        attributes["num_classes"] = 3
    attributes |= {"trees": list(trees), "tree_weights": [1.0] * len(trees)}
    outputs = {"prediction": "prediction"} | ({"probability": "probability"} if classify else {})
    node = Node(
        "forest",
        f"random_forest_{kind}",
        attributes,
        {"features": "features"},
        outputs,
        trees=trees,
        models=dict.fromkeys(trees, ("decision_tree", inner)),
    )
    with opened([node], form, True) as model:
        for rows in (x, x[:1], x[:0]):
            found = model.predict({"features": rows.astype(float)})
            if not len(rows):
                assert found["prediction"].shape == (0,)
            elif classify:
                np.testing.assert_allclose(
                    found["probability"], own.predict_proba(rows), rtol=1e-9, atol=1e-12
                )
            else:
                np.testing.assert_allclose(found["prediction"], own.predict(rows), rtol=1e-9)
