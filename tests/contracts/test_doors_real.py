"""Real models of each format behind every door, asked by clients that know their metadata alone."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
from real_models import Real, given_inputs, real_models

import martlet
from journeys.by_metadata import clients
from journeys.running import Server, serving

pytest.importorskip("tritonclient.http")
pytestmark = [pytest.mark.shared, pytest.mark.filterwarnings("ignore")]

# Labels beside probabilities, text and numbers as categories, missing values, colons in names,
# integers of eight bits. MARTLET_DOORS=all adds the libraries that take seconds to start.
CHOSEN = {
    *("iris_bst", "rank_pairwise_mq2008", "ranker_msrank", "classifier_small", "iris_lightgbm"),
    *("sklearn_rf_iris", "own_movielens_lr", "hello_world_int8", "lr_pipeline", "demo"),
}
if os.environ.get("MARTLET_DOORS") == "all":
    CHOSEN |= {"linrelu", "cifar_net", "neumf_ml1m_twin", "ncf_amazon_keras3", "iris_sklearn"}
    CHOSEN |= {"breast_cancer", "multiclass5", "kddcup99", "titanic_ctr", "neumf_ml1m", "airbnb_lr"}
    CHOSEN |= {"vespa_transformer", "vespa_pairwise_ranker", "gbt_pipeline", "mnist_svm"}
KINDS = ("lightgbm", "xgboost", "catboost", "mlflow", "onnx", "sklearn", "tflite", "spark", "mleap")
KINDS += ("torchscript", "keras", "savedmodel")


def chosen() -> list[Real]:
    found = [each.values[0] for each in real_models(*KINDS)]
    return [
        each
        for each in found
        if each is not None
        and each.entry["id"] in CHOSEN
        and each.path.suffix not in (".joblib", ".pkl")
    ]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    words = [word for each in chosen() for word in ("--model", f"{name_of(each)}={each.path}")]
    with serving(*words, "--trusted") as found:
        yield found


def name_of(real: Real) -> str:
    return f"{real.entry['format']}-{real.entry['id']}{real.path.suffix.replace('.', '-')}"


@pytest.mark.parametrize("real", chosen() or real_models(), ids=str)
def test_what_the_metadata_tells_is_enough_to_be_answered(real: Real, server: Server):
    """Each way gives the very numbers that the model gives in one's own process."""
    with martlet.load(real.path, trusted=True) as model:
        given = given_inputs(real, model.signatures["serving_default"])
        signature = model.signatures["serving_default"]
        if signature.also and given.keys() != signature.inputs.keys():
            given = renamed(given, list(signature.inputs))
        shapes = {name: signature.inputs[name].shape for name in given}
        if all(s is not None and given[n].ndim == len(s) + 1 for n, s in shapes.items()):
            given = {name: cases[0] for name, cases in given.items()}
        wanted = model.predict(given)
    for way, client in clients(server, name_of(real)):
        if way == "Open Inference's JSON" and has_nan(given):
            continue  # JSON has no word for it, and tritonclient writes one that is none
        found = client.predict(given)
        assert found.keys() == wanted.keys(), way
        for name, expected in wanted.items():
            same(found[name], expected, f"{way}: {name}")


def renamed(given: dict[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
    """The index's inputs, which are of the signature's other form, under its own names."""
    if list(given) == ["X"] and given["X"].shape[1] == len(names):
        return {name: given["X"][:, at] for at, name in enumerate(names)}
    return dict(zip(names, given.values(), strict=True))


def has_nan(arrays: dict[str, np.ndarray]) -> bool:
    return any(each.dtype.kind == "f" and np.isnan(each).any() for each in arrays.values())


def same(found: np.ndarray, wanted: np.ndarray, what: str) -> None:
    if wanted.dtype == object:
        texts = [each.decode() if isinstance(each, bytes) else each for each in found.flat]
        assert texts == list(wanted.flat), what
    else:
        assert found.dtype == wanted.dtype, what
        np.testing.assert_array_equal(found, wanted, what)
