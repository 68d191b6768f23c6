"""Isolated models' processes: started by a launcher, which may die too."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from martlet.errors import NotAvailable, UnsupportedModel
from martlet.formats import LoadOptions
from martlet.formats.isolated import Isolated
from martlet.formats.launcher import Launcher, launcher_of

PLUGIN = Path(__file__).parents[2] / "faults" / "plugin"
THREADS = 7
"""Of no other test: the launcher of these models is theirs alone, and sees their path."""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PLUGIN), *sys.path]))
    file = tmp_path / "m.faulty"
    file.write_text(json.dumps({"version": 1}))
    yield file
    launcher_of(THREADS).close()


def opened(path: Path) -> Isolated:
    return Isolated("faulty:load", path, LoadOptions(threads=THREADS))


def score(model: Isolated, x: float) -> float:
    return float(model.predict({"x": np.array([x], np.float32)})["score"][0])


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_models_are_children_of_one_launcher_and_yield_to_us(path):
    one, two = opened(path), opened(path)
    launcher = parent_of(one._pid)
    assert launcher == parent_of(two._pid) != os.getpid()
    assert parent_of(launcher) == os.getpid()
    assert os.getpriority(os.PRIO_PROCESS, one._pid) > os.getpriority(os.PRIO_PROCESS, 0)
    assert score(one, 5) == score(two, 5) == 1005
    pid = one._pid
    one.close()
    assert not Path(f"/proc/{pid}").exists()
    assert score(two, 6) == 1006
    two.close()


def test_a_killed_launcher_takes_its_models_along_and_all_come_back(path):
    model = opened(path)
    pid, launcher = model._pid, parent_of(model._pid)
    os.kill(launcher, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(NotAvailable, match="died while it answered"):
        score(model, 5)
    end = time.monotonic() + 20
    while True:
        try:
            assert score(model, 5) == 1005
            break
        except NotAvailable:
            assert time.monotonic() < end
    assert parent_of(model._pid) != launcher
    model.close()


def test_a_model_whose_launcher_is_gone_leaves_by_itself(path):
    model = opened(path)
    os.kill(parent_of(model._pid), signal.SIGKILL)
    end = time.monotonic() + 20
    while Path(f"/proc/{model._pid}").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    with pytest.raises(NotAvailable):
        score(model, 5)
    model.close()


def test_a_process_that_dies_as_it_starts_anew_is_not_the_callers_fault(path):
    model = opened(path)
    path.write_text(json.dumps({"version": 1, "load": "crash"}))
    os.kill(model._pid, signal.SIGKILL)
    for _ in range(3):
        with pytest.raises(NotAvailable):
            score(model, 5)
    model.close()


def test_how_one_ended_is_told(path):
    path.write_text(json.dumps({"version": 1, "load": "crash"}))
    with pytest.raises(UnsupportedModel, match="signal SIGSEGV"):
        opened(path)


def test_who_was_never_started_cannot_be_ended_by_it():
    assert Launcher(1).end(2**22 + 1, 0.0) == -signal.SIGKILL
