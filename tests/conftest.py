"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Scripts that made fixtures need what only their maker has installed; files of one name, imported
# for doctests that they have not, would clash.
collect_ignore_glob = ["fixtures/*", "*/conftest.py"]

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared data sets, models and contracts, outside the repository (MARTLET_SHARED)."""
    path = Path(os.environ.get("MARTLET_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"no shared data at {path}: set MARTLET_SHARED to run this test")
    return path
