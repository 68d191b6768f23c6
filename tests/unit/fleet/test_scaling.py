"""How many workers there should be: quick to come, slow to leave, unmoved by noise."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from martlet.fleet.scaling import Bounds, Decision, Sample, decide

BOUNDS = Bounds(1, 8, target_p95_ms=50.0)


def steady(sample: Sample, seconds: float, now: float = 100.0) -> list[Sample]:
    """*sample* once a second for *seconds* before *now*."""
    return [replace(sample, at=now - n) for n in range(int(seconds), -1, -1)]


def verdict(
    sample: Sample, workers: int, seconds: float = 40, made: tuple[Decision, ...] = ()
) -> int:
    """How many workers there are after *sample* has held for *seconds*."""
    found = decide(steady(sample, seconds), workers, made, BOUNDS, now=100.0)
    return workers if found is None else found.after


LATE = Sample(0, answers=100, p95_ms=80.0, busy=0.7)
CALM = Sample(0, answers=100, p95_ms=20.0, busy=0.1)


class TestTooFew:
    def test_a_late_p95_brings_one_more_and_a_very_late_one_twice_as_many(self):
        assert verdict(LATE, 2) == 3
        assert verdict(replace(LATE, p95_ms=101.0), 2) == 4

    def test_refused_calls_bring_twice_as_many(self):
        assert verdict(replace(CALM, refused=3), 3) == 6

    def test_calls_that_wait_or_busy_workers_bring_one_more_whatever_the_p95(self):
        assert verdict(replace(CALM, waiting=2.5), 2) == 3
        assert verdict(replace(CALM, busy=0.9), 2) == 3

    def test_a_model_that_is_late_by_itself_brings_nobody(self):
        assert verdict(replace(LATE, busy=0.2), 2, seconds=5) == 2

    def test_a_p95_of_a_few_answers_says_nothing(self):
        assert verdict(replace(LATE, answers=5), 2) == 2

    def test_one_second_of_it_is_no_reason(self):
        assert verdict(LATE, 2, seconds=1) == 2
        peak = [*steady(CALM, 10, now=98.0), *steady(LATE, 1)]
        assert decide(peak, 2, [], BOUNDS, now=100.0) is None

    def test_those_that_come_are_waited_for(self):
        came = Decision(99.0, 1, 2, "")
        assert verdict(LATE, 2, made=(came,)) == 2
        assert verdict(LATE, 2, made=(replace(came, at=98.0),)) == 3


class TestTooMany:
    def test_one_leaves_when_one_fewer_would_have_done_for_long(self):
        assert verdict(CALM, 4) == 3
        assert verdict(CALM, 4, seconds=20) == 4

    def test_nobody_leaves_who_would_be_missed(self):
        assert verdict(replace(CALM, busy=0.3), 2) == 2
        assert verdict(replace(CALM, busy=0.3), 4) == 3

    def test_nobody_leaves_while_the_p95_is_near_the_target(self):
        assert verdict(replace(CALM, p95_ms=40.0, busy=0.32), 4) == 4

    def test_a_server_that_nobody_asks_shrinks(self):
        assert verdict(Sample(0), 4) == 3

    def test_one_that_was_missed_makes_the_next_leave_later(self):
        missed = (Decision(10.0, 3, 2, ""), Decision(25.0, 2, 3, ""))
        assert verdict(CALM, 3, seconds=40, made=missed) == 3
        assert verdict(CALM, 3, seconds=60, made=missed) == 2


def live(
    seconds: int,
    bounds: Bounds,
    measure: Callable[[int, int], Sample],
    workers: int = 1,
) -> list[Decision]:
    """A server's life of *seconds*: *measure* says what *workers* do in a second."""
    made: list[Decision] = []
    samples: list[Sample] = []
    for now in range(seconds):
        samples = [*samples[-2000:], replace(measure(now, workers), at=float(now))]
        found = decide(samples, workers, made, bounds, float(now))
        if found is not None:
            made.append(found)
            workers, samples = found.after, []
    return made


@st.composite
def any_bounds(draw: st.DrawFn) -> Bounds:
    least = draw(st.integers(1, 4))
    return Bounds(least, least + draw(st.integers(0, 6)), draw(st.sampled_from([0.0, 50.0])))


@given(any_bounds(), st.integers(0, 2**32))
def test_there_are_never_more_or_fewer_than_was_asked(bounds: Bounds, seed: int):
    pick = random.Random(seed)

    def anything(now: int, workers: int) -> Sample:
        kind = pick.choice([LATE, CALM, replace(CALM, refused=1), replace(CALM, waiting=30.0)])
        return replace(kind, busy=pick.random(), p95_ms=200 * pick.random())

    for each in live(300, bounds, anything, bounds.least):
        assert bounds.least <= each.after <= bounds.most
        assert each.after != each.before
        assert each.reason


@given(st.floats(0.0, 6.0), st.floats(0.0, 0.25), st.integers(0, 2**32))
def test_a_load_that_only_trembles_moves_nobody_to_and_fro(load: float, noise: float, seed: int):
    """*load*: busy workers; what is measured is off by as much as *noise*, for ever."""
    pick = random.Random(seed)

    def measure(now: int, workers: int) -> Sample:
        busy = load / workers
        off = 1 + pick.uniform(-noise, noise)
        p95_ms = 20.0 / max(0.05, 1 - busy)
        waiting = max(0.0, load - workers) * 4
        return Sample(0, 100, p95_ms * off, min(1.0, busy * off), waiting * off)

    made = live(900, BOUNDS, measure)
    turns = sum((a.after > a.before) != (b.after > b.before) for a, b in pairwise(made))
    assert turns <= 2, made
    # Three samples in a row at the edge of their noise may still bring one more, who then stays.
    late = {each.after > each.before for each in made if each.at > 450}
    assert len(late) <= 1, "it goes to and fro for ever"


@given(st.floats(0.5, 6.0))
def test_a_load_is_met_fast_and_given_up_slowly(load: float):
    def measure(now: int, workers: int) -> Sample:
        busy = (load if now < 120 else 0.0) / workers
        return Sample(0, 100, 20.0, min(1.0, busy), max(0.0, load - workers) if now < 120 else 0.0)

    made = live(600, BOUNDS, measure)
    came = [each.at for each in made if each.after > each.before]
    left = [each for each in made if each.after < each.before]
    assert not came or came[-1] <= 30
    assert all(each.before - each.after == 1 for each in left)
    assert all(b.at - a.at >= BOUNDS.calm_s for a, b in pairwise(left))
    assert not made or made[-1].after == 1
