"""Messages between two processes, here between the two ends of one channel."""

from __future__ import annotations

import os
import random
import signal
import socket
import struct
import time
from collections.abc import Iterator

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from martlet.formats.isolated.channel import _NOTICE, Channel, cores_to_spare, memory
from martlet.native import find

Ends = tuple[Channel, Channel]


def joined(spins_s: float = 1e-4) -> Ends:
    """Return the two ends of a channel: who asks, who answers."""
    here, there = socket.socketpair()
    one, other = memory(), memory()
    ours = Channel(here, one, other, spins_s)
    return ours, Channel(there, os.dup(other), os.dup(one), spins_s, answers=True)


@pytest.fixture(params=["0", "1"], ids=["pure", "compiled"])
def ends(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ends]:
    monkeypatch.setenv("MARTLET_NATIVE", request.param)
    ours, theirs = joined()
    yield ours, theirs
    ours.close()
    theirs.close()


NUMBERS = st.sampled_from(["<f8", "<f4", ">f8", "<i8", "<i4", "|u1", "|b1", "<f2"]).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0))
)
TEXTS = st.lists(st.none() | st.text(), max_size=4).map(lambda each: np.array(each, object))


@given(
    messages=st.lists(
        st.dictionaries(st.sampled_from("abc"), NUMBERS | TEXTS, max_size=3), max_size=5
    )
)
def test_what_is_sent_arrives(ends: Ends, messages: list[dict[str, np.ndarray]]):
    ours, theirs = ends
    for tensors in [*messages, *messages]:  # the second time their layout is known
        ours.send({"signature": "s"}, tensors)
        header, found = theirs.receive(1)
        assert header == {"signature": "s"}
        assert found.keys() == tensors.keys()
        for name, value in tensors.items():
            assert found[name].dtype == value.dtype
            np.testing.assert_array_equal(found[name], value)


def test_an_answer_may_be_the_question(ends: Ends):
    ours, theirs = ends
    for turn in range(3):
        given_ = {"x": np.full(5, turn), "y": np.arange(3.0)}
        ours.send({}, given_)
        _, found = theirs.receive(1)
        theirs.send({}, {"y": found["x"], "x": found["y"][::-1]})
        _, back = ours.receive(1)
        assert (back["y"] == turn).all()
        assert back["x"].tolist() == [2, 1, 0]


def test_memory_grows_and_layouts_are_forgotten(ends: Ends):
    ours, theirs = ends
    for rows in [*range(600), 400_000, 3, 300]:
        ours.send({"signature": "s"}, {"x": np.full(rows, 1.5)})
        assert theirs.receive(1)[1]["x"].tolist() == [1.5] * rows


@pytest.mark.parametrize("native", ["0", "1"])
def test_silence_and_an_end_are_told_apart(native: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MARTLET_NATIVE", native)
    ours, theirs = joined()
    with pytest.raises(TimeoutError):
        ours.receive(0.001)
    theirs.tell({"last": "words"})
    theirs.close()
    assert ours.receive(1)[0] == {"last": "words"}
    with pytest.raises(EOFError):
        ours.receive(1)
    ours.close()


@pytest.mark.skipif(find("bell") is None, reason="the compiled part is not built")
class TestTheCompiledBell:
    @pytest.mark.parametrize("spins_s", [0.0, 1e-4])
    def test_no_message_is_slept_through(self, spins_s: float):
        here, there = socket.socketpair()
        one, other = memory(), memory()
        child = os.fork()
        if child == 0:
            here.close()
            theirs = Channel(there, other, one, spins_s, answers=True)
            while True:
                try:
                    header, found = theirs.receive()
                except BaseException:
                    os._exit(0)
                theirs.send(header, {"y": found["x"] + 1})
        there.close()
        ours, dice = Channel(here, one, other, spins_s), random.Random(0)
        for turn in range(3000):
            if dice.random() < 0.2:
                time.sleep(dice.random() * 3e-4)
            ours.send({}, {"x": np.full(3, turn)})
            assert ours.receive(60)[1]["y"].tolist() == [turn + 1] * 3
        spun, slept = ours._bell.counts()
        assert spun + slept <= 3000
        assert not spun or (spins_s and cores_to_spare())
        os.kill(child, signal.SIGKILL)
        with pytest.raises(EOFError):
            ours.receive(60)
        ours.close()
        os.waitpid(child, 0)

    def test_a_signal_is_heard_while_it_sleeps(self):
        def heard(*_: object) -> None:
            raise InterruptedError("heard")

        ours, theirs = joined()
        before = signal.signal(signal.SIGALRM, heard)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            with pytest.raises(InterruptedError, match="heard"):
                ours.receive(60)
        finally:
            signal.signal(signal.SIGALRM, before)
        theirs.tell({"still": "there"})
        assert ours.receive(60)[0] == {"still": "there"}
        ours.close()
        theirs.close()

    def test_who_rings_never_waits_for_who_sleeps(self):
        ours, theirs = joined()
        os.pwrite(theirs._given._descriptor, struct.pack("<I", 1), 4)  # it says that it sleeps
        for _ in range(2000):  # more than the socket has room for
            ours.tell({})
        assert theirs.receive(1)[0] == {}
        with pytest.raises(TimeoutError):
            theirs.receive(0.01)
        ours.close()
        theirs.close()


class TestAnotherSideThatCannotBeTrusted:
    @pytest.mark.parametrize(
        "described",
        [
            {"name": "x", "dtype": "|O", "shape": [1], "at": 0},
            {"name": "x", "dtype": "<f8", "shape": [1 << 60], "at": 0},
            {"name": "x", "dtype": "<f8", "shape": [4], "at": 1 << 40},
            {"name": "x", "dtype": "<f8", "shape": [4], "at": -4096},
            {"name": "x", "dtype": "<f8", "shape": [-1], "at": 0},
            {"name": "x", "text": ["a"], "shape": [3]},
            {"name": "x", "text": [[]], "shape": [1]},
            {"name": "x", "text": [[1]], "shape": [1]},
            {"name": "x"},
            [],
        ],
        ids=repr,
    )
    def test_a_tensor_that_is_none_is_refused(self, described: object):
        ours, theirs = joined()
        text = orjson.dumps([{}, [described]])
        os.pwrite(theirs._given._descriptor, text, _NOTICE)
        theirs._bell.ring(1, len(text))
        with pytest.raises(OSError, match="what is no message"):
            ours.receive(1)
        ours.close()

    def test_a_layout_that_was_never_described_is_refused(self):
        ours, theirs = joined()
        theirs._bell.ring(7, 0)
        with pytest.raises(OSError, match="what is no message"):
            ours.receive(1)
        ours.close()

    def test_memory_cannot_be_made_smaller_under_us(self):
        found = memory()
        with pytest.raises(OSError):
            os.ftruncate(found, 0)
        os.close(found)
