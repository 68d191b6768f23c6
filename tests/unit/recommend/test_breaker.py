"""When a ranking step that is late is passed over, and when it is tried again."""

from __future__ import annotations

from martlet.recommend.breaker import FIRST_REST_S, FORGIVEN, LONGEST_REST_S, Breaker


def late(times: int, now: float = 0.0) -> Breaker:
    found = Breaker()
    for _ in range(times):
        found.was_late(now)
    return found


def test_a_few_late_answers_are_forgiven():
    assert late(FORGIVEN - 1).allows(0.0)


def test_then_it_rests_and_one_call_tries_it():
    breaker = late(FORGIVEN)
    assert not breaker.allows(FIRST_REST_S - 0.1)
    assert breaker.allows(FIRST_REST_S)
    assert not breaker.allows(FIRST_REST_S), "the others wait for what the first finds out"


def test_each_further_rest_is_twice_as_long_and_none_is_for_ever():
    assert not late(FORGIVEN + 1).allows(2 * FIRST_REST_S - 0.1)
    assert late(FORGIVEN + 1).allows(2 * FIRST_REST_S)
    assert late(FORGIVEN + 1000).allows(LONGEST_REST_S)


def test_an_answer_in_time_closes_it():
    breaker = late(FORGIVEN + 3)
    breaker.was_in_time()
    assert breaker.allows(0.0)
    breaker.was_late(0.0)
    assert breaker.allows(0.0)
