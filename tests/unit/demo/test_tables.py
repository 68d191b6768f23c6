"""Vectors, neighbours and candidates against the plain way to compute them."""

from __future__ import annotations

import numpy as np
import pytest

from martlet.demo import embeddings, tables
from martlet.demo.candidates import Candidates, Sources, neighbour_scores, retrieve
from martlet.demo.dataset import Dataset, Items, Ratings, Users

pytest.importorskip("scipy")

USERS, ITEMS = 30, 40


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    rng = np.random.default_rng(2)
    pairs = np.argwhere(rng.random((USERS, ITEMS - 2)) < 0.3)  # two films that nobody has seen
    rng.shuffle(pairs)
    value = rng.integers(1, 11, len(pairs)) / 2
    time = 1000 + np.arange(len(pairs)) * 3600
    unknown = np.full(USERS, np.nan)
    return Dataset(
        "generated",
        Users(100 + np.arange(USERS), unknown, unknown, unknown),
        Items(
            500 + np.arange(ITEMS),
            tuple(f"Film {row}" for row in range(ITEMS)),
            1980.0 + np.arange(ITEMS),
            ("Comedy", "Drama"),
            rng.random((ITEMS, 2)) < 0.5,
        ),
        Ratings(pairs[:, 0], pairs[:, 1], value, time),
    )


@pytest.fixture(scope="module")
def interests(dataset: Dataset) -> np.ndarray:  # type: ignore[type-arg]
    dense = np.zeros((USERS, ITEMS))
    weight = embeddings.interest(dataset.ratings.value)
    dense[dataset.ratings.user, dataset.ratings.item] = weight
    return dense


@pytest.fixture(scope="module")
def built(dataset: Dataset) -> tables.Tables:
    return tables.build(dataset, dataset.ratings, dim=5, decayed=False)


class TestVectors:
    def test_the_item_vectors_span_what_numpys_svd_finds(self, built, interests):
        rows = interests / np.linalg.norm(interests, axis=1, keepdims=True)
        right = np.linalg.svd(rows)[2][:5].T
        ours = built.item_vectors.astype(float)
        assert ours @ ours.T == pytest.approx(right @ right.T, abs=1e-5)

    def test_a_users_vector_is_the_unit_row_times_the_item_vectors(self, built, interests):
        rows = interests / np.linalg.norm(interests, axis=1, keepdims=True)
        assert built.user_vectors == pytest.approx(rows @ built.item_vectors, abs=1e-5)


class TestNeighbours:
    def test_they_are_the_shrunk_cosines_of_the_columns(self, built, interests):
        lengths = np.linalg.norm(interests, axis=0)
        alike = interests.T @ interests / (lengths[:, None] * lengths + 10)
        np.fill_diagonal(alike, 0)
        for row in range(ITEMS):
            best = np.sort(alike[row])[::-1][: tables.NEIGHBOURS]
            assert built.similarities[row] == pytest.approx(best, abs=1e-6)
            found = alike[row, built.neighbours[row]]
            assert found == pytest.approx(built.similarities[row], abs=1e-6)


class TestCandidates:
    def test_each_source_gives_its_best_that_the_user_has_not_seen(self, dataset, built):
        users = np.array([3, 17])
        unseen = ~built.seen(users) & built.rated
        dots = built.user_vectors[users] @ built.item_vectors.T
        alike = neighbour_scores(built, users, recent=4)
        popular = -np.argsort(built.popular, kind="stable")
        for sources, scores in (
            (Sources(5, 0, 0, 4), dots),
            (Sources(0, 5, 0, 4), alike),
            (Sources(0, 0, 5, 4), np.tile(popular, (2, 1))),
        ):
            pairs = retrieve(built, users, sources)
            for row in range(2):
                ranked = np.where(unseen[row], scores[row], -np.inf).argsort()[::-1]
                assert set(pairs.item[pairs.row == row]) == set(ranked[:5])

    def test_what_two_sources_propose_is_there_once(self, built):
        pairs = retrieve(built, np.arange(USERS), Sources(20, 20, 20, 5))
        assert len(set(zip(pairs.row, pairs.item, strict=True))) == len(pairs.item)

    def test_what_nobody_has_rated_is_never_proposed(self, built):
        pairs = retrieve(built, np.arange(USERS), Sources(1000, 1000, 1000, 5))
        assert not set(pairs.item) & {ITEMS - 2, ITEMS - 1}

    def test_recent_scores_add_up_over_the_last_films_only(self, built):
        user = 5
        expected = np.zeros(ITEMS)
        for film in built.history(user)[-3:]:
            for neighbour, similarity in zip(
                built.neighbours[film], built.similarities[film], strict=True
            ):
                expected[neighbour] += similarity
        found = neighbour_scores(built, np.array([user]), recent=3)
        assert found[0] == pytest.approx(expected)

    def test_the_pairs_of_some_users_can_be_told_apart(self):
        pairs = Candidates(np.array([4, 6, 9]), np.array([0, 0, 1, 2, 2]), np.arange(5))
        some = pairs.of(np.array([9, 4]))
        assert some.user.tolist() == [4, 4, 9, 9]
        assert some.item.tolist() == [0, 1, 3, 4]


class TestPopular:
    def test_it_counts_likes_and_then_ratings(self, dataset, built):
        liked = np.bincount(dataset.ratings.item[dataset.ratings.liked], minlength=ITEMS)
        counts = np.bincount(dataset.ratings.item, minlength=ITEMS)
        order = sorted(range(ITEMS), key=lambda row: (-liked[row], -counts[row], row))
        assert built.popular.tolist() == order

    def test_decayed_a_like_of_a_year_ago_counts_half(self, dataset):
        year = 365 * 86_400
        past = Ratings(np.array([0, 1]), np.array([0, 1]), np.full(2, 5.0), np.array([0, year]))
        assert tables.build(dataset, past, 1, decayed=True).liked[:2].tolist() == [0.5, 1.0]
