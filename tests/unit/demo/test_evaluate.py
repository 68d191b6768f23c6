from __future__ import annotations

import math

import numpy as np
import pytest

from martlet.demo.evaluate import auc, evaluate, ndcg, recall, reciprocal_rank
from martlet.errors import InvalidInput

HITS = np.array(
    [
        [True, False, True, False],
        [False, False, False, True],
        [False, False, False, False],
    ]
)


class TestNdcg:
    def test_it_is_the_formula_by_hand(self):
        # First user: places 1 and 3 hit, three relevant, k = 3: (1 + 1/2) / (1 + 1/log2(3) + 1/2).
        ideal = 1 + 1 / math.log2(3) + 1 / 2
        expected = [1.5 / ideal, 0.0, 0.0]
        assert ndcg(HITS, [3, 1, 2], k=3) == pytest.approx(expected)

    def test_fewer_relevant_items_than_places_can_still_be_perfect(self):
        assert ndcg(np.array([[True, True, False]]), [2], k=3).tolist() == [1.0]

    def test_a_list_shorter_than_k_is_judged_against_all_k_places(self):
        short = ndcg(np.array([[True]]), [2], k=10)
        assert short == pytest.approx([1 / (1 + 1 / math.log2(3))])

    def test_nobody_is_judged_by_nothing(self):
        assert np.isnan(ndcg(HITS[:1], [0], k=3)).all()

    def test_it_is_what_scikit_learn_says(self):
        metrics = pytest.importorskip("sklearn.metrics")
        rng = np.random.default_rng(5)
        relevant = rng.random((40, 30)) < 0.2
        relevant[:, 0] = True
        scores = rng.random((40, 30))
        order = np.argsort(-scores, axis=1)
        hits = np.take_along_axis(relevant, order, axis=1)
        ours = ndcg(hits, relevant.sum(axis=1), k=10)
        assert ours.mean() == pytest.approx(metrics.ndcg_score(relevant, scores, k=10))


class TestRecallAndRank:
    def test_recall_counts_what_is_found_of_all_that_is_relevant(self):
        assert recall(HITS, [4, 1, 1], k=3).tolist() == [0.5, 0.0, 0.0]
        assert recall(HITS, [4, 1, 1], k=4).tolist() == [0.5, 1.0, 0.0]

    def test_the_reciprocal_rank_is_that_of_the_first_hit(self):
        assert reciprocal_rank(HITS).tolist() == [1.0, 0.25, 0.0]
        assert reciprocal_rank(HITS[:, :0]).tolist() == [0.0, 0.0, 0.0]


class TestAuc:
    def test_a_tie_counts_half(self):
        # Pairs (positive, negative): 3 > 1, 3 > 2, 2 > 1, 2 = 2: 3.5 of 4.
        assert auc([1, 1, 0, 0], [3, 2, 1, 2]) == 3.5 / 4

    def test_it_is_what_scikit_learn_says(self):
        metrics = pytest.importorskip("sklearn.metrics")
        rng = np.random.default_rng(7)
        label = rng.random(500) < 0.3
        score = np.round(rng.random(500), 1)  # many ties
        assert auc(label, score) == pytest.approx(metrics.roc_auc_score(label, score))

    def test_labels_that_are_all_alike_say_nothing(self):
        assert math.isnan(auc([1, 1], [0.1, 0.2]))

    def test_labels_without_their_scores_are_refused(self):
        with pytest.raises(InvalidInput, match="one of each"):
            auc([1, 0], [0.5])


class TestEvaluate:
    def test_it_asks_each_user_once_and_takes_the_means(self):
        answers = {7: [1, 2, 3], 8: [4, 5, 6]}
        quality = evaluate(answers.__getitem__, {7: {2}, 8: {4, 9}}, catalogue=12)
        second = 1 / math.log2(3)
        first_of_two = 1 / (1 + 1 / math.log2(3))
        assert quality.ndcg_at_10 == pytest.approx((second + first_of_two) / 2)
        assert quality.recall_at_50 == pytest.approx((1 + 0.5) / 2)
        assert quality.mrr == pytest.approx((0.5 + 1) / 2)
        assert quality.coverage == 6 / 12
        assert quality.users == 2

    def test_an_empty_answer_scores_nothing_and_breaks_nothing(self):
        quality = evaluate(lambda user: [], {1: {2}}, catalogue=3)
        assert (quality.ndcg_at_10, quality.coverage) == (0.0, 0.0)

    def test_an_item_given_twice_is_refused_lest_it_count_twice(self):
        with pytest.raises(InvalidInput, match="user 1 was given an item twice"):
            evaluate(lambda user: [2, 2], {1: {2}}, catalogue=3)

    def test_without_judges_there_is_no_verdict(self):
        with pytest.raises(InvalidInput, match="nobody judges"):
            evaluate(lambda user: [], {}, catalogue=3)
