"""``stat.sample.*`` and ``stat.change.*``: numbers 14000, 37000."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from martlet.formats.pfa.failure import Failure
from martlet.formats.pfa.library import entry
from martlet.formats.pfa.library.arrays import Less, order
from martlet.formats.pfa.library.core import divide
from martlet.formats.pfa.values import Fields

Vector = Sequence[float]


def changed(record: Any, **fields: Any) -> Fields:
    """Return *record* with some fields replaced."""
    return Fields(record.kind, {**record, **fields})


def _moments(x: float, w: float, count: float, mean: float, variance: float) -> tuple[float, ...]:
    total = count + w
    diff = x - mean
    step = divide(diff * w, total)
    moved = variance * count + w * diff * (diff - step)
    return total, mean + step, divide(moved, total)


@entry("stat.sample.update", "double, double, A{count: double} -> A")
def update(x: float, w: float, state: Any) -> Fields:
    """Count, and mean and variance where the record has them."""
    count = state["count"] + w
    if "mean" not in state:
        return changed(state, count=count)
    total, mean, variance = _moments(
        x, w, state["count"], state["mean"], state.get("variance", 0.0)
    )
    if "variance" not in state:
        return changed(state, count=total, mean=mean)
    return changed(state, count=total, mean=mean, variance=variance)


@entry(
    "stat.sample.updateCovariance",
    "[double], double, A{count: double, mean: [double], covariance: [[double]]} -> A; "
    "{double}, double, A{count: {{double}}, mean: {double}, covariance: {{double}}} -> A",
)
def update_covariance(x: Any, w: float, state: Any) -> Fields:
    if type(x) is dict:
        return _update_covariance_map(x, w, state)
    if len(x) < 2:
        raise Failure(14011, "too few components")
    size = len(x)
    if len(state["mean"]) != size or any(len(row) != size for row in state["covariance"]):
        raise Failure(14012, "unequal length arrays")
    total = state["count"] + w
    diff = [a - m for a, m in zip(x, state["mean"], strict=True)]
    mean = [m + divide(d * w, total) for m, d in zip(state["mean"], diff, strict=True)]
    covariance = [
        [
            divide(
                state["covariance"][i][j] * state["count"] + (x[i] - mean[i]) * diff[j] * w, total
            )
            for j in range(size)
        ]
        for i in range(size)
    ]
    return changed(state, count=total, mean=mean, covariance=covariance)


def _update_covariance_map(x: dict[str, float], w: float, state: Any) -> Fields:
    keys = list(dict.fromkeys([*state["mean"], *x]))
    if len(keys) < 2:
        raise Failure(14011, "too few components")
    count = {k: dict(state["count"].get(k, {})) for k in keys}
    covariance = {k: dict(state["covariance"].get(k, {})) for k in keys}
    mean = dict(state["mean"])
    for k in keys:
        for j in keys:
            count[k].setdefault(j, 0.0)
            covariance[k].setdefault(j, 0.0)
    diff = {k: x[k] - mean.get(k, 0.0) for k in x}
    for k in x:
        total = count[k][k] + w
        mean[k] = mean.get(k, 0.0) + divide(diff[k] * w, total)
    for k in x:
        for j in x:
            total = count[k][j] + w
            moved = covariance[k][j] * count[k][j] + (x[k] - mean[k]) * diff[j] * w
            covariance[k][j] = divide(moved, total)
            count[k][j] = total
    return changed(state, count=count, mean=mean, covariance=covariance)


@entry(
    "stat.sample.updateWindow",
    "double, double, [A{x: double, w: double, count: double}], int -> [A]",
)
def update_window(x: float, w: float, state: list[Any], size: int) -> list[Any]:
    if size < 2:
        raise Failure(14020, "windowSize must be at least 2")
    if not state:
        raise Failure(14021, "cannot initialize unrecognized fields")
    last = state[-1]
    count, mean, variance = last["count"], last.get("mean", 0.0), last.get("variance", 0.0)
    kept = state
    while len(kept) >= size:
        gone, kept = kept[0], kept[1:]
        count, mean, variance = _moments(gone["x"], -gone["w"], count, mean, variance)
    count, mean, variance = _moments(x, w, count, mean, variance)
    made: dict[str, Any] = {"x": x, "w": w, "count": count}
    if "mean" in last:
        made["mean"] = mean
    if "variance" in last:
        made["variance"] = variance
    return [*kept, changed(last, **made)]


def _share(value: float, code: int, name: str) -> None:
    if not 0 <= value <= 1:
        raise Failure(code, f"{name} out of range")


@entry("stat.sample.updateEWMA", "double, double, A{mean: double} -> A")
def update_ewma(x: float, alpha: float, state: Any) -> Fields:
    _share(alpha, 14030, "alpha")
    diff = x - state["mean"]
    step = alpha * diff
    if "variance" not in state:
        return changed(state, mean=state["mean"] + step)
    return changed(
        state,
        mean=state["mean"] + step,
        variance=(1.0 - alpha) * (state["variance"] + diff * step),
    )


@entry(
    "stat.sample.updateHoltWinters", "double, double, double, A{level: double, trend: double} -> A"
)
def update_holt_winters(x: float, alpha: float, beta: float, state: Any) -> Fields:
    _share(alpha, 14040, "alpha")
    _share(beta, 14041, "beta")
    level = alpha * x + (1.0 - alpha) * (state["level"] + state["trend"])
    trend = beta * (level - state["level"]) + (1.0 - beta) * state["trend"]
    return changed(state, level=level, trend=trend)


@entry(
    "stat.sample.updateHoltWintersPeriodic",
    "double, double, double, double, "
    "A{level: double, trend: double, cycle: [double], multiplicative: boolean} -> A",
)
def update_holt_winters_periodic(
    x: float, alpha: float, beta: float, gamma: float, state: Any
) -> Fields:
    _share(alpha, 14050, "alpha")
    _share(beta, 14051, "beta")
    _share(gamma, 14052, "gamma")
    if not state["cycle"]:
        raise Failure(14053, "empty cycle")
    first, *rest = state["cycle"]
    known = state["level"] + state["trend"]
    if state["multiplicative"]:
        level = alpha * divide(x, first) + (1.0 - alpha) * known
        now = gamma * divide(x, level) + (1.0 - gamma) * first
    else:
        level = alpha * (x - first) + (1.0 - alpha) * known
        now = gamma * (x - level) + (1.0 - gamma) * first
    trend = beta * (level - state["level"]) + (1.0 - beta) * state["trend"]
    return changed(state, level=level, trend=trend, cycle=[*rest, now])


def _forecast(state: Any, n: int, code: int) -> list[float]:
    steps = [state["level"] + i * state["trend"] for i in range(1, n + 1)]
    if "cycle" not in state or "multiplicative" not in state:
        return steps
    cycle = state["cycle"]
    if not cycle:
        raise Failure(code, "empty cycle")
    season = [cycle[i % len(cycle)] for i in range(n)]
    if state["multiplicative"]:
        return [a * b for a, b in zip(steps, season, strict=True)]
    return [a + b for a, b in zip(steps, season, strict=True)]


_LEVEL = "A{level: double, trend: double}"
entry("stat.sample.forecast1HoltWinters", f"{_LEVEL} -> double")(
    lambda state: _forecast(state, 1, 14060)[0]
)
entry("stat.sample.forecastHoltWinters", f"int, {_LEVEL} -> [double]")(
    lambda n, state: _forecast(state, n, 14070)
)


@entry(
    "stat.sample.fillHistogram",
    "double, double, A{numbins: int, low: double, high: double, values: [double]} -> A; "
    "double, double, A{low: double, binsize: double, values: [double]} -> A; "
    "double, double, A{ranges: [[double]], values: [double]} -> A",
)
def fill_histogram(x: float, w: float, histogram: Any) -> Fields:
    values = list(histogram["values"])
    if "ranges" in histogram:
        return _fill_ranges(x, w, histogram, values)
    low = histogram["low"]
    if "numbins" in histogram:
        count, high = histogram["numbins"], histogram["high"]
        if count != len(values) or count < 0:
            raise Failure(14080, "wrong histogram size")
        if low >= high or not (math.isfinite(low) and math.isfinite(high)):
            raise Failure(14081, "bad histogram range")
        inside, scale = low <= x < high, (high - low) / count if count else math.inf
    else:
        scale = histogram["binsize"]
        if scale < 0 or not math.isfinite(scale):
            raise Failure(14082, "bad histogram scale")
        # This kind grows to the right as values come.
        inside = x >= low and math.isfinite(x)
    index = math.floor((x - low) / scale) if inside else -1
    if inside and "numbins" not in histogram:
        if index > 1 << 24:
            raise Failure(14082, "bad histogram scale")
        values += [0.0] * (index + 1 - len(values))
    return _filled(histogram, values, index, w, x < low, x != x)


def _fill_ranges(x: float, w: float, histogram: Any, values: list[float]) -> Fields:
    ranges = histogram["ranges"]
    if len(ranges) != len(values):
        raise Failure(14080, "wrong histogram size")
    if any(len(each) != 2 or each[0] > each[1] for each in ranges):
        raise Failure(14083, "bad histogram ranges")
    hit = False
    for i, (low, high) in enumerate(ranges):
        if low <= x < high or (low == high == x):
            values[i] += w
            hit = True
    made: dict[str, Any] = {"values": values}
    if "underflow" in histogram and not hit and x == x:
        made["underflow"] = histogram["underflow"] + w
    if "nanflow" in histogram and x != x:
        made["nanflow"] = histogram["nanflow"] + w
    return changed(histogram, **made)


def _filled(
    histogram: Any, values: list[float], index: int, w: float, below: bool, nan: bool
) -> Fields:
    made: dict[str, Any] = {"values": values}
    if 0 <= index < len(values):
        values[index] += w
    else:
        name = "nanflow" if nan else "underflow" if below else "overflow"
        if name in histogram:
            made[name] = histogram[name] + w
        if not nan and not below and "infflow" in histogram and "overflow" not in histogram:
            made["infflow"] = histogram["infflow"] + w
    return changed(histogram, **made)


@entry(
    "stat.sample.fillHistogram2d",
    "double, double, double, A{xnumbins: int, xlow: double, xhigh: double, ynumbins: int, "
    "ylow: double, yhigh: double, values: [[double]]} -> A",
)
def fill_histogram_2d(x: float, y: float, w: float, histogram: Any) -> Fields:
    values = [list(row) for row in histogram["values"]]
    sizes = histogram["xnumbins"], histogram["ynumbins"]
    if len(values) != sizes[0] or any(len(row) != sizes[1] for row in values):
        raise Failure(14090, "wrong histogram size")
    at = []
    for v, count, low, high in (
        (x, sizes[0], histogram["xlow"], histogram["xhigh"]),
        (y, sizes[1], histogram["ylow"], histogram["yhigh"]),
    ):
        if low >= high:
            raise Failure(14091, "bad histogram range")
        inside = low <= v < high
        at.append(math.floor(count * (v - low) / (high - low)) if inside else -1)
    if min(at) >= 0:
        values[at[0]][at[1]] += w
    return changed(histogram, values=values)


@entry("stat.sample.fillCounter", "string, double, A{values: {double}} -> A")
def fill_counter(x: str, w: float, counter: Any) -> Fields:
    values = {**counter["values"], x: counter["values"].get(x, 0.0) + w}
    return changed(counter, values=values)


@entry("stat.sample.topN", "A, [A], int, fn(A, A -> boolean) -> [A]")
def top_n(x: Any, top: list[Any], n: int, less: Less) -> list[Any]:
    return sorted([*top, x], key=order(less), reverse=True)[:n]


# -- change detection --------------------------------------------------------------------------


@entry(
    "stat.change.updateTrigger",
    "boolean, A{numEvents: int, numRuns: int, currentRun: int, longestRun: int} -> A",
)
def update_trigger(predicate: bool, history: Any) -> Fields:
    counts = [history[k] for k in ("numEvents", "numRuns", "currentRun", "longestRun")]
    if min(counts) < 0:
        raise Failure(37000, "counter out of range")
    if not predicate:
        return changed(history, currentRun=0)
    events, runs, current, longest = counts
    return changed(
        history,
        numEvents=events + 1,
        numRuns=runs + (current == 0),
        currentRun=current + 1,
        longestRun=max(longest, current + 1),
    )


@entry(
    "stat.change.zValue",
    "double, A{count: double, mean: double, variance: double}, boolean -> double; "
    "double, A{mean: double, variance: double} -> double",
)
def z_value(x: float, state: Any, unbiased: bool = False) -> float:
    variance = state["variance"]
    if unbiased:
        variance = divide(variance * state["count"], state["count"] - 1.0)
    return divide(x - state["mean"], math.sqrt(variance)) if variance >= 0 else math.nan


entry("stat.change.updateCUSUM", "double, double, double -> double")(
    lambda ratio, last, reset: max(reset, ratio + last)
)
