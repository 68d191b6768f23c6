"""A function of the library that is short enough to be written where it is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Inline:
    """*run*, and the Python for a call of it, with ``{0}`` for the first argument."""

    run: Callable[..., Any]
    template: str

    def __call__(self, *given: Any) -> Any:
        return self.run(*given)
