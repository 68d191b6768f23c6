"""How many workers there should be: a pure decision from samples, with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

BUSY = 0.85
"""Busier than this: there are too few workers."""

SPARE = 0.5
"""Less busy than this even with one worker fewer: there is one too many."""

USEFUL = 0.3
"""Less busy than this: if answers are late all the same, more workers would not help."""

EASY = 0.7
"""Share of the target p95 above which no worker leaves."""

FEWEST_ANSWERS = 20
"""The p95 of fewer answers is not used."""

MOST_PATIENCE = 64


@dataclass(frozen=True, slots=True)
class Bounds:
    """
    What the operator asked for.

    Args:
        least, most: How many workers there may be.
        target_p95_ms: The latency to keep; 0: none, so that only queues and busy workers count.
        hot_s: How long there must have been too few workers before more are started.
        calm_s: How long there must have been too many before one leaves.
    """

    least: int
    most: int
    target_p95_ms: float = 0.0
    hot_s: float = 2.0
    calm_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Sample:
    """
    What the workers did lately.

    Args:
        at: The end of the span, as time.monotonic().
        answers, p95_ms: How many answers there were, and the p95 of their latency.
        busy: How busy a worker was, 0 to 1: its share of one core, or of the threads of its
            fullest lane, whichever is more. The mean over the workers.
        waiting: Calls that wait for a thread, in all workers together.
        refused: Calls that were refused because too many waited.
    """

    at: float
    answers: int = 0
    p95_ms: float = 0.0
    busy: float = 0.0
    waiting: float = 0.0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """A change: when (time.monotonic()), from how many workers to how many, and why."""

    at: float
    before: int
    after: int
    reason: str


def decide(
    samples: Sequence[Sample],
    workers: int,
    made: Sequence[Decision],
    bounds: Bounds,
    now: float,
) -> Decision | None:
    """
    Return the change to make, or None: there are as many workers as there should be.

    Workers come fast: when every sample of the last ``hot_s`` shows too few, one is added, or as
    many again where calls are refused or the p95 is twice the target. They leave slowly, one at a
    time: when every sample of ``calm_s`` shows that one fewer would do. The same time must have
    passed since the last change. If a worker that left has to be replaced within ``calm_s``, that
    time doubles for those that leave after it.

    Between "too few" and "too many" lies a wide band in which nothing changes, so that noise
    starts and stops no workers.

    Args:
        samples: Taken with *workers* workers, in their order.
        made: The decisions so far, in their order.

    >>> busy = [Sample(at, busy=0.9) for at in (8.0, 9.0, 10.0)]
    >>> decide(busy, 1, [], Bounds(1, 4), now=10.0)
    Decision(at=10.0, before=1, after=2, reason='workers are 90 % busy')
    """
    changed_at = made[-1].at if made else float("-inf")
    hot = _last(samples, bounds.hot_s, now)
    few = [_too_few(each, workers, bounds) for each in hot]
    if workers < bounds.most and few and all(few) and now - changed_at >= bounds.hot_s:
        more = workers if _urgent(hot[-1], bounds) else 1
        return Decision(now, workers, min(workers + more, bounds.most), few[-1])
    calm_s = bounds.calm_s * _patience(made, bounds)
    calm = _last(samples, calm_s, now)
    many = [_one_too_many(each, workers, bounds) for each in calm]
    if workers > bounds.least and many and all(many) and now - changed_at >= calm_s:
        busiest = max(each.busy for each in calm)
        why = f"for {calm_s:g} s workers were {busiest * 100:.0f} % busy at most, and none waited"
        return Decision(now, workers, workers - 1, why)
    return None


def _last(samples: Sequence[Sample], span_s: float, now: float) -> Sequence[Sample]:
    """Return the samples of the last *span_s*; none where they do not reach back so far."""
    if not samples or samples[0].at > now - span_s:
        return ()
    return [each for each in samples if each.at >= now - span_s]


def _too_few(sample: Sample, workers: int, bounds: Bounds) -> str:
    """Return why there are too few workers, or ""."""
    if sample.refused:
        return f"{sample.refused} calls were refused because too many waited"
    late = bounds.target_p95_ms and sample.p95_ms > bounds.target_p95_ms
    if late and sample.busy >= USEFUL and sample.answers >= FEWEST_ANSWERS:
        return f"the p95 is {sample.p95_ms:.0f} ms; the target is {bounds.target_p95_ms:g} ms"
    if sample.waiting >= workers:
        return f"{sample.waiting:.0f} calls wait"
    if sample.busy > BUSY:
        return f"workers are {sample.busy * 100:.0f} % busy"
    return ""


def _urgent(sample: Sample, bounds: Bounds) -> bool:
    target = bounds.target_p95_ms
    return bool(sample.refused) or (target > 0 and sample.p95_ms > 2 * target)


def _one_too_many(sample: Sample, workers: int, bounds: Bounds) -> bool:
    late = bounds.target_p95_ms and sample.p95_ms > EASY * bounds.target_p95_ms
    # A late p95 while workers are all but idle is the models' own doing.
    if sample.refused or sample.waiting >= 1 or (late and sample.busy >= USEFUL):
        return False
    return workers > 1 and sample.busy * workers / (workers - 1) <= SPARE


def _patience(made: Sequence[Decision], bounds: Bounds) -> int:
    """Return how many times ``calm_s`` to wait: twice as many for each worker that was missed."""
    factor = 1
    for left, came in pairwise(made):
        missed = left.after < left.before and came.after > came.before
        if missed and came.at - left.at <= bounds.calm_s * factor:
            factor = min(2 * factor, MOST_PATIENCE)
        elif left.after < left.before:
            factor = 1
    return factor
