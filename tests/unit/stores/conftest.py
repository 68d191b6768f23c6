"""Every test of tables runs over the compiled key lookup and over its pure twin."""

from __future__ import annotations

import pytest

from martlet import native
from martlet.stores import keys


@pytest.fixture(params=["compiled", "pure"], autouse=True)
def lookup(request, monkeypatch):
    if request.param == "compiled" and native.find("keyindex") is None:
        pytest.skip("the compiled part is not built, or MARTLET_NATIVE=0")
    if request.param == "pure":
        monkeypatch.setattr(keys, "_native", None)
    return request.param
