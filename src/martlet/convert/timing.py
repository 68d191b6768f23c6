"""How long a call takes: enough to choose by, measured where the model is imported."""

from __future__ import annotations

import time

from martlet.convert.probes import count_rows
from martlet.servable import Servable
from martlet.tensors import Tensors

ROWS = (1, 50, 200)
_BUDGET_S = 0.15
_MOST_CALLS = 400


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
