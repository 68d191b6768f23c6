"""A server that takes the shortcut."""

from __future__ import annotations

import pytest
from both_ways import Half, Server

from martlet.servers import offload, timed


@pytest.fixture
def patience(monkeypatch):
    """A machine that stalls must not make the model one that is slow."""
    monkeypatch.setattr(timed, "SLOW_NS", 10**12)
    monkeypatch.setattr(offload, "SLOW_NS", 10**12)


@pytest.fixture
def server() -> Server:
    return Server(Half())
