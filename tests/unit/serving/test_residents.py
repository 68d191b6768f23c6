"""Versions opened on demand: one opener each, the longest unused leaves, the limit holds."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from martlet import deadline
from martlet.errors import Code, NotAvailable, Overloaded, UnsupportedModel
from martlet.servable import DEFAULT_SIGNATURE
from martlet.serving import memory
from martlet.serving.ondemand import OnDemand
from martlet.serving.residents import Residents
from martlet.serving.roster import Facts
from martlet.states import State
from martlet.tensors import DType, Signature, Spec, Tensors

BASE = 50
SIGNATURES = {
    DEFAULT_SIGNATURE: Signature.of(
        [Spec("x", DType.FLOAT32, (-1,))], [Spec("y", DType.FLOAT32, (-1,))]
    )
}
X: dict[str, Any] = {"x": np.ones(1, np.float32)}


class Process:
    """What a process holds: so much by itself, and what is open."""

    def __init__(self) -> None:
        self.open: dict[str, int] = {}
        self.most = 0
        self.opened: list[str] = []
        self.lock = threading.Lock()

    def held(self) -> int:
        return BASE + sum(self.open.values())


class Model:
    """Takes *size* bytes of a process while it is open."""

    def __init__(self, process: Process, name: str, size: int) -> None:
        with process.lock:
            assert name not in process.open, "it is opened twice"
            process.open[name] = size
            process.opened.append(name)
            process.most = max(process.most, process.held())
        self._process, self._name = process, name

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return SIGNATURES

    def predict(self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE) -> dict[str, Any]:
        assert self._name in self._process.open, "it was closed in use"
        return {"y": inputs["x"]}

    def close(self) -> None:
        with self._process.lock:
            del self._process.open[self._name]


class House:
    """A process with room for *limit* bytes, and models *a*, *b*, ... that take 10 each."""

    def __init__(self, limit: int, **sizes: int) -> None:
        self.process = Process()
        self.residents = Residents(limit, self.process.held)
        self.sizes = {**dict.fromkeys("abcdefgh", 10), **sizes}
        self.models = {name: self.model(name) for name in self.sizes}

    def model(self, name: str) -> OnDemand:
        size = self.sizes[name]
        return OnDemand(
            self.residents,
            name,
            lambda: Model(self.process, name, size),
            size,
            Facts(SIGNATURES, size),
        )

    def ask(self, names: str) -> None:
        for name in names:
            self.models[name].predict(X)

    @property
    def open(self) -> str:
        return "".join(sorted(self.process.open))


def test_what_is_known_of_it_needs_no_opening():
    house = House(0)
    assert house.models["a"].signatures == SIGNATURES
    assert house.open == ""


def test_the_first_call_opens_it_and_the_next_finds_it_open():
    house = House(0)
    house.ask("aaba")
    assert house.process.opened == ["a", "b"]


def test_the_longest_unused_leaves_first_and_only_when_it_must():
    house = House(BASE + 30)
    house.ask("abca")
    assert house.open == "abc"
    house.ask("d")
    assert house.open == "acd"
    house.ask("be")
    assert house.open == "bde"
    assert house.residents.evicted == 3


def test_bytes_count_and_not_models():
    house = House(BASE + 30, h=30)
    house.ask("abc")
    house.ask("h")
    assert house.open == "h"


def test_what_is_in_use_stays():
    house = House(BASE + 20)
    house.ask("a")
    house.residents.enter(house.models["a"])
    house.ask("bcb")
    assert "a" in house.open
    house.residents.leave(house.models["a"])
    house.ask("cb")
    assert house.open == "bc"


def test_who_finds_no_room_waits_for_it_until_its_deadline():
    house = House(BASE + 10)
    house.residents.enter(house.models["a"])
    with deadline.within(0.05), pytest.raises(NotAvailable, match="still being opened"):
        house.models["b"].predict(X)
    threading.Timer(0.02, house.residents.leave, [house.models["a"]]).start()
    with deadline.within(30):
        house.models["b"].predict(X)
    assert house.open == "b"


def test_what_can_never_fit_is_refused_with_the_sizes():
    house = House(BASE + (30 << 20), h=40 << 20)
    with pytest.raises(Overloaded, match=r"takes about 40 MB; .* may hold 30 MB"):
        house.models["h"].predict(X)
    house.ask("a")


def test_many_who_ask_are_answered_by_one_opening():
    house = House(0)
    begun, go_on = threading.Event(), threading.Event()

    def slowly() -> Model:
        begun.set()
        assert go_on.wait(30)
        return Model(house.process, "a", 10)

    entry = house.models["a"]
    entry.open_it = slowly
    threads = [threading.Thread(target=house.ask, args=("a",)) for _ in range(8)]
    for each in threads:
        each.start()
    assert begun.wait(30)
    with deadline.within(0.05), pytest.raises(NotAvailable, match="still being opened"):
        entry.predict(X)
    go_on.set()
    for each in threads:
        each.join()
    assert house.process.opened == ["a"]


def test_who_asks_first_waits_no_longer_than_the_others():
    house, go_on = House(0), threading.Event()
    entry = house.models["a"]
    good = entry.open_it
    entry.open_it = lambda: good() if go_on.wait(30) else None  # type: ignore[assignment,return-value]
    with deadline.within(0.05), pytest.raises(NotAvailable, match="still being opened"):
        entry.predict(X)
    go_on.set()
    entry.predict(X)
    assert house.process.opened == ["a"]


def test_one_that_is_dismissed_while_it_is_opened_is_closed():
    house, begun, go_on = House(0), threading.Event(), threading.Event()
    entry = house.models["a"]
    good = entry.open_it

    def slowly() -> Any:
        begun.set()
        assert go_on.wait(30)
        return good()

    entry.open_it = slowly

    def ask() -> None:
        with pytest.raises(NotAvailable, match="being replaced"):
            entry.predict(X)

    asking = threading.Thread(target=ask)
    asking.start()
    assert begun.wait(30)
    entry.close()
    asking.join()
    go_on.set()
    end = time.monotonic() + 60
    while house.process.opened != ["a"] or house.process.open:
        assert time.monotonic() < end
        time.sleep(0.001)
    assert house.residents.count == 0


def test_a_failure_is_told_to_all_and_not_tried_at_every_call():
    house, tries = House(0), []

    def broken() -> Model:
        tries.append(1)
        raise UnsupportedModel("the file is gone")

    entry = house.models["a"]
    good, entry.open_it = entry.open_it, broken
    for _ in range(5):
        with pytest.raises(NotAvailable, match="a cannot be opened: the file is gone"):
            entry.predict(X)
    assert len(tries) == 1
    status = entry.status(3)
    assert (status.state, status.error) == (State.END, Code.FAILED_PRECONDITION)
    assert "the file is gone" in status.message
    # Its time to be tried again has come, and the file is back.
    assert entry.failure is not None
    entry.failure = type(entry.failure)(Code.INTERNAL, "", 0.0, 1)
    entry.open_it = good
    entry.predict(X)
    assert entry.status(3).error is None


def test_the_status_says_whether_it_is_open():
    house = House(0)
    assert "next request opens it" in house.models["a"].status(1).message
    house.ask("a")
    assert house.models["a"].status(1).message == ""


def test_one_is_opened_ahead_only_where_there_is_room():
    house = House(BASE + 10)
    house.residents.enter(house.models["a"])
    house.models["b"].ready(30.0)
    assert house.open == "a"
    house.residents.leave(house.models["a"])
    house.models["b"].ready(30.0)
    assert house.open == "b"
    assert house.models["b"].users == 0


def test_one_that_is_dismissed_is_closed_and_stays_so():
    house = House(0)
    house.ask("ab")
    house.models["a"].close()
    assert house.open == "b"
    with pytest.raises(NotAvailable, match="being replaced"):
        house.models["a"].predict(X)


def test_the_first_opening_tells_what_it_is_and_what_it_takes():
    house = House(BASE + 100)
    entry = OnDemand(house.residents, "new", lambda: Model(house.process, "new", 25), 3)
    entry.admit(30.0)
    assert entry.facts == Facts(SIGNATURES, 25)


def test_one_that_takes_more_than_its_files_makes_others_leave():
    house = House(BASE + 40)
    house.ask("abc")
    entry = OnDemand(house.residents, "new", lambda: Model(house.process, "new", 25), 3)
    entry.admit(30.0)
    assert house.process.held() <= BASE + 40
    assert "new" in house.process.open


@given(st.text("abcdefgh", max_size=60), st.lists(st.integers(1, 30), min_size=8, max_size=8))
def test_the_limit_holds_whatever_is_asked(asked: str, sizes: list[int]):
    house = House(BASE + 30, **dict(zip("abcdefgh", sizes, strict=True)))
    house.ask(asked)
    assert house.process.most <= BASE + 30
    assert not asked or asked[-1] in house.open


def test_the_limit_holds_and_each_has_one_opener_among_many_threads():
    """What is opened twice at once, or closed in use, fails where that happens."""
    house, failed = House(BASE + 30, c=25, h=15), []

    def ask(seed: int) -> None:
        pick = random.Random(seed)
        try:
            with deadline.within(60):
                for _ in range(200):
                    house.ask(pick.choice("aaaabbbcdefgh"))
        except Exception as exc:
            failed.append(exc)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert failed == []
    assert house.process.most <= BASE + 30
    assert house.residents.opened == len(house.process.opened)


@given(st.lists(st.tuples(st.floats(0, 9), st.integers(1, 9)), max_size=9), st.integers(-3, 40))
def test_no_more_leave_than_must_and_the_longest_unused_do(found, need):
    unused = [(n, used_at, size) for n, (used_at, size) in enumerate(found)]
    left = memory.leavers(unused, need)
    sizes = [found[n][1] for n in left]
    assert sum(sizes) >= need or len(left) == len(found)
    assert not left or sum(sizes[:-1]) < need
    stay = [found[n][0] for n in range(len(found)) if n not in left]
    assert all(found[n][0] <= other for n in left for other in stay)


def test_what_a_child_holds_counts_until_it_has_gone():
    us = os.getpid()
    code = "x = bytearray(b'x' * (64 << 20)); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert memory.held_with_children(us) - memory.held_by(us) > 60 << 20
        child.kill()
    assert memory.held_by(child.pid) == 0
