"""The policy of versions, as a table of what is there, what is wanted, and what comes next."""

from __future__ import annotations

import pytest

from martlet.serving.settings import Transition
from martlet.serving.versions import Drain, Load, View, next_step, retry_at
from martlet.states import State

START, LOADING, UP, LEAVING, END = State


def view(version: int, state: State, wanted: bool, retry: float | None = None) -> View:
    return View(version, state, wanted, retry)


BOTH = list(Transition)
A, R = [Transition.AVAILABILITY], [Transition.RESOURCE]

CASES = {
    "nothing there, nothing to do": ([], BOTH, None),
    "what is wanted is loaded": ([view(1, START, True)], BOTH, Load(1)),
    "the highest is loaded first": ([view(1, START, True), view(2, START, True)], BOTH, Load(2)),
    "one load at a time": ([view(2, LOADING, True), view(1, START, True)], A, None),
    "what answers and is wanted stays": ([view(1, UP, True)], BOTH, None),
    "the old one answers while the new one waits": (
        [view(1, UP, False), view(2, START, True)], A, Load(2)),
    "the old one answers while the new one loads": (
        [view(1, UP, False), view(2, LOADING, True)], A, None),
    "the old one leaves once the new one answers": (
        [view(1, UP, False), view(2, UP, True)], A, Drain(1)),
    "the old one stays where the new one has failed": (
        [view(1, UP, False), view(2, END, True)], A, None),
    "of two old ones the lower leaves at once": (
        [view(1, UP, False), view(2, UP, False), view(3, LOADING, True)], A, Drain(1)),
    "what nobody wants leaves": ([view(1, UP, False)], BOTH, Drain(1)),
    "for room, the old one leaves first": (
        [view(1, UP, False), view(2, START, True)], R, Drain(1)),
    "for room, the new one waits until the old one is gone": (
        [view(1, LEAVING, False), view(2, START, True)], R, None),
    "for room, the new one loads then": ([view(1, END, False), view(2, START, True)], R, Load(2)),
    "what failed is tried again when due": ([view(1, END, True, retry=9.0)], BOTH, Load(1)),
    "what failed waits until then": ([view(1, END, True, retry=11.0)], BOTH, None),
    "what failed for good stays down": ([view(1, END, True, retry=None)], BOTH, None),
}  # fmt: skip


@pytest.mark.parametrize(("views", "transitions", "step"), CASES.values(), ids=CASES)
def test_the_next_step(views, transitions, step):
    for transition in transitions:
        assert next_step(views, now=10.0, transition=transition) == step


def test_retries_back_off_and_end():
    waits = [retry_at(n, now=100.0) for n in range(1, 8)]
    assert waits == [101.0, 102.0, 104.0, 108.0, 116.0, None, None]
