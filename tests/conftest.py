"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples every time, however slow the machine: a test fails for what was changed, and
# not by luck. Who looks for trouble sets MARTLET_FUZZ_SECONDS, and gets others each time.
settings.register_profile(
    "steady",
    deadline=None,
    derandomize="MARTLET_FUZZ_SECONDS" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("steady")

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
