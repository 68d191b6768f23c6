"""How long a call takes: enough to choose by, measured where the model is imported."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from martlet.convert.asking.draws import count_rows
from martlet.servable import Servable
from martlet.tensors import Tensors

ROWS = (1, 50, 200)
_BUDGET_S = 0.15
_MOST_CALLS = 400
_ROUND_S = 0.02


def microseconds(servable: Servable, name: str, inputs: Tensors) -> dict[int, float]:
    """
    Return what one call of the signature *name* takes for 1, 50 and 200 of the rows *inputs*.

    The least of many calls: what else runs on the machine only ever adds.
    """
    count = count_rows(inputs)
    found: dict[int, float] = {}
    for rows in ROWS:
        if rows > count:
            break
        few = {n: v[:rows] if v.ndim else v for n, v in inputs.items()}
        servable.predict(few, name)
        best = float("inf")
        until = time.perf_counter() + _BUDGET_S
        for _ in range(_MOST_CALLS):
            begun = time.perf_counter()
            servable.predict(few, name)
            ended = time.perf_counter()
            best = min(best, ended - begun)
            if ended > until:
                break
        found[rows] = best * 1e6
    return found


def gain(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """Return how many times faster, as the geometric mean over the numbers of rows."""
    both = [before[rows] / after[rows] for rows in before if rows in after]
    return float(np.exp(np.mean(np.log(both)))) if both else 0.0


def side_by_side(calls: Mapping[str, Callable[[], object]], rounds: int = 7) -> dict[str, float]:
    """
    Return what one call of each takes, in microseconds: the best round's median.

    The rounds go in turns, so that a machine that is busy for a while is busy for all of them.
    """
    best = dict.fromkeys(calls, float("inf"))
    for call in calls.values():
        call()  # the first pays for what is made on demand
    for _ in range(rounds):
        for name, call in calls.items():
            taken: list[float] = []
            until = time.perf_counter() + _ROUND_S
            while not taken or (time.perf_counter() < until and len(taken) < _MOST_CALLS):
                begun = time.perf_counter()
                call()
                taken.append(time.perf_counter() - begun)
            best[name] = min(best[name], sorted(taken)[len(taken) // 2] * 1e6)
    return best
