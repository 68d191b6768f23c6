"""The fault suite: short here and in CI; ``make faults`` runs it long and prints its figures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

LONG = os.environ.get("MARTLET_FAULTS") == "long"

_told: list[tuple[str, str]] = []


@pytest.fixture
def times() -> Callable[[int, int], int]:
    """Choose between the short and the long form of a case: ``times(short, long)``."""
    return lambda short, long: long if LONG else short


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Note a case's figures, for docs/reliability.md."""

    def note(**values: Any) -> None:
        shown = ", ".join(
            f"{name.replace('_', ' ')} {value:.4g}"
            if isinstance(value, float)
            else f"{name.replace('_', ' ')} {value}"
            for name, value in values.items()
        )
        _told.append((request.node.name, shown))

    return note


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """Where the server's stderr goes."""
    return tmp_path / "server.log"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _told:
        terminalreporter.section("figures")
        for name, shown in _told:
            terminalreporter.write_line(f"{name}\n    {shown}")
