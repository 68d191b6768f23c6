"""Batching: calls of one version that wait at the same time go to the model as one.

No call waits for a batch to fill unless a linger is set: a batch is what queued up while the model
was busy. There is no batching thread. A call that finds the model free leads: it carries the batch
in its own thread, and when that is done it wakes the first waiting call to lead the next.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from martlet import deadline
from martlet.errors import DeadlineExceeded
from martlet.servable import DEFAULT_SIGNATURE, Servable
from martlet.serving.settings import ModelSettings
from martlet.tensors import Signature, Tensor, Tensors

log = logging.getLogger(__name__)

Key = tuple[Any, ...]
"""What calls must have in common to share a batch: signature, names, dtypes, inner shapes."""


@dataclass(slots=True, eq=False)
class Call:
    """One call that waits for the model, or leads a batch."""

    key: Key
    inputs: Tensors
    rows: int
    since: float
    until: float | None = field(default_factory=deadline.moment)
    woken: threading.Event = field(default_factory=threading.Event)
    leads: bool = False
    outputs: dict[str, Tensor] | None = None
    error: BaseException | None = None


def take_batch(waiting: Sequence[Call], max_rows: int) -> list[Call]:
    """
    Return the calls that go next: the first, and those behind it that share its key and fit.

    Rows are counted, not calls. The first call of that key that does not fit ends the batch, so
    that later ones do not overtake it.

    >>> a, b, c = (Call(("k",), {}, rows, 0.0) for rows in (2, 3, 4))
    >>> [call.rows for call in take_batch([a, b, c], max_rows=5)]
    [2, 3]
    """
    if not waiting:
        return []
    batch, rows = [waiting[0]], waiting[0].rows
    for call in waiting[1:]:
        if call.key != batch[0].key:
            continue
        if rows + call.rows > max_rows:
            break
        batch.append(call)
        rows += call.rows
    return batch


def padded_rows(rows: int, allowed: Sequence[int]) -> int:
    """
    Return the size that a batch of *rows* is padded to.

    >>> [padded_rows(n, (4, 16)) for n in (1, 4, 5, 20)]
    [4, 4, 16, 20]
    """
    return next((size for size in allowed if size >= rows), rows)


class Batched:
    """
    The servable within, called with batches.

    Each answer equals the one that the call would have had alone. Where a batch fails, or its
    outputs have another number of rows, each call is made by itself, and only a bad one fails.

    Args:
        servable: Its signatures that take any number of rows are batched; calls of others pass
            through.
        settings: How large a batch may be, how many go at once, and how long one lingers.
    """

    def __init__(self, servable: Servable, settings: ModelSettings) -> None:
        self._servable = servable
        self._max_rows = settings.max_rows
        self._most = settings.at_once
        self._linger_s = settings.linger_ms / 1000
        self._allowed = settings.allowed_rows
        self._by_row = {
            name: signature
            for name, signature in servable.signatures.items()
            if takes_rows(signature)
        }
        self._lock = threading.Lock()
        self._more = threading.Condition(self._lock)
        self._waiting: list[Call] = []
        self._leaders = 0
        self.batches = 0
        """How many batches have gone to the model, those of one call included."""

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """Those of the servable within."""
        return self._servable.signatures

    @property
    def tables(self) -> Mapping[str, Any]:
        """The embedding tables of the servable within, by their files' names in it."""
        return getattr(self._servable, "tables", {})

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """
        Predict, in one batch with other calls where others wait.

        Raises:
            DeadlineExceeded: its time passed while it waited.
        """
        rows = rows_of(inputs) if signature_name in self._by_row else None
        if rows is None or rows > self._max_rows:
            return self._servable.predict(inputs, signature_name)
        call = Call(_key(signature_name, inputs), inputs, rows, time.monotonic())
        with self._lock:
            self._waiting.append(call)
            call.leads = self._leaders < self._most
            if call.leads:
                self._leaders += 1
            elif self._linger_s:
                self._more.notify_all()
        if not call.leads:
            self._await(call)
        if call.leads:
            self._carry(call, signature_name)
        if call.error is not None:
            raise call.error
        assert call.outputs is not None
        return call.outputs

    def _await(self, call: Call) -> None:
        if call.woken.wait(deadline.remaining()):
            return
        with self._lock:
            # Before the lock was taken, a leader may have taken the call, or handed it the lead.
            if not call.leads and call in self._waiting:
                self._waiting.remove(call)
                raise DeadlineExceeded("the deadline passed while the call waited for the model")
        call.woken.wait()

    def _carry(self, leader: Call, signature_name: str) -> None:
        """Take a batch, which begins with the leader's own call, and answer all of it."""
        with self._lock:
            self._linger(leader)
            # A call that was woken to lead carries a batch of its own.
            free = [call for call in self._waiting if not call.leads]
            batch = take_batch([leader, *free], self._max_rows)
            taken = set(map(id, batch))
            self._waiting = [call for call in self._waiting if id(call) not in taken]
            self.batches += 1
        try:
            # The batch works for all of them: the latest deadline counts, not the leader's.
            untils = [call.until for call in batch if call.until is not None]
            with deadline.anew(max(untils) if len(untils) == len(batch) else None):
                self._answer(batch, signature_name)
        finally:
            with self._lock:
                following = next((call for call in self._waiting if not call.leads), None)
                if following is None:
                    self._leaders -= 1
                else:
                    following.leads = True
                    following.woken.set()
            for call in batch:
                call.woken.set()

    def _linger(self, leader: Call) -> None:
        end = leader.since + self._linger_s
        while self._linger_s and sum(call.rows for call in self._waiting) < self._max_rows:
            left = end - time.monotonic()
            if left <= 0:
                return
            self._more.wait(left)

    def _answer(self, batch: list[Call], signature_name: str) -> None:
        if len(batch) > 1:
            try:
                if self._together(batch, signature_name):
                    return
            except DeadlineExceeded as exc:
                # It is the latest of their deadlines: that of every call has passed.
                for call in batch:
                    call.error = exc
                return
            except Exception as exc:
                log.debug("a batch of %d calls failed; each is made by itself: %s", len(batch), exc)
        for call in batch:
            try:
                # A call alone is padded too: the model may take the allowed sizes only.
                if not (self._allowed and self._together([call], signature_name)):
                    call.outputs = self._servable.predict(call.inputs, signature_name)
            except BaseException as exc:
                call.error = exc

    def _together(self, batch: list[Call], signature_name: str) -> bool:
        rows = sum(call.rows for call in batch)
        size = padded_rows(rows, self._allowed)
        joined = {
            name: _stacked([call.inputs[name] for call in batch], size - rows)
            for name in batch[0].inputs
        }
        outputs = self._servable.predict(joined, signature_name)
        if any(value.ndim == 0 or len(value) != size for value in outputs.values()):
            # Its signature promises a row for each row and its outputs differ: never batch it
            # again.
            self._by_row.pop(signature_name, None)
            return False
        at = 0
        for call in batch:
            call.outputs = {name: value[at : at + call.rows] for name, value in outputs.items()}
            at += call.rows
        return True

    def close(self) -> None:
        """Close the servable within."""
        self._servable.close()


def takes_rows(signature: Signature) -> bool:
    """Return whether every input and output has any number of rows as its first axis."""
    specs = [*signature.inputs.values(), *signature.outputs.values()]
    return bool(signature.inputs) and all(
        spec.shape is not None and len(spec.shape) > 0 and spec.shape[0] == -1 for spec in specs
    )


def rows_of(inputs: Tensors) -> int | None:
    """Return how many rows every one of *inputs* has; None: they differ, or there are none."""
    sizes = {len(value) if value.ndim else 0 for value in inputs.values()}
    # An empty call goes as it came: some models refuse it, and that is the model's own answer.
    return (sizes.pop() or None) if len(sizes) == 1 else None


def _key(signature_name: str, inputs: Tensors) -> Key:
    return (
        signature_name,
        *((name, value.dtype, value.shape[1:]) for name, value in inputs.items()),
    )


def _stacked(parts: list[Tensor], padding: int) -> Tensor:
    if padding:
        # The last row again: the model is sure to take it.
        parts = [*parts, np.repeat(parts[-1][-1:], padding, axis=0)]
    return np.concatenate(parts)
