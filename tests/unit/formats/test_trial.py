"""A call tried in a copy of the process: whether the process would outlive it."""

from __future__ import annotations

import os
import signal
import time

from martlet.formats.trial import survives


def test_a_call_that_returns_or_raises_is_outlived() -> None:
    assert survives(lambda: None)
    assert survives(lambda: 1 / 0)
    assert survives(lambda: exit(3))


def test_a_call_that_ends_the_process_is_not() -> None:
    assert not survives(lambda: os.kill(os.getpid(), signal.SIGSEGV))
    assert not survives(lambda: os.abort())


def test_a_call_without_an_end_is_not() -> None:
    assert not survives(lambda: time.sleep(600), longest_s=0.1)


def test_what_is_tried_changes_nothing_here() -> None:
    said: list[int] = []
    assert survives(lambda: said.append(1))
    assert said == []
