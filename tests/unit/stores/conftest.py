"""Every test of tables runs over the compiled parts and over their pure twins."""

from __future__ import annotations

import pytest

from martlet import native
from martlet.stores import keys, slots


@pytest.fixture(params=["compiled", "pure"], autouse=True)
def lookup(request, monkeypatch):
    if request.param == "compiled" and native.find("keyindex") is None:
        pytest.skip("the compiled part is not built, or MARTLET_NATIVE=0")
    if request.param == "pure":
        monkeypatch.setattr(keys, "_native", None)
        monkeypatch.setattr(slots, "_native", None)
    return request.param
