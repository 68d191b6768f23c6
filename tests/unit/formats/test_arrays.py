"""Light models as plain arrays, beside the library that learnt them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import martlet
from martlet.errors import InvalidInput, UnsupportedModel

RNG = np.random.default_rng(7)
USERS = RNG.normal(size=(60, 4)).astype(np.float32)
ITEMS = RNG.normal(size=(60, 4)).astype(np.float32)
CLICKS = (USERS * ITEMS).sum(axis=1) + RNG.normal(size=60) > 0


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def score(path: Path, users: Any = USERS, items: Any = ITEMS) -> np.ndarray:  # type: ignore[type-arg]
    with martlet.load(path, format="arrays") as model:
        return model.predict({"user": users, "item": items})["score"]


SEEN = {
    ("user", "item"): lambda u, i: np.hstack([u, i]),
    ("product",): lambda u, i: u * i,
    ("dot",): lambda u, i: (u * i).sum(axis=1, keepdims=True),
    ("item", "dot", "user"): lambda u, i: np.hstack([i, (u * i).sum(1, keepdims=True), u]),
}


@pytest.mark.parametrize("inputs", SEEN, ids="+".join)
def test_logistic_regression_scores_as_it_does_in_scikit_learn(
    tmp_path: Path, inputs: tuple[str, ...]
):
    linear = pytest.importorskip("sklearn.linear_model")
    x = SEEN[inputs](USERS, ITEMS)
    learnt = linear.LogisticRegression().fit(x, CLICKS)
    path = saved(
        tmp_path / "m.npz", inputs=np.array(inputs), w0=learnt.coef_.T, b0=learnt.intercept_
    )
    assert score(path) == pytest.approx(learnt.predict_proba(x)[:, 1], abs=1e-6)


@pytest.mark.parametrize("hidden", [(5,), (6, 3)])
def test_a_network_scores_as_it_does_in_scikit_learn(tmp_path: Path, hidden: tuple[int, ...]):
    networks = pytest.importorskip("sklearn.neural_network")
    x = SEEN["user", "item"](USERS, ITEMS)
    learnt = networks.MLPClassifier(hidden, max_iter=60, random_state=0, tol=1.0).fit(x, CLICKS)
    layers = {f"w{n}": w for n, w in enumerate(learnt.coefs_)}
    layers |= {f"b{n}": b for n, b in enumerate(learnt.intercepts_)}
    found = score(saved(tmp_path / "m.npz", **layers))
    assert found == pytest.approx(learnt.predict_proba(x)[:, 1], abs=1e-6)


def test_one_row_of_either_side_is_shared_by_the_other(tmp_path: Path):
    path = saved(tmp_path / "m.npz", inputs=np.array(["dot"]), w0=np.ones((1, 1)), b0=np.zeros(1))
    shared = score(path, USERS[:1])
    assert shared == pytest.approx(score(path, np.repeat(USERS[:1], 60, axis=0)))
    assert score(path, USERS, ITEMS[:1]).shape == (60,)
    assert score(path, USERS[:0], ITEMS[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("users", "items", "says"),
    [
        (USERS[:2], ITEMS[:3], "'user' has 2 rows and 'item' 3"),
        (USERS[:, :2], ITEMS, "'user' has vectors of 2 and 'item' of 4"),
    ],
)
def test_rows_that_do_not_go_together_are_told(tmp_path: Path, users: Any, items: Any, says: str):
    path = saved(tmp_path / "m.npz", inputs=np.array(["dot"]), w0=np.ones((1, 1)), b0=np.zeros(1))
    with pytest.raises(InvalidInput, match=says):
        score(path, users, items)


def test_scores_far_out_are_0_and_1(tmp_path: Path):
    path = saved(tmp_path / "m.npz", inputs=np.array(["dot"]), w0=np.ones((1, 1)), b0=np.zeros(1))
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        found = score(path, np.array([[1000], [-1000]], np.float32), np.ones((1, 1), np.float32))
    assert found.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"inputs": np.array(["x"]), "w0": np.ones((2, 1)), "b0": np.ones(1)}, "'inputs' is"),
        ({"inputs": np.array([], str), "w0": np.ones((2, 1)), "b0": np.ones(1)}, "'inputs' is"),
        ({"w0": np.ones((3, 1)), "b0": np.ones(1)}, "cannot share them"),
        ({"w0": np.ones(2), "b0": np.ones(1)}, "layer 0 needs w0"),
        ({"w0": np.ones((2, 1)), "b0": np.ones(2)}, "layer 0 needs w0"),
        ({"w0": np.ones((2, 1))}, "layer 0 needs w0"),
        ({"b0": np.ones(2)}, "has no layer"),
        ({"w0": np.array([["a"]]), "b0": np.ones(1)}, "layer 0 needs w0"),
        ({"inputs": np.array(["dot"]), "w0": np.ones((3, 1)), "b0": np.ones(1)}, "cannot share"),
        (
            {"w0": np.ones((2, 3)), "b0": np.ones(3), "w1": np.ones((2, 1)), "b1": np.ones(1)},
            "w1 takes 2 values; the layer before gives 3",
        ),
    ],
)
def test_arrays_that_are_no_model_are_refused(tmp_path: Path, arrays: Any, says: str):
    with pytest.raises(UnsupportedModel) as caught:
        score(saved(tmp_path / "m.npz", **arrays))
    assert says in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"\x93NUMPY"])
def test_a_broken_file_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "m.npz"
    path.write_bytes(content)
    with pytest.raises(
        UnsupportedModel, match=r"not (an \.npz that can be read|a whole zip archive)"
    ):
        score(path)
