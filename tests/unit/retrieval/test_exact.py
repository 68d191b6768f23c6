"""The exact search against the definition, ties and all."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from martlet.retrieval import Exact, exact
from martlet.stores import Embeddings, write_embeddings

WHOLE = st.integers(-3, 3).map(float)  # exact in float32, and full of ties


@settings(max_examples=100)
@given(data=st.data(), rows=st.integers(0, 30), dim=st.integers(1, 4), k=st.integers(1, 12))
def test_it_is_a_sort_by_score_then_row(tmp_path, monkeypatch, data, rows, dim, k):
    vectors = data.draw(hnp.arrays(np.float32, (rows, dim), elements=WHOLE))
    queries = data.draw(hnp.arrays(np.float32, (2, dim), elements=WHOLE))
    refused = [
        np.array(data.draw(st.lists(st.integers(-1, max(rows - 1, 0)))), np.int64) % (rows + 1) - 0
        for _ in range(2)
    ]
    refused = [np.where(r < rows, r, -1) for r in refused]
    allowed = data.draw(st.none() | hnp.arrays(np.bool_, rows))
    write_embeddings(tmp_path / "t", np.arange(rows), vectors)
    # Several blocks, so that the merge of their answers is seen.
    monkeypatch.setattr(exact, "_BLOCK_SCORES", data.draw(st.sampled_from([2, 14, 1 << 20])))
    found = Exact(Embeddings(tmp_path / "t")).search(queries, k, exclude=refused, allowed=allowed)
    for i in range(2):
        scores = vectors @ queries[i]
        mine = [
            (-score, row)
            for row, score in enumerate(scores.tolist())
            if row not in refused[i] and (allowed is None or allowed[row])
        ]
        expected = sorted(mine)[:k]
        missing = k - len(expected)
        assert found.rows[i].tolist() == [row for _, row in expected] + [-1] * missing
        assert found.scores[i].tolist() == [-s for s, _ in expected] + [-np.inf] * missing
