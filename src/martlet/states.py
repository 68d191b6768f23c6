"""Where a version is in its life, as people and protocols are told it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from martlet.errors import Code


class State(Enum):
    """Where a version is in its life. The names are TensorFlow Serving's."""

    START = "START"
    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"
    UNLOADING = "UNLOADING"
    END = "END"


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """What a person asks of a version: its state and, where it failed, why."""

    version: int
    state: State
    error: Code | None = None
    message: str = ""
