"""``/workers`` and its lines for Prometheus."""

from __future__ import annotations

import json
from typing import Any

from martlet.servers.routes import Request, Response, Router
from martlet.servers.workers import Workers

NONE = {"resident": 0, "resident_bytes": 0, "opened": 0, "evicted": 0}
TOLD = {
    "workers": 2,
    "ready": 1,
    "least": 1,
    "most": 4,
    "target_p95_ms": 50.0,
    "measured": {"p95_ms": 61.5, "busy": 0.8, "waiting": 0.0},
    "decisions": {"up": 1, "down": 0},
    "last": [{"workers": 2, "before": 1, "reason": "late"}],
}


def ask(told: dict[str, Any], residents: dict[str, int] = NONE) -> tuple[Any, list[str]]:
    workers = Workers(lambda: told, lambda: residents)
    response = Router([workers]).answer(Request("GET", "/workers", {}, b""))
    assert isinstance(response, Response)
    return json.loads(response.body), [*workers.lines()]


def test_a_fixed_number_says_so_and_tells_prometheus_nothing():
    assert ask({}) == ({"fixed": True, "on_demand": NONE}, [])


def test_what_was_decided_and_measured_is_told():
    told, lines = ask(TOLD)
    assert told == {**TOLD, "on_demand": NONE}
    assert "martlet_workers 2" in lines
    assert "martlet_workers_p95_ms 61.5" in lines
    assert 'martlet_workers_decisions_total{direction="up"} 1' in lines


def test_nothing_is_said_of_what_was_not_measured():
    _, lines = ask({**TOLD, "measured": None})
    assert not any("p95" in line for line in lines)


def test_what_is_opened_on_demand_is_counted():
    _, lines = ask({}, {"resident": 3, "resident_bytes": 12, "opened": 9, "evicted": 6})
    assert "martlet_on_demand_resident 3" in lines
    assert "# TYPE martlet_on_demand_evicted_total counter" in lines
    assert "martlet_on_demand_evicted_total 6" in lines
