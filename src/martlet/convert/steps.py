"""The steps of bringing a model online: each one's result certified, timed and noted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from martlet import formats
from martlet.certificate import Certificate, Limits
from martlet.convert.parity.judge import Judge
from martlet.convert.report import Step
from martlet.convert.timing import microseconds
from martlet.errors import MartletError, first_line
from martlet.servable import Servable
from martlet.tensors import Tensors

Say = Callable[[str], None]


class Steps:
    """
    The steps that were taken so far, in order.

    Args:
        judge: The original, which each step's result is compared with.
        rows: What speed is measured with.
        limits: What each result is judged by.
        say: Called with a few words as something begins.
    """

    def __init__(self, judge: Judge, rows: Tensors, limits: Limits, say: Say) -> None:
        self.judge = judge
        self.limits = limits
        self.say = say
        self.taken: list[Step] = []
        self.rows = rows
        self.us: Mapping[int, float] = self.speed(judge.servable)
        """What one call of the original takes, in microseconds, by rows."""

    def note(
        self,
        name: str,
        kept: bool,
        why: str,
        begun: float,
        found: Certificate | None = None,
        us: Mapping[int, float] | None = None,
    ) -> Step:
        """Note a step that began at *begun*, by ``time.perf_counter``."""
        step = Step(name, kept, why, time.perf_counter() - begun, found, us or {})
        self.taken.append(step)
        return step

    def drop(self, step: Step, why: str) -> None:
        """Say that what *step* made does not serve. It stays a step on the way to others."""
        self.taken[self.taken.index(step)] = replace(step, kept=False, why=why)

    def kept(self) -> list[Certificate]:
        """Return the certificates of the steps that others may build on."""
        return [each.certificate for each in self.taken if each.certificate and each.kept]

    def speed(self, servable: Servable) -> dict[int, float]:
        """Return what one call of *servable* takes, in microseconds, by rows."""
        return microseconds(servable, self.judge.domain.name, self.rows)

    def certify(
        self, name: str, candidate: Servable, made: Path, names: Sequence[str] | None = None
    ) -> tuple[Certificate, dict[int, float]]:
        """Compare *candidate*, opened from *made*; time it if it passes."""
        return self._certify(name, candidate, made, self.limits, names)

    def certify_file(
        self, name: str, made: Path, *, same_refusals: bool = True
    ) -> tuple[Certificate | None, dict[int, float], str]:
        """
        Open and certify an ONNX file: the certificate, its speed, and why it is not kept.

        Args:
            same_refusals: Whether it must refuse what the original refuses, if the limits say so.
        """
        try:
            candidate = formats.load(made, format="onnx")
        except MartletError as exc:
            return None, {}, not_loaded(exc, made)
        limits = self.limits
        if not same_refusals:
            limits = replace(limits, same_refusals=False)
        with closing(candidate):
            found, us = self._certify(name, candidate, made, limits, None)
        return found, us, "; ".join(found.faults[:2])

    def _certify(
        self,
        name: str,
        candidate: Servable,
        made: Path,
        limits: Limits,
        names: Sequence[str] | None,
    ) -> tuple[Certificate, dict[int, float]]:
        self.say(f"comparing after {name}")
        found = self.judge.certify(name, candidate, made, limits, names)
        return found, self.speed(candidate) if found.passed else {}


def not_loaded(exc: MartletError, made: Path) -> str:
    """Return why the graph *made* does not load; its place is nothing to a person."""
    why = first_line(exc).removeprefix(f"{made} is not an ONNX model that loads: ")
    return f"the graph that it converts to does not load: {why}"
