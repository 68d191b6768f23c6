"""Messages between two processes, here between the two ends of one channel."""

from __future__ import annotations

import contextlib
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
from martlet.formats.isolated.texts import MOST_CHARACTERS, MOST_VALUES
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
WORDS = (
    st.none() | st.text(max_size=3) | st.binary(max_size=3) | st.text(min_size=300, max_size=310)
)


def as_text(values: list[object]) -> np.ndarray:
    found = np.empty(len(values), object)
    found[:] = values
    return found


TEXTS = st.lists(WORDS, max_size=4).map(as_text)


def as_told(value: object) -> object:
    """Return what arrives of a value: bytes that are UTF-8 arrive as the text."""
    with contextlib.suppress(UnicodeDecodeError):
        return value.decode() if isinstance(value, bytes) else value
    return value


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
            if value.dtype == object:
                assert found[name].tolist() == list(map(as_told, value.tolist()))
            else:
                np.testing.assert_array_equal(found[name], value)


def texts(*values: object) -> dict[str, np.ndarray]:
    return {"x": np.array([1.0]), "t": as_text(list(values))}


class TestText:
    def test_a_value_is_told_once(self, ends: Ends):
        ours, theirs = ends
        lengths = []
        ring = ours._bell.ring

        class Bell:
            def ring(self, number: int, length: int) -> None:
                lengths.append(length)
                ring(number, length)

        ours._bell = Bell()
        for values in (["a", "b"], ["b", "a"], ["b", "c"], ["c", "c"]):
            ours.send({}, texts(*values))
            assert theirs.receive(1)[1]["t"].tolist() == values
        assert lengths[1] == lengths[3] == 0  # the layout and every value are known
        assert 0 < lengths[2] < lengths[0]

    def test_what_is_no_text_is_missing(self, ends: Ends):
        ours, theirs = ends
        for _ in range(2):
            ours.send(
                {}, texts("a", 1, 1.0, True, float("nan"), ["a"], np.str_("b"), None, b"\xff")
            )
            found = theirs.receive(1)[1]["t"].tolist()
            assert found == ["a", *[None] * 5, "b", None, b"\xff"]

    @pytest.mark.parametrize("half", ["\ud800", "a\udfff"])
    def test_half_a_character_is_refused_and_spoils_nothing(self, half: str, ends: Ends):
        ours, theirs = ends
        for values in (["a"], ["new", half], ["b", "new"], [half * 200], ["a", "b"]):
            if any(half in value for value in values):
                with pytest.raises(UnicodeError, match="surrogates"):
                    ours.send({}, texts(*values))
            else:
                ours.send({}, texts(*values))
                assert theirs.receive(1)[1]["t"].tolist() == values

    def test_shapes_are_kept(self, ends: Ends):
        ours, theirs = ends
        for shape in [(), (0,), (0, 3), (2, 0), (2, 3)]:
            value = np.full(shape, "a", object)
            ours.send({}, {"t": value})
            found = theirs.receive(1)[1]["t"]
            assert found.shape == shape
            assert found.ravel().tolist() == value.ravel().tolist()

    def test_what_is_ever_new_is_not_kept_for_ever(self, ends: Ends):
        ours, theirs = ends
        for turn in range(700):
            values = [f"{turn} {at}" for at in range(60)]
            ours.send({}, texts("a", *values))
            assert theirs.receive(1)[1]["t"].tolist() == ["a", *values]
            assert len(ours._encoder._codes) == theirs._decoder._count <= MOST_VALUES or (
                not ours._encoder._codes
            )
        many = [f"other {at}" for at in range(1000)]
        for _ in range(3):
            ours.send({}, texts(*many))
            assert theirs.receive(1)[1]["t"].tolist() == many

    def test_a_batch_of_what_is_new_is_sent_as_it_is(self, ends: Ends):
        ours, theirs = ends
        for turn in range(20):
            values = [f"{turn} {at}" for at in range(1000)]
            ours.send({}, texts(*values))
            assert theirs.receive(1)[1]["t"].tolist() == values
        assert not ours._encoder._codes

    def test_text_that_arrived_is_ours(self, ends: Ends):
        ours, theirs = ends
        ours.send({}, texts("a"))
        first = theirs.receive(1)[1]["t"]
        ours.send({}, texts("b"))
        theirs.receive(1)
        assert first.tolist() == ["a"]


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
        text = orjson.dumps([{}, [described], None])
        os.pwrite(theirs._given._descriptor, text, _NOTICE)
        theirs._bell.ring(1, len(text))
        with pytest.raises(OSError, match="what is no message"):
            ours.receive(1)
        ours.close()

    @pytest.mark.parametrize(
        ("learnt", "codes"),
        [
            ([0, ["a"]], [1]),
            ([0, ["a"]], [2**32 - 1]),
            ([0, []], [0]),
            ([1, ["a"]], [0]),
            ([-1, ["a"]], [0]),
            ([0, [1]], [0]),
            ([0, [{}]], [0]),
            ([0, [["%"]]], [0]),
            ([0, "a"], [1]),
            ([0], [0]),
            ("x", [0]),
            ([0, ["a"] * (MOST_VALUES + 1)], [0]),
            ([0, ["a" * (MOST_CHARACTERS + 1)]], [0]),
        ],
        ids=lambda each: str(each)[:30],
    )
    def test_text_that_was_not_told_is_refused(self, learnt: object, codes: list[int]):
        ours, theirs = joined()
        entry = {"name": "x", "dtype": "<u4", "shape": [1], "at": 0, "coded": True}
        text = orjson.dumps([{}, [entry], learnt])
        area = theirs._given.grown(_NOTICE + len(text) + 128)
        start = -(-(_NOTICE + len(text)) // 64) * 64
        area[_NOTICE : _NOTICE + len(text)] = text
        area[start : start + 4] = np.array(codes, np.uint32).tobytes()
        theirs._bell.ring(1, len(text))
        with pytest.raises(OSError, match="what is no message"):
            ours.receive(1)
        ours.close()

    @pytest.mark.parametrize("dtype", ["<f8", "<i4", "|V4"])
    def test_codes_are_whole_numbers_of_what_was_told(self, dtype: str):
        ours, theirs = joined()
        entry = {"name": "x", "dtype": dtype, "shape": [1], "at": 0, "coded": True}
        text = orjson.dumps([{}, [entry], [0, ["a"]]])
        area = theirs._given.grown(_NOTICE + len(text) + 128)
        start = -(-(_NOTICE + len(text)) // 64) * 64
        area[_NOTICE : _NOTICE + len(text)] = text
        area[start : start + 8] = b"\xff" * 8
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
