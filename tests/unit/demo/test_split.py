from __future__ import annotations

import numpy as np
import pytest

from martlet.demo.dataset import Ratings
from martlet.demo.split import Rule, judges, split


def ratings(*rows: tuple[int, int, float, int]) -> Ratings:
    """Rows of user, item, stars, time; in order of time."""
    user, item, value, time = zip(*rows, strict=True)
    return Ratings(np.array(user), np.array(item), np.array(value, float), np.array(time))


EACH = ratings(*[(user, item, 5, 100 * user + item) for user in range(2) for item in range(10)])


class TestSplit:
    @pytest.mark.parametrize("rule", [Rule.AT_TIME, Rule.EACH_USER])
    def test_nothing_is_lost_and_nothing_is_in_both(self, rule: Rule):
        parts = split(EACH, 0.2, rule)
        assert sorted([*parts.past.time, *parts.future.time]) == EACH.time.tolist()

    def test_at_time_all_that_is_held_out_is_later_than_all_that_is_kept(self):
        parts = split(EACH, 0.2, Rule.AT_TIME)
        assert parts.cutoff == parts.future.time.min() > parts.past.time.max()
        assert parts.future.user.tolist() == [1] * 4

    def test_each_user_keeps_a_past_and_loses_the_last_fifth(self):
        parts = split(EACH, 0.2, Rule.EACH_USER)
        assert parts.future.item.tolist() == [8, 9, 8, 9]
        assert parts.cutoff is None

    def test_what_shares_a_second_stays_together_in_the_past(self):
        tied = ratings((0, 1, 5, 1), (0, 2, 5, 2), (0, 3, 5, 2), (0, 4, 5, 3))
        parts = split(tied, 0.5, Rule.EACH_USER)
        assert parts.future.item.tolist() == [4]

    def test_auto_cuts_at_one_time_where_those_active_later_have_a_past(self):
        steady = ratings(*[(time % 4, time, 5, time) for time in range(100)])
        assert split(steady).rule is Rule.AT_TIME

    def test_auto_cuts_each_user_where_each_came_once_and_left(self):
        visits = [(user, item, 5, 100 * user + item) for user in range(9) for item in range(10)]
        assert split(ratings(*visits)).rule is Rule.EACH_USER


class TestJudges:
    ROWS = ratings(
        (0, 1, 5, 1), (1, 1, 5, 2), (2, 1, 5, 3), (0, 2, 5, 4), (1, 2, 1, 5), (3, 2, 5, 6)
    )  # fmt: skip

    def test_only_who_has_a_past_and_liked_something_later_judges(self):
        parts = split(self.ROWS, 0.5, Rule.AT_TIME)
        # 1 liked nothing later, 2 did not come back, 3 has no past.
        assert judges(parts).tolist() == [0]

    def test_a_draw_is_the_same_for_the_same_seed(self):
        many = ratings(*[(time % 50, time, 5, time) for time in range(500)])
        parts = split(many, 0.2, Rule.AT_TIME)
        drawn = judges(parts, most=10, seed=1)
        assert len(drawn) == 10
        assert drawn.tolist() == judges(parts, most=10, seed=1).tolist()
        assert drawn.tolist() != judges(parts, most=10, seed=2).tolist()
