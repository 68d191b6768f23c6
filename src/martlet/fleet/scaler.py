"""The scaler: measures the load, and has ``scaling`` decide how many workers there should be."""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from martlet.fleet.gauge import Gauge
from martlet.fleet.scaling import MOST_PATIENCE, Bounds, Decision, Sample, decide

log = logging.getLogger(__name__)

FILE = "workers.json"
"""In the folder of the workers' counts: what ``GET /workers`` shows, whichever worker answers."""

_REMEMBERED = 50
_TOLD = 20


class Scaler:
    """
    Says how many workers there should be. The supervisor asks about once a second.

    Args:
        bounds: What the operator asked for.
        gauge: Measures the load.
        folder: Where it writes ``FILE``, for the workers to read.
    """

    def __init__(self, bounds: Bounds, gauge: Gauge, folder: Path) -> None:
        self._bounds = bounds
        self._gauge = gauge
        self._file = folder / FILE
        self._samples: deque[Sample] = deque()
        self._made: deque[Decision] = deque(maxlen=_REMEMBERED)
        self._told: deque[dict[str, Any]] = deque(maxlen=_TOLD)
        self._counts = {"up": 0, "down": 0}
        self._ready = 0
        self._write(bounds.least, None)

    def turn(self, ready: Mapping[int, int], workers: int, now: float) -> int:
        """
        Return how many workers there should be.

        Args:
            ready: The process ids, by index, of the workers that answer.
            workers: How many there are, including those that are still starting.
        """
        if len(ready) != workers or workers != self._ready:
            # Samples of another set of workers say nothing about these.
            self._ready = len(ready)
            self._samples.clear()
            self._gauge.forget()
        sample = self._gauge.sample(ready, now)
        if sample is not None:
            self._samples.append(sample)
        while self._samples and self._samples[0].at < now - self._bounds.calm_s * MOST_PATIENCE:
            self._samples.popleft()
        made = decide(self._samples, workers, self._made, self._bounds, now)
        if made is not None:
            self._note(made)
        self._write(workers if made is None else made.after, sample)
        return workers if made is None else made.after

    def _note(self, made: Decision) -> None:
        self._made.append(made)
        self._counts["up" if made.after > made.before else "down"] += 1
        told = {"workers": made.after, "before": made.before, "reason": made.reason}
        self._told.append({"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **told})
        log.info(
            "workers: %d instead of %d: %s", made.after, made.before, made.reason,
            extra={"facts": {"scaling": told}},
        )  # fmt: skip

    def _write(self, workers: int, sample: Sample | None) -> None:
        document = {
            "workers": workers,
            "ready": self._ready,
            "least": self._bounds.least,
            "most": self._bounds.most,
            "target_p95_ms": self._bounds.target_p95_ms or None,
            "measured": None
            if sample is None
            else {
                "answers": sample.answers,
                "p95_ms": round(sample.p95_ms, 3),
                "busy": round(sample.busy, 3),
                "waiting": round(sample.waiting, 1),
                "refused": sample.refused,
            },
            "decisions": self._counts,
            "last": [*self._told],
        }
        # Whole or not at all: a worker may be reading it.
        scratch = self._file.with_suffix(".new")
        try:
            scratch.write_text(json.dumps(document))
            scratch.replace(self._file)
        except OSError as exc:
            # It is written again within a second, and every decision is in the log.
            log.debug("how many workers there are cannot be written down: %s", exc)


def read_told(folder: Path) -> dict[str, Any]:
    """Return what the scaler last wrote into *folder*; empty: it has not."""
    try:
        found = json.loads((folder / FILE).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
