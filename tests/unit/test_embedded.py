"""``martlet.Engine``: the versions and swaps of a server, in one's own process."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

import martlet
from martlet.errors import InvalidInput, ModelNotFound, NotAvailable, Overloaded, UnsupportedModel
from martlet.serving import memory
from martlet.serving.settings import ModelSettings, Transition
from martlet.states import State

ROW = {"user": np.ones((1, 2), np.float32), "item": np.ones((1, 2), np.float32)}


def model(folder: Path, bias: float) -> Path:
    """A logistic regression that scores sigmoid(bias) whatever comes."""
    path = folder / f"{bias}.npz"
    np.savez(path, w0=np.zeros((4, 1), np.float32), b0=np.array([bias], np.float32))
    return path


def score(engine: martlet.Engine, ref: str = "ctr") -> float:
    return float(engine.predict(ref, ROW).outputs["score"][0])


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


def test_a_new_version_takes_over_and_the_old_one_leaves(tmp_path):
    with martlet.Engine() as engine:
        assert engine.load("ctr", model(tmp_path, 0.0)) == 1
        assert score(engine) == 0.5
        assert engine.load("ctr", model(tmp_path, 1.0)) == 2
        assert score(engine) == pytest.approx(sigmoid(1.0))
        states = {status.version: status.state for status in engine.models()["ctr"]}
        assert states[2] is State.AVAILABLE
        with pytest.raises(ModelNotFound):
            score(engine, "ctr@1")


def test_versions_may_stay_and_labels_point_at_them(tmp_path):
    with martlet.Engine() as engine:
        engine.load("ctr", model(tmp_path, 0.0), label="stable")
        engine.load("ctr", model(tmp_path, 1.0), keep=True, label="canary")
        assert (score(engine, "ctr@stable"), score(engine, "ctr@1")) == (0.5, 0.5)
        assert score(engine, "ctr@canary") == score(engine) == pytest.approx(sigmoid(1.0))
        engine.unload("ctr", 2)
        assert score(engine) == 0.5


def test_a_version_that_fails_changes_nothing(tmp_path):
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"not an archive")
    with martlet.Engine() as engine:
        engine.load("ctr", model(tmp_path, 0.0))
        with pytest.raises(UnsupportedModel, match=r"broken\.npz"):
            engine.load("ctr", broken)
        assert score(engine) == 0.5
        engine.load("ctr", model(tmp_path, 1.0))
        assert score(engine) == pytest.approx(sigmoid(1.0))


def test_a_swap_that_keeps_room_opens_every_next_version(tmp_path):
    """The old one is closed before the new one is opened; one that fails brings it back."""
    settings = ModelSettings(transition=Transition.RESOURCE)
    with martlet.Engine() as engine:
        for version in (1, 2, 3):
            path = model(tmp_path, version / 4)
            assert engine.load("ctr", path, settings=settings) == version
            assert score(engine) == pytest.approx(sigmoid(version / 4))
        with pytest.raises(ModelNotFound):
            engine.load("ctr", tmp_path / "nothing", settings=settings)
        assert score(engine) == pytest.approx(sigmoid(3 / 4))


def test_what_was_unloaded_says_so(tmp_path):
    with martlet.Engine() as engine:
        engine.load("ctr", model(tmp_path, 0.0))
        with pytest.raises(ModelNotFound):
            engine.load("ctr", tmp_path / "nothing")
        engine.unload("ctr")
        with pytest.raises(NotAvailable, match="'ctr' answers: it was unloaded"):
            score(engine)


@pytest.mark.parametrize("options", [{"threads": 0}, {"memory_mb": -1}])
def test_what_an_engine_cannot_have_is_refused(options):
    with pytest.raises(InvalidInput, match="wanted are"):
        martlet.Engine(**options)


def large(folder: Path, bias: float, mb: int = 24) -> Path:
    """``model`` by way of so many MB of zeros."""
    path, wide = folder / f"{bias}-large.npz", mb * (1 << 20) // 24
    np.savez(
        path,
        w0=np.zeros((4, wide), np.float32), b0=np.zeros(wide, np.float32),
        w1=np.zeros((wide, 1), np.float32), b1=np.array([bias], np.float32),
    )  # fmt: skip
    return path


def test_models_share_room_for_one_and_each_is_opened_for_who_asks(tmp_path):
    on_demand = ModelSettings(on_demand=True)
    with martlet.Engine() as warm:  # what the first engine of a process loads is there already
        warm.load("warm", large(tmp_path, 0.5))
        score(warm, "warm")
    # Of the limit a sixteenth is kept back: what is left has room for one, not for two. They are
    # large, since what a process of many tests holds comes and goes by tens of megabytes.
    limit_mb = ((memory.held_by(os.getpid()) >> 20) + 180) * 16 // 15
    with martlet.Engine(memory_mb=limit_mb) as engine:
        for name, bias in (("ctr", 0.0), ("cvr", 1.0)):
            engine.load(name, large(tmp_path, bias, mb=120), settings=on_demand)
        for _ in range(2):
            assert score(engine, "cvr") == pytest.approx(sigmoid(1.0))
            assert "next request opens it" in engine.models()["ctr"][0].message
            assert score(engine, "ctr") == 0.5
            assert "next request opens it" in engine.models()["cvr"][0].message


def test_what_fits_nowhere_is_refused_and_nothing_changes(tmp_path):
    with martlet.Engine(memory_mb=8) as engine:
        engine.load("ctr", model(tmp_path, 0.0))
        with pytest.raises(Overloaded, match="may hold 8 MB"):
            engine.load("ctr", model(tmp_path, 1.0), settings=ModelSettings(on_demand=True))
        assert score(engine) == 0.5


def test_a_wrong_golden_example_is_a_failure(tmp_path):
    path = model(tmp_path, 0.0)
    (tmp_path / f"{path.name}.golden.json").write_text(
        '{"examples": [{"inputs": {"user": [[1, 1]], "item": [[1, 1]]}, '
        '"outputs": {"score": [1]}}]}'
    )
    with (
        martlet.Engine() as engine,
        pytest.raises(UnsupportedModel, match=r"'score' at \[0\] is 0.5; 1.0 was"),
    ):
        engine.load("ctr", path)


def test_what_is_not_there_cannot_be_unloaded_and_a_number_is_taken_once(tmp_path):
    with martlet.Engine() as engine:
        engine.load("ctr", model(tmp_path, 0.0), version=7)
        with pytest.raises(InvalidInput, match="version 7 of 'ctr' answers already"):
            engine.load("ctr", model(tmp_path, 0.0), version=7)
        with pytest.raises(ModelNotFound):
            engine.unload("ctr", 8)
        with pytest.raises(ModelNotFound):
            engine.unload("cvr")


@pytest.mark.parametrize("settings", [ModelSettings(), ModelSettings(max_rows=16)])
def test_threads_that_ask_through_swaps_see_only_newer_versions(tmp_path, settings):
    paths = [model(tmp_path, float(bias)) for bias in range(2)]
    failures: list[BaseException] = []
    stop = threading.Event()
    with martlet.Engine() as engine:
        engine.load("ctr", paths[0], settings=settings)

        def ask() -> None:
            newest = 0
            while not stop.is_set():
                try:
                    found = engine.predict("ctr", ROW)
                    assert found.version >= newest, f"{newest}, then {found.version}"
                    newest = found.version
                    bias = float((found.version - 1) % 2)
                    assert float(found.outputs["score"][0]) == pytest.approx(sigmoid(bias))
                except BaseException as exc:
                    failures.append(exc)
                    return

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(1, 30):
            engine.load("ctr", paths[number % 2], settings=settings)
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
