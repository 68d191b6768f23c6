"""An isolated model that a loop asks holds it up for a moment at most; the answer is not lost."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from martlet import deadline
from martlet.deadline import HeldUp
from martlet.formats import LoadOptions
from martlet.formats.isolated.launcher import launcher_of
from martlet.formats.isolated.owed import Owed
from martlet.formats.isolated.servable import Isolated

PLUGIN = Path(__file__).parents[2] / "faults" / "plugin"
THREADS = 6
"""Of no other test: the launcher of these models is theirs alone, and sees their path."""


class Place:
    """A model, and whether a loop is what asks it."""

    def __init__(self, path: Path, begun: Path) -> None:
        self.model = Isolated("faulty:load", path, LoadOptions(threads=THREADS))
        self.on_loop = False
        self._begun = begun

    def score(self, x: float) -> float:
        return float(self.model.predict({"x": np.array([x], np.float32)})["score"][0])

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.model._pid, number)

    @property
    def calls(self) -> list[str]:
        return self._begun.read_text().splitlines()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PLUGIN), *sys.path]))
    monkeypatch.setattr(deadline, "_loops", [])
    begun, file = tmp_path / "begun", tmp_path / "m.faulty"
    begun.touch()
    file.write_text(json.dumps({"version": 1, "begun": str(begun)}))
    made = Place(file, begun)
    loop = threading.get_ident()
    deadline.spare(lambda: made.on_loop and threading.get_ident() == loop)
    yield made
    made.model.close()
    launcher_of(THREADS).close()


def test_who_asks_the_same_next_is_given_the_answer(place):
    place.signal(signal.SIGSTOP)
    place.on_loop = True
    with pytest.raises(HeldUp):
        place.score(5)
    with pytest.raises(HeldUp):
        place.score(5)
    place.on_loop = False
    place.signal(signal.SIGCONT)
    assert place.score(5) == 1005
    assert place.calls == ["[5.0]"]


def test_who_asks_something_else_next_is_given_its_own(place):
    place.signal(signal.SIGSTOP)
    place.on_loop = True
    with pytest.raises(HeldUp):
        place.score(5)
    place.on_loop = False
    place.signal(signal.SIGCONT)
    assert place.score(6) == 1006
    assert place.score(5) == 1005
    assert place.calls == ["[5.0]", "[6.0]", "[5.0]"]


def test_a_loop_waits_for_nobody_elses_call(place):
    waiting = threading.Thread(target=place.score, args=(5,))
    place.signal(signal.SIGSTOP)
    waiting.start()
    while not place.model._lock.locked():
        pass
    place.on_loop = True
    with pytest.raises(HeldUp):
        place.score(6)
    place.on_loop = False
    place.signal(signal.SIGCONT)
    waiting.join()
    assert place.score(6) == 1006
    assert place.calls == ["[5.0]", "[6.0]"]


@pytest.mark.parametrize(
    ("asked", "same"),
    [
        (np.array([1.0, np.nan]), True),
        (np.array([1.0, 0.0]), False),
        (np.array([[1.0, np.nan]]), False),
        (np.array([1.0, np.nan], np.float32), False),
    ],
)
def test_the_same_question_is_the_same_to_the_last_bit(asked, same):
    owed = Owed.of({"x": np.array([1.0, np.nan])}, "serving_default")
    assert owed.answers({"x": asked}, "serving_default") is same
    assert not owed.answers({"x": asked}, "another")
    assert not owed.answers({"x": asked, "y": asked}, "serving_default")
    words = Owed.of({"x": np.array(["a", None], object)}, "serving_default")
    assert words.answers({"x": np.array(["a", None], object)}, "serving_default")
    assert not words.answers({"x": np.array(["a", "b"], object)}, "serving_default")
