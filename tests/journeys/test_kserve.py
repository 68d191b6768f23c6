"""kserve's REST and gRPC inference clients, unchanged, in a virtual environment of their own.

They pin FastAPI and more, so they are not beside our tests: ``make clients`` sets them up.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(os.environ.get("MARTLET_KSERVE_PYTHON", ROOT / ".venv-kserve/bin/python"))


@pytest.fixture(scope="module")
def said(onnx_server) -> Any:
    if not PYTHON.exists():
        pytest.skip(f"no kserve at {PYTHON}: 'make clients' installs it")
    script = Path(__file__).with_name("kserve_calls.py")
    command = [str(PYTHON), str(script), onnx_server.rest, onnx_server.grpc]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize("door", ["rest", "grpc"])
@pytest.mark.parametrize("question", ["live", "ready", "model_ready"])
def test_its_probes_are_answered(said, door, question):
    assert said[f"{door}_{question}"] is True


@pytest.mark.parametrize("form", ["rest_json", "rest_binary", "grpc_typed", "grpc_raw"])
def test_it_infers_in_every_form(said, form):
    assert said[form] == [3.0, 7.0, 11.5]


def test_an_unknown_model_is_an_error_it_can_tell(said):
    assert "404" in said["rest_unknown"] or "no model" in said["rest_unknown"]
