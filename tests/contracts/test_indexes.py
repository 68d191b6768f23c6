"""What every index keeps: the nearest, fewer the excluded, and k of them while there are k."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from martlet.errors import InvalidInput
from martlet.retrieval import Exact, Index, Ivf, LiveIndex, Metric, build_ivf
from martlet.stores import Embeddings, write_embeddings

ROWS, DIM = 4000, 16


def exact(table: Embeddings, metric: Metric) -> Index:
    return Exact(table, metric)


def ivf(table: Embeddings, metric: Metric) -> Index:
    pytest.importorskip("faiss")
    path = table.path.with_name(f"{metric.value}.index")
    if not path.exists():
        like_those_to_come = np.random.default_rng(8).standard_normal((200, DIM))
        build_ivf(table, path, metric=metric, queries=like_those_to_come)
    return Ivf(table, path)


def partly_live(table: Embeddings) -> Embeddings:
    """A table whose file has a third of the rows wrong, and whose live rows are right."""
    path = table.path.with_name("partly.table")
    if not path.exists():
        vectors = np.array(table.vectors)
        wrong = np.flatnonzero(np.random.default_rng(9).random(ROWS) < 1 / 3)
        vectors[wrong] = 3 * vectors[(wrong * 7 + 11) % ROWS]
        write_embeddings(path, np.arange(ROWS) * 3, vectors)
        Embeddings(path).put_many(wrong * 3, np.asarray(table.vectors)[wrong])
    return Embeddings(path)


def exact_live(table: Embeddings, metric: Metric) -> Index:
    partly = partly_live(table)
    return LiveIndex(exact(partly, metric), partly)


def ivf_live(table: Embeddings, metric: Metric) -> Index:
    pytest.importorskip("faiss")
    partly = partly_live(table)
    path = partly.path.with_name(f"partly.{metric.value}.index")
    if not path.exists():
        like_those_to_come = np.random.default_rng(8).standard_normal((200, DIM))
        write_embeddings(path.with_name("file"), partly.keys.all, np.array(partly.vectors))
        build_ivf(
            Embeddings(path.with_name("file")), path, metric=metric, queries=like_those_to_come
        )
    return LiveIndex(Ivf(partly, path), partly)


def is_exact(index: Index) -> bool:
    return isinstance(index.inner if isinstance(index, LiveIndex) else index, Exact)


@pytest.fixture(scope="module")
def vectors():
    # In clumps and of very different lengths: what trips an index that is wrong for dot products.
    random = np.random.default_rng(5)
    centres = random.standard_normal((40, DIM))
    points = centres[random.integers(0, 40, ROWS)] + 0.4 * random.standard_normal((ROWS, DIM))
    points *= random.lognormal(0, 0.7, (ROWS, 1))
    points[17] = 0
    return points.astype(np.float32)


@pytest.fixture(scope="module")
def queries():
    return np.random.default_rng(6).standard_normal((30, DIM)).astype(np.float32)


@pytest.fixture(scope="module")
def table(tmp_path_factory, vectors):
    path = tmp_path_factory.mktemp("tables") / "items.table"
    write_embeddings(path, np.arange(ROWS) * 3, vectors)
    return Embeddings(path)


@pytest.fixture(params=list(Metric), ids=lambda metric: metric.value)
def metric(request) -> Metric:
    return request.param


@pytest.fixture(params=[exact, ivf, exact_live, ivf_live], ids=lambda make: make.__name__)
def index(request, table, metric) -> Index:
    make: Callable[[Embeddings, Metric], Index] = request.param
    return make(table, metric)


@pytest.fixture
def scores(vectors, queries, metric):
    """By the definition, in float64."""
    v, q = vectors.astype(np.float64), queries.astype(np.float64)
    if metric is Metric.COSINE:
        lengths = np.linalg.norm(v, axis=1, keepdims=True)
        v = v / np.where(lengths > 0, lengths, 1)
        q = q / np.linalg.norm(q, axis=1, keepdims=True)
    return q @ v.T


def recall(found, scores, k):
    hits = [
        len(set(f.tolist()) & set(np.argsort(-s)[:k].tolist()))
        for f, s in zip(found, scores, strict=True)
    ]
    return sum(hits) / (k * len(scores))


class TestEveryIndex:
    def test_it_finds_the_nearest(self, index, queries, scores):
        found = index.search(queries, 50)
        bound = 1.0 if is_exact(index) else 0.95
        assert recall(found.rows, scores, 50) >= bound

    def test_scores_are_the_metric_and_fall(self, index, queries, scores):
        rows, its = index.search(queries, 50)
        assert (rows.dtype, its.dtype) == (np.int64, np.float32)
        assert np.allclose(its, np.take_along_axis(scores, rows, 1), rtol=1e-4, atol=1e-4)
        assert (np.diff(its, axis=1) <= 0).all()

    def test_no_row_comes_twice(self, index, queries):
        for rows in index.search(queries, 300).rows:
            assert len(set(rows.tolist())) == 300

    @pytest.mark.parametrize("most", [10, 500, 3000, ROWS - 20])
    def test_k_are_found_however_many_of_the_nearest_are_excluded(
        self, index, queries, scores, most
    ):
        exclude = [np.append(np.argsort(-s)[:most], -1) for s in scores]
        found = index.search(queries, 20, exclude=exclude)
        assert (found.rows >= 0).all()
        for rows, refused in zip(found.rows, exclude, strict=True):
            assert not set(rows.tolist()) & set(refused.tolist())
        left = scores.copy()
        for row, refused in zip(left, exclude, strict=True):
            row[refused[:-1]] = -np.inf
        assert recall(found.rows, left, 20) >= (1.0 if is_exact(index) else 0.9)

    @pytest.mark.parametrize("share", [0.0, 0.002, 0.02, 0.3, 1.0])
    def test_only_allowed_rows_are_found_and_k_of_them_while_there_are_k(
        self, index, queries, share
    ):
        allowed = np.random.default_rng(7).random(ROWS) < share
        exclude = [np.flatnonzero(allowed)[:3]] * len(queries)
        found = index.search(queries, 40, exclude=exclude, allowed=allowed)
        expected = min(40, max(0, int(allowed.sum()) - 3))
        assert ((found.rows >= 0).sum(axis=1) == expected).all()
        there = found.rows[found.rows >= 0]
        assert allowed[there].all()
        assert not np.isin(there, exclude[0]).any()
        assert (found.scores[found.rows < 0] == -np.inf).all()

    def test_more_than_there_are_is_all_there_are(self, index, queries):
        found = index.search(queries[:2], ROWS + 5)
        assert (np.sort(found.rows[:, :ROWS], axis=1) == np.arange(ROWS)).all()
        assert (found.rows[:, ROWS:] == -1).all()

    def test_one_query_is_answered_as_among_many(self, index, queries):
        many = index.search(queries, 10)
        for i in range(5):
            assert index.search(queries[i : i + 1], 10).rows.tolist() == [many.rows[i].tolist()]

    def test_no_query_has_no_answer(self, index):
        assert index.search(np.empty((0, DIM), np.float32), 5).rows.shape == (0, 5)

    @pytest.mark.parametrize(
        ("queries", "k", "options", "says"),
        [
            (np.ones((1, DIM + 1)), 5, {}, "shape"),
            (np.ones(DIM), 5, {}, "shape"),
            (np.full((1, DIM), np.nan), 5, {}, "finite"),
            (np.ones((1, DIM)), 0, {}, "k is 0"),
            (np.ones((1, DIM)), 5, {"exclude": []}, "0 lists to exclude came with 1"),
            (np.ones((1, DIM)), 5, {"allowed": np.ones(3, bool)}, "allowed is bool"),
            (np.ones((1, DIM)), 5, {"allowed": np.ones(ROWS)}, "allowed is float64"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, index, queries, k, options, says):
        with pytest.raises(InvalidInput, match=says):
            index.search(queries, k, **options)

    def test_it_says_what_it_is(self, index, metric):
        assert (index.metric, len(index)) == (metric, ROWS)


@pytest.mark.parametrize("make", [exact, ivf], ids=lambda make: make.__name__)
class TestRowsThatAreSet:
    """Beside an index that was built before them."""

    @pytest.fixture
    def open_one(self, table, metric, make, tmp_path, monkeypatch):
        monkeypatch.setattr("martlet.retrieval.live.FRESH_S", 0)
        write_embeddings(tmp_path / "items", table.keys.all, np.array(table.vectors))
        found = Embeddings(tmp_path / "items")
        return found, LiveIndex(make(found, metric), found)

    def test_without_any_it_answers_as_the_index_does(self, open_one, queries):
        _, index = open_one
        found, same = index.search(queries, 9), index.inner.search(queries, 9)
        assert found.rows.tolist() == same.rows.tolist()

    def test_a_new_key_is_found_at_once_and_taken_back_no_more(self, open_one, queries):
        table, index = open_one
        table.put_many([10**9], queries[:1] * 100)
        (row,) = table.rows_of([10**9])
        assert index.search(queries[:1], 3).rows[0, 0] == row
        assert index.search(queries[:1], ROWS + 5).rows[0].tolist().count(row) == 1
        refused = index.search(queries[:1], 3, exclude=[table.rows_of([10**9])])
        assert row not in refused.rows
        of_the_file = index.search(queries[:1], 3, allowed=np.ones(ROWS, bool))
        assert row not in of_the_file.rows
        table.remove_many([10**9])
        assert row not in index.search(queries[:1], 3).rows

    def test_a_row_is_found_by_its_new_vector_and_not_by_its_old(self, open_one, queries):
        table, index = open_one
        best = index.search(queries[:1], 5).rows[0]
        table.put_many(table.keys.at(best[:1]), -queries[:1])
        assert index.search(queries[:1], 4).rows[0].tolist() == best[1:].tolist()
        table.put_many(table.keys.at(best[:1]), queries[:1] * 100)
        assert index.search(queries[:1], 5).rows[0, 0] == best[0]
        table.remove_many(table.keys.at(best[:1]))
        assert index.search(queries[:1], 5).rows[0].tolist() == best.tolist()


class TestPrecisions:
    @pytest.mark.parametrize("precision", ["float16", "int8"])
    def test_a_smaller_table_is_searched_as_what_it_gives(self, tmp_path, vectors, precision):
        pytest.importorskip("faiss")
        write_embeddings(tmp_path / "t", np.arange(ROWS), vectors, precision=precision)
        table = Embeddings(tmp_path / "t")
        stored = table.take(np.arange(ROWS))
        query = stored[:1]
        best = np.argsort(-(stored @ query[0]), kind="stable")[:5]
        assert Exact(table).search(query, 5).rows[0].tolist() == best.tolist()
        build_ivf(table, tmp_path / "i")
        assert Path(tmp_path / "i").exists()
        assert set(Ivf(table, tmp_path / "i").search(query, 5).rows[0]) == set(best)
