"""How much of martlet one predict enters."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from martlet.native import find

pytest.importorskip("onnx")
WALK = Path(__file__).parents[3] / "benchmarks" / "walk.py"


@pytest.mark.skipif(find("shortcut") is None, reason="the compiled part is not built")
def test_the_common_predict_enters_at_most_eight_files():
    run = subprocess.run([sys.executable, WALK], capture_output=True, text=True, check=True)
    found = json.loads(run.stdout)
    assert found["common"]["count"] <= 8, found
    assert "servers/connection.py" in found["common"]["files"]
    assert "native/shortcut.c" in found["common"]["files"]
    # What is watched is watched: the long way enters the files that it names.
    assert {"servers/timed.py", "native/rows.c"} < set(found["long"]["files"])
