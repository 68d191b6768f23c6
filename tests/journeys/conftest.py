"""What several journeys share: a server of small models, and what a small demo leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from . import models
from .running import Server, martlet, serving


@pytest.fixture(scope="session")
def onnx_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of three small ONNX models: ``sums``, ``words`` and ``slow``."""
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("models")
    arguments = []
    for make in (models.sums, models.words, models.slow):
        path = make(folder / f"{make.__name__}.onnx")
        arguments += ["--model", f"{make.__name__}={path}"]
    with serving(*arguments, "--rest_api_timeout_in_ms=2000") as server:
        yield server


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a small demo leaves: data, files, registry; and what it printed, in ``said.txt``."""
    for library in ("lightgbm", "scipy", "sklearn"):
        pytest.importorskip(library)
    folder = tmp_path_factory.mktemp("demo")
    sizes = ("--users", 120, "--items", 200, "--ratings", 6000)
    said = martlet("demo", "--once", *sizes, "--out", folder, "--rest-port", 0, "--workers", 1)
    (folder / "said.txt").write_text(said)
    return folder
