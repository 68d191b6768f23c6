"""Messages between two processes, here between the two ends of one channel."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from martlet.formats.channel import Channel, memory

Ends = tuple[Channel, Channel]


@pytest.fixture
def ends() -> Iterator[Ends]:
    here, there = socket.socketpair()
    one, other = memory(), memory()
    ours = Channel(here, one, other)
    theirs = Channel(there, os.dup(other), os.dup(one))
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


def test_silence_and_an_end_are_told_apart():
    here, there = socket.socketpair()
    ours = Channel(here, memory(), memory())
    with pytest.raises(TimeoutError):
        ours.receive(0.001)
    there.close()
    with pytest.raises(EOFError):
        ours.receive(1)
    ours.close()


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
            {"name": "x"},
            [],
        ],
        ids=repr,
    )
    def test_a_tensor_that_is_none_is_refused(self, described: object):
        here, there = socket.socketpair()
        one, other = memory(), memory()
        text = orjson.dumps([{}, [described]])
        os.pwrite(other, text, 0)
        there.sendall(struct.pack("<QQ", 1, len(text)))
        ours = Channel(here, one, other)
        with pytest.raises(OSError, match="no message"):
            ours.receive(1)
        ours.close()

    def test_a_layout_that_was_never_described_is_refused(self):
        here, there = socket.socketpair()
        ours = Channel(here, memory(), memory())
        there.sendall(struct.pack("<QQ", 7, 0))
        with pytest.raises(OSError, match="no message"):
            ours.receive(1)
        ours.close()

    def test_memory_cannot_be_made_smaller_under_us(self):
        found = memory()
        with pytest.raises(OSError):
            os.ftruncate(found, 0)
        os.close(found)
