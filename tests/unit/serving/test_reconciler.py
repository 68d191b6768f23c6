"""Wishes become orders, one at a time, and a roster of what answers."""

from __future__ import annotations

from pathlib import Path

from martlet.errors import Code
from martlet.serving.reconciler import Reconciler
from martlet.serving.roster import LoadOrder, UnloadOrder
from martlet.serving.settings import ModelSettings, Transition
from martlet.serving.versions import Source, Wanted
from martlet.states import State


def source(text: str = "a") -> Source:
    return Source(Path(text))


def answering(*versions: int) -> Reconciler:
    """A reconciler of ``ctr`` whose *versions* answer."""
    reconciler = Reconciler()
    reconciler.want({"ctr": Wanted({v: source() for v in versions})})
    for version in sorted(versions, reverse=True):
        assert reconciler.step(0.0) == [LoadOrder("ctr", version, source())]
        reconciler.loaded("ctr", version, None, "", 0.0)
    assert reconciler.step(0.0) == []
    return reconciler


def states(reconciler: Reconciler) -> dict[int, State]:
    return {each.version: each.state for each in reconciler.roster["ctr"].statuses}


def test_a_swap_loads_then_drains():
    reconciler = answering(1)
    reconciler.want({"ctr": Wanted({2: source()})})
    assert reconciler.step(0.0) == [LoadOrder("ctr", 2, source())]
    assert reconciler.roster["ctr"].versions == (1,)
    reconciler.loaded("ctr", 2, None, "", 0.0)
    assert reconciler.step(0.0) == [UnloadOrder("ctr", 1)]
    assert reconciler.roster["ctr"].versions == (2,)
    assert reconciler.unloading() == [("ctr", 1)]
    reconciler.unloaded("ctr", 1)
    assert states(reconciler) == {2: State.AVAILABLE, 1: State.END}


def test_a_model_that_keeps_room_drains_then_loads_and_others_do_not():
    sparing = Source(Path("a"), settings=ModelSettings(transition=Transition.RESOURCE))
    reconciler = Reconciler()
    reconciler.want({"ctr": Wanted({1: sparing}), "cvr": Wanted({1: source()})})
    for name in ("ctr", "cvr"):
        reconciler.step(0.0)
        reconciler.loaded(name, 1, None, "", 0.0)
    reconciler.want({"ctr": Wanted({2: sparing}), "cvr": Wanted({2: source()})})
    assert reconciler.step(0.0) == [UnloadOrder("ctr", 1), LoadOrder("cvr", 2, source())]
    assert reconciler.roster["ctr"].versions == ()
    assert reconciler.step(0.0) == [], "the old one is not out of memory yet"
    reconciler.unloaded("ctr", 1)
    assert reconciler.step(0.0) == [LoadOrder("ctr", 2, sparing)]


def test_a_version_that_fails_leaves_the_old_one_and_says_why():
    reconciler = answering(1)
    reconciler.want({"ctr": Wanted({2: source()})})
    reconciler.step(0.0)
    reconciler.loaded("ctr", 2, Code.INTERNAL, "the file is damaged", now=0.0)
    assert reconciler.step(0.5) == []
    failed = reconciler.roster["ctr"].statuses[0]
    assert (failed.state, failed.message) == (State.END, "the file is damaged")
    assert reconciler.roster["ctr"].versions == (1,)
    assert reconciler.step(1.0) == [LoadOrder("ctr", 2, source())]


def test_a_failed_version_whose_file_was_mended_is_tried_at_once():
    reconciler = answering(1)
    reconciler.want({"ctr": Wanted({2: source("bad")})})
    reconciler.step(0.0)
    reconciler.loaded("ctr", 2, Code.INTERNAL, "bad", now=0.0)
    reconciler.want({"ctr": Wanted({2: source("good")})})
    assert reconciler.step(0.1) == [LoadOrder("ctr", 2, source("good"))]


def test_a_label_moves_only_when_its_new_version_answers():
    reconciler = Reconciler()
    reconciler.want({"ctr": Wanted({1: source()}, {"stable": 1})})
    reconciler.step(0.0)
    reconciler.loaded("ctr", 1, None, "", 0.0)
    reconciler.step(0.0)
    assert reconciler.roster["ctr"].labels == {"stable": 1}
    reconciler.want({"ctr": Wanted({2: source()}, {"stable": 2})})
    reconciler.step(0.0)
    assert reconciler.roster["ctr"].labels == {"stable": 1}
    reconciler.loaded("ctr", 2, None, "", 0.0)
    assert UnloadOrder("ctr", 1) in reconciler.step(0.0)
    assert reconciler.roster["ctr"].labels == {"stable": 2}


def test_a_label_whose_new_version_fails_holds_its_old_one():
    reconciler = Reconciler()
    reconciler.want({"ctr": Wanted({1: source(), 3: source()}, {"stable": 1})})
    for version in (3, 1):
        reconciler.step(0.0)
        reconciler.loaded("ctr", version, None, "", 0.0)
    reconciler.step(0.0)
    reconciler.want({"ctr": Wanted({2: source(), 3: source()}, {"stable": 2})})
    reconciler.step(0.0)
    reconciler.loaded("ctr", 2, Code.INTERNAL, "no", 0.0)
    assert reconciler.step(0.0) == []
    assert reconciler.roster["ctr"].labels == {"stable": 1}
    assert reconciler.roster["ctr"].versions == (3, 1)


def test_what_is_wanted_no_more_leaves_and_may_come_back():
    reconciler = answering(1)
    reconciler.want({})
    assert reconciler.step(0.0) == [UnloadOrder("ctr", 1)]
    reconciler.unloaded("ctr", 1)
    reconciler.want({"ctr": Wanted({1: source()})})
    assert reconciler.step(0.0) == [LoadOrder("ctr", 1, source())]


def test_a_version_that_a_newer_one_overtakes_has_ended_and_may_be_asked_for_again():
    reconciler = answering(1)
    for version in (2, 3, 4):  # while 2 is being loaded
        reconciler.want({"ctr": Wanted({version: source()})})
        reconciler.step(0.0)
    assert states(reconciler) == {
        4: State.START, 3: State.END, 2: State.LOADING, 1: State.AVAILABLE
    }  # fmt: skip
    reconciler.loaded("ctr", 2, None, "", 0.0)
    assert LoadOrder("ctr", 4, source()) in reconciler.step(0.0)
    reconciler.loaded("ctr", 4, None, "", 0.0)
    reconciler.want({"ctr": Wanted({3: source("moved")})})
    assert LoadOrder("ctr", 3, source("moved")) in reconciler.step(0.0)


def test_it_is_settled_when_each_name_answers_or_has_failed():
    reconciler = Reconciler()
    reconciler.want({"a": Wanted({1: source()}), "b": Wanted({1: source()})})
    assert not reconciler.settled
    reconciler.step(0.0)
    reconciler.loaded("a", 1, None, "", 0.0)
    assert not reconciler.settled
    reconciler.loaded("b", 1, Code.INTERNAL, "no", 0.0)
    assert reconciler.settled
    assert reconciler.failures() == {"b": "version 1: no"}
