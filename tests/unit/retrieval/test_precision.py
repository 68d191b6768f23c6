"""The damage of fewer bits, as the libraries of the field compute its parts."""

from __future__ import annotations

import numpy as np
import pytest

from martlet.errors import InvalidInput
from martlet.retrieval.precision import compare_precisions, sample
from martlet.stores import Embeddings, write_embeddings

ROWS, DIM, QUERIES, K = 3000, 16, 20, 25


@pytest.fixture(scope="module")
def vectors():
    random = np.random.default_rng(3)
    return random.standard_normal((ROWS, DIM), dtype=np.float32) * random.lognormal(
        0, 1, (ROWS, 1)
    ).astype(np.float32)


@pytest.fixture(scope="module")
def queries():
    return np.random.default_rng(4).standard_normal((QUERIES, DIM), dtype=np.float32)


@pytest.fixture(scope="module")
def damage(tmp_path_factory, vectors, queries):
    path = tmp_path_factory.mktemp("t") / "t"
    write_embeddings(path, np.arange(ROWS), vectors)
    found = compare_precisions(Embeddings(path), queries, k=K)
    return {each.precision: each for each in found}


def test_float32_is_the_ranking_itself(damage):
    same = damage["float32"]
    assert (same.overlap, same.ndcg, same.largest_error, same.score_error) == (1, 1, 0, 0)
    assert same.spearman == pytest.approx(1)


def test_sizes_are_those_of_the_rows(damage):
    sizes = {name: each.bytes for name, each in damage.items()}
    cells = ROWS * DIM
    assert sizes == {"float32": 4 * cells, "float16": 2 * cells, "int8": cells + 4 * ROWS}


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_each_figure_is_what_a_reference_says(damage, vectors, queries, precision, tmp_path):
    metrics = pytest.importorskip("sklearn.metrics")
    stats = pytest.importorskip("scipy.stats")
    write_embeddings(tmp_path / "t", np.arange(ROWS), vectors, precision=precision)
    kept = Embeddings(tmp_path / "t").take(np.arange(ROWS))
    before, after = queries @ vectors.T, queries @ kept.T
    overlap, ndcg, spearman = [], [], []
    for old, new in zip(before, after, strict=True):
        order = np.argsort(-old)
        worth = np.zeros(ROWS)
        worth[order[:K]] = np.arange(K, 0, -1)
        overlap.append(np.isin(np.argsort(-new)[:K], order[:K]).mean())
        ndcg.append(metrics.ndcg_score(worth[None], new[None], k=K))
        spearman.append(stats.spearmanr(old[order[:1000]], new[order[:1000]])[0])
    found = damage[precision]
    assert found.overlap == pytest.approx(np.mean(overlap))
    assert found.ndcg == pytest.approx(np.mean(ndcg), abs=1e-6)
    assert found.spearman == pytest.approx(np.mean(spearman), abs=1e-6)
    assert found.largest_error == np.abs(kept - vectors).max()
    assert found.score_error == pytest.approx(np.abs(after - before).max(), rel=1e-2)


def test_what_was_set_is_ranked_too_and_a_short_table_is_no_error(tmp_path):
    write_embeddings(tmp_path / "t", [1, 2], [[1, 0], [0, 1]])
    table = Embeddings(tmp_path / "t")
    table.put_many([3], [[1e6, 0.0]])
    found = compare_precisions(table, np.array([[1, 1]], np.float32), k=100)
    assert [each.precision for each in found] == ["float32", "int8"]  # 1e6 is no float16
    assert found[1].bytes == 3 * 2 + 3 * 4
    assert len(sample(table, 100)) == 3


def test_nothing_to_rank_is_refused(tmp_path):
    write_embeddings(tmp_path / "t", [], np.empty((0, 2)))
    with pytest.raises(InvalidInput, match="no rows"):
        compare_precisions(Embeddings(tmp_path / "t"), np.ones((1, 2), np.float32))
