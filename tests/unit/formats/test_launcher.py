"""Isolated models' processes: started by a launcher, which may die too."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from faulty import BUSY, HANG, LOOP, SLOW

from martlet import deadline
from martlet.errors import DeadlineExceeded, NotAvailable, UnsupportedModel
from martlet.formats import LoadOptions
from martlet.formats.isolated.launcher import Launcher, launcher_of
from martlet.formats.isolated.priority import reversible
from martlet.formats.isolated.servable import Isolated

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
    end = time.monotonic() + 60
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
    end = time.monotonic() + 60
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


# -- what yields to everybody --------------------------------------------------------------------

needs_right = pytest.mark.skipif(
    not reversible(), reason="the system does not let a process have its priority back"
)


def policies(model: Isolated) -> set[int]:
    """Of every thread of the model's process."""
    return {os.sched_getscheduler(int(t.name)) for t in Path(f"/proc/{model._pid}/task").iterdir()}


def policies_while(model: Isolated, x: float) -> list[set[int]]:
    """Those of its process while it answers a call of *x*."""
    found, calling = [], threading.Thread(target=score, args=(model, x))
    calling.start()
    while calling.is_alive():
        found.append(policies(model))
        time.sleep(0.005)
    return found


@needs_right
def test_a_call_that_takes_unusually_long_yields_to_everybody_until_it_is_answered(path):
    model = opened(path)
    assert policies(model) == {os.SCHED_OTHER}
    assert {os.SCHED_IDLE} in policies_while(model, BUSY)
    assert score(model, 5) == 1005
    assert policies(model) == {os.SCHED_OTHER}
    # Now it is known that a call may work as long.
    assert {os.SCHED_IDLE} not in policies_while(model, BUSY)
    model.close()


def test_a_call_that_waits_takes_no_core_and_yields_to_nobody(path):
    model = opened(path)
    assert {os.SCHED_IDLE} not in policies_while(model, SLOW)
    model.close()


@needs_right
def test_one_that_yields_and_is_ended_without_having_worked_is_not_held_against_it(path):
    model = opened(path)
    for how in (LOOP, LOOP, HANG, HANG):
        with deadline.within(0.3), pytest.raises(DeadlineExceeded):
            score(model, how)
        assert score(model, 5) == 1005
    assert len(model._troubles) == 2
    model.close()


@needs_right
def test_a_model_that_was_ended_twice_yields_from_the_start(path):
    model = opened(path)
    assert policies(model) == {os.SCHED_OTHER}
    for _ in range(2):
        with deadline.within(0.2), pytest.raises(DeadlineExceeded):
            score(model, LOOP)
        assert score(model, 5) == 1005
    assert policies(model) == {os.SCHED_IDLE}
    assert score(model, 5) == 1005
    assert policies(model) == {os.SCHED_IDLE}, "one answer does not clear it"
    model.close()


def test_a_caller_in_a_hurry_does_not_end_a_model_that_is_as_quick_as_ever(path):
    model = opened(path)
    score(model, SLOW)
    pid = model._pid
    with deadline.within(0.05):
        score(model, SLOW)
    assert model._pid == pid
    model.close()
