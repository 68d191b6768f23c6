"""The compiled parts, if the build had a compiler.

Each has a pure twin with the same answers, which serves when the part is missing or
``MARTLET_NATIVE=0`` is set.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType


def find(name: str) -> ModuleType | None:
    """Return the compiled module ``martlet.native._<name>``, or None: use its pure twin."""
    if os.environ.get("MARTLET_NATIVE", "1") == "0":
        return None
    try:
        return importlib.import_module(f"martlet.native._{name}")
    except ModuleNotFoundError:
        return None
