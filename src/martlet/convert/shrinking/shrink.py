"""Shrinking a net: each way tried, its size, speed and damage side by side, and one chosen.

The judge is the original in its own library. What the user allows is said in the terms of ranking
(`Limits`: rank correlation, overlap of the best, change of AUC), since every number changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from onnx import ModelProto

from martlet import formats
from martlet.certificate import Comparison, Limits
from martlet.convert.asking.probes import Probe
from martlet.convert.parity.compare import compare
from martlet.convert.shrinking.ways import USUAL, Method, shrunk
from martlet.convert.timing import side_by_side
from martlet.errors import MartletError, first_line
from martlet.servable import Servable
from martlet.tensors import Tensors

ORIGINAL = "as it is"

# A gain below this is noise, and no reason to change any number.
_FASTER, _SMALLER = 0.95, 0.8


def allowing(
    rank_correlation: float = 0.999, top_k_overlap: float = 0.99, auc: float = 1e-3
) -> Limits:
    """Return limits for what changes numbers on purpose: only the damage to ranking is judged."""
    return Limits(
        relative=math.inf,
        absolute=math.inf,
        rank_correlation=rank_correlation,
        top_k_overlap=top_k_overlap,
        auc=auc,
        logloss=math.inf,
        same_refusals=True,
    )


@dataclass(frozen=True, slots=True)
class Trial:
    """
    One way, tried.

    Args:
        method: As `Method` writes it; ORIGINAL for the model as it was.
        path: The file; None where it could not be made.
        bytes: Its size.
        microseconds: What a call with the request takes.
        comparisons: With the original, one a probe and segment.
        reason: Why it cannot be used; "" where it can.
    """

    method: str
    path: Path | None
    bytes: int = 0
    microseconds: float = math.inf
    comparisons: tuple[Comparison, ...] = ()
    reason: str = ""

    @property
    def rank_correlation(self) -> float:
        """The lowest of all comparisons; 1 where no order was compared."""
        found = (each.rank_correlation for each in self.comparisons)
        return min((each for each in found if each is not None), default=1.0)

    @property
    def top_k_overlap(self) -> float:
        """The lowest of all comparisons; 1 where no order was compared."""
        found = (each.top_k_overlap for each in self.comparisons)
        return min((each for each in found if each is not None), default=1.0)

    @property
    def auc_change(self) -> float | None:
        """The largest, found minus original; None where no labels were given."""
        changes = [each.auc[1] - each.auc[0] for each in self.comparisons if each.auc is not None]
        return max(changes, key=abs, default=None)

    @property
    def absolute(self) -> float:
        """The largest difference of a number."""
        return max((each.absolute for each in self.comparisons), default=0.0)


def trials(
    original: Servable,
    model: ModelProto,
    probes: Sequence[Probe],
    request: Tensors,
    folder: Path,
    *,
    signature_name: str,
    methods: Sequence[Method] = USUAL,
    limits: Limits | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Trial]:
    """
    Shrink *model* in each way, and return what came of it; the first is the model as it is.

    Args:
        original: Judges, in its own library.
        model: The same in ONNX, certified.
        probes: What both are asked. Logged rows, where there are any, are what the activations
            are measured on; else the random ones.
        request: What a call is timed with: one user's candidates.
        folder: Where the files are left.
        limits: The damage that is allowed; None: as `allowing` has it.
        progress: Told of each method before it is tried.
    """
    calibration = _calibration(probes)
    found = [_written(ORIGINAL, model, folder)]
    for method in methods:
        progress(str(method))
        try:
            found.append(_written(str(method), shrunk(model, method, calibration), folder))
        except MartletError as exc:
            found.append(Trial(str(method), None, reason=first_line(exc)))
    opened: dict[str, Servable] = {}
    try:
        for at, trial in enumerate(found):
            if trial.path is None:
                continue
            try:
                opened[trial.method] = formats.load(trial.path, format="onnx")
            except MartletError as exc:
                found[at] = replace(trial, reason=first_line(exc))
                continue
            judge = limits or allowing()
            judged = tuple(compare(original, opened[trial.method], probes, judge, signature_name))
            faults = [fault for each in judged for fault in each.faults]
            found[at] = replace(trial, comparisons=judged, reason=faults[0] if faults else "")
        took = side_by_side(
            {name: _call(each, request, signature_name) for name, each in opened.items()}
        )
    finally:
        for each in opened.values():
            each.close()
    return [replace(each, microseconds=took.get(each.method, math.inf)) for each in found]


def chosen(found: Sequence[Trial]) -> Trial:
    """
    Return the fastest within the limits; among those as fast, the smallest.

    The model as it is stays where nothing gains a twentieth in time, or a fifth in size.
    """
    base = found[0]
    within = [each for each in found[1:] if not each.reason]
    faster = [each for each in within if each.microseconds <= base.microseconds * _FASTER]
    if faster:
        least = min(each.microseconds for each in faster)
        alike = [each for each in faster if each.microseconds * _FASTER <= least]
        return min(alike, key=lambda each: (each.bytes, each.microseconds))
    as_fast = [each for each in within if each.microseconds * _FASTER <= base.microseconds]
    smaller = [each for each in as_fast if each.bytes <= base.bytes * _SMALLER]
    return min(smaller, key=lambda each: each.bytes, default=base)


def _written(method: str, model: ModelProto, folder: Path) -> Trial:
    path = folder / f"{method.replace(' ', '_').replace(':', '_')}.onnx"
    onnx.save(model, path)
    return Trial(method, path, bytes=path.stat().st_size)


def _calibration(probes: Sequence[Probe]) -> list[Tensors]:
    for kind in ("logged", "random"):
        found = [each.inputs for each in probes if each.kind == kind]
        if found:
            return found
    return []


def _call(servable: Servable, request: Tensors, signature_name: str) -> Callable[[], object]:
    return lambda: servable.predict(request, signature_name)
