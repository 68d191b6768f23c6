"""The states of a version, as protocols report them."""

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
    """A version's state and, if it failed, why."""

    version: int
    state: State
    error: Code | None = None
    message: str = ""
