"""Documents made at random (see ``pmml_random``): one record is answered as in its batch.

``make pmml-random`` compares the same documents with JPMML-Evaluator, which needs Java.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from pmml_random.compare import difference
from pmml_random.documents import KINDS, document
from pmml_random.ours import Ours, UnsupportedModel

SEEDS = range(8)


@pytest.mark.parametrize("kind", ["expressions", *KINDS])
def test_a_record_alone_is_answered_as_in_its_batch(kind: str, tmp_path: Path):
    asked = 0
    for seed in SEEDS:
        made, path = document(kind, seed), tmp_path / f"{seed}.pmml"
        path.write_text(made.text, encoding="utf-8")
        try:
            model = Ours(path)
        except UnsupportedModel:
            continue  # a draw that means nothing: a constant of the wrong type, say
        asked += 1
        step = 1e-6 if 'float"' in made.text else 1e-12
        for row, together in zip(made.rows, model.together(made.rows), strict=True):
            gap = difference(model.alone(row), together, step)
            assert gap is None, f"{kind} {seed}, {row}: alone, then together: {gap}"
    assert asked > len(SEEDS) // 2
