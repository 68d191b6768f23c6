"""A version that is opened when it is asked for, and closed when another needs its memory.

Which version answers is in the table, the same in every worker. Whether it is open differs by
worker: a request that finds it closed has it opened, or waits for the opening that is under way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from martlet.errors import Code, NotAvailable, Overloaded
from martlet.servable import DEFAULT_SIGNATURE, Servable
from martlet.serving.roster import Facts
from martlet.states import State, VersionStatus
from martlet.tensors import Signature, Tensor, Tensors

log = logging.getLogger(__name__)

_ROOM_S = 0.5
"""How long a swap waits for room to open its new version ahead of the first request."""


class Opener(Protocol):
    """What opens and closes them: the ``Residents`` of a process."""

    def enter(self, entry: OnDemand, wait_s: float = ..., room_s: float = ...) -> Servable:
        """Return the servable within *entry*, which stays open until ``leave``."""
        ...

    def leave(self, entry: OnDemand) -> None:
        """Let go of *entry*."""
        ...

    def dismiss(self, entry: OnDemand) -> None:
        """Close *entry* for good."""
        ...


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a version could not be opened, and when (time.monotonic()) that is tried again."""

    code: Code
    message: str
    retry_at: float
    count: int


class OnDemand:
    """
    A servable that opens the one within when it is called.

    Args:
        residents: Open and close it.
        label: How messages name it.
        open_it: Opens the servable within, checked and warm.
        size: Bytes of its files: the estimate of its memory until it has been opened.
        facts: What another process learnt by opening it; None: no one has, and ``admit`` is next.
    """

    def __init__(
        self,
        residents: Opener,
        label: str,
        open_it: Callable[[], Servable],
        size: int,
        facts: Facts | None = None,
    ) -> None:
        self._residents = residents
        self.label = label
        self.open_it = open_it
        self.least = size
        self.size = size if facts is None else facts.size
        self.known: Mapping[str, Signature] = {} if facts is None else facts.signatures
        # All that follows is the residents', under their lock.
        self.within: Servable | None = None
        self.parting: Servable | None = None
        self.opening_since = 0.0
        """As time.monotonic(); 0: it is not being opened."""
        self.attempts = 0
        """How often opening it has ended, well or not."""
        self.error: Exception | None = None
        """Why the last attempt ended badly."""
        self.closed = False
        self.users = 0
        self.used_at = 0.0
        self.failure: Failure | None = None

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """Those of the servable within; known while it is closed, too."""
        return self.known

    def status(self, version: int) -> VersionStatus:
        """Return the status of *version*, which this is, in this process now."""
        failure = self.failure
        if failure is not None:
            return VersionStatus(version, State.END, failure.code, failure.message)
        told = "" if self.within is not None else "it is closed; the next request opens it"
        return VersionStatus(version, State.AVAILABLE, None, told)

    @property
    def facts(self) -> Facts:
        """What is known of it, for workers that start later."""
        return Facts(self.known, self.size)

    def admit(self, wait_s: float) -> None:
        """
        Open it for the first time, which may take *wait_s*, and learn its signatures and size.

        Raises:
            MartletError: it cannot be opened, answers an example wrongly, or does not fit.
        """
        self.known = dict(self._residents.enter(self, wait_s).signatures)
        self._residents.leave(self)

    def ready(self, wait_s: float) -> None:
        """Open it ahead of the first request, which may take *wait_s*; not if there is no room."""
        try:
            self._residents.enter(self, wait_s, room_s=_ROOM_S)
        except (NotAvailable, Overloaded) as exc:
            log.info("%s is opened when it is asked for: %s", self.label, exc)
        else:
            self._residents.leave(self)

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """
        Predict with the one within, once it is open.

        Raises:
            NotAvailable: it is not open by the caller's deadline, or cannot be opened.
        """
        within = self._residents.enter(self)
        try:
            return within.predict(inputs, signature_name)
        finally:
            self._residents.leave(self)

    def close(self) -> None:
        """Close the one within, and open it no more."""
        self._residents.dismiss(self)
