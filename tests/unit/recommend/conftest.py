"""The small recommender, fresh for every test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from films_by_hand import Place, Ranker

from martlet.serving.engine import Engine


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(tmp_path, Engine(), Ranker())
    found.write()
    found.serve(ranker=found.ranker)
    return found
