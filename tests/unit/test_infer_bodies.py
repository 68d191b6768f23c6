"""The short way from infer requests: what it reads, the complete reader reads the same."""

from __future__ import annotations

import json
import os
import random
import time

import numpy as np
import pytest
from fuzzing import assert_same_tensors, mutations

from martlet.errors import MartletError
from martlet.native import find
from martlet.tensors import DType, Signature, Spec
from martlet.wire.openinference import asking, request
from martlet.wire.openinference.plan import compile_plan

pytestmark = pytest.mark.skipif(find("infer") is None, reason="martlet.native._infer is not built")

WIDE = Signature.of(
    [
        Spec("user", DType.INT64, (-1, 1)),
        Spec("dense", DType.FLOAT32, (-1, 3)),
        Spec("seen", DType.BOOL, (-1,), required=False),
        Spec("title", DType.STRING, (-1,), required=False),
    ],
    [Spec("score", DType.FLOAT32, (-1, 1))],
)
DECODE = compile_plan(WIDE) if find("infer") is not None else None
USER = {"name": "user", "shape": [2, 1], "datatype": "INT64", "data": [4, -5]}
DENSE = {"name": "dense", "shape": [2, 3], "datatype": "FP32", "data": [1, 0.5, 3, 4, -1e-3, 6]}
SEEN = {"name": "seen", "shape": [2], "datatype": "BOOL", "data": [True, False]}
TITLE = {"name": "title", "shape": [2], "datatype": "BYTES", "data": ["a", "Am\u00e9lie"]}


def complete(body, length=None):
    """What the complete reader says: tensors, binary, what the reply says; or its error."""
    try:
        asked = request.read(body, length, lambda _: WIDE)
        tensors = WIDE.check(request.check(asked.inputs, WIDE))
    except MartletError as exc:
        return exc
    (output,) = asked.outputs or (request.Wanted("score"),)
    said = b"" if asked.id is None else b',"id":' + json.dumps(asked.id).encode()
    return tensors, asked.binary if output.binary is None else output.binary, said


def assert_same(found, body, length=None):
    expected = complete(body, length)
    assert isinstance(expected, tuple), (body, expected)
    assert found[1:] == expected[1:], body
    in_order = {name: expected[0][name] for name in WIDE.inputs if name in expected[0]}
    assert_same_tensors(found[0], in_order, body)


def assert_read(document):
    body = json.dumps(document).encode()
    found = DECODE(body)
    assert found is not None
    assert_same(found, body)
    return found


def binary(inputs, **more):
    body, length = asking.write(inputs)
    if more:
        head = json.dumps(json.loads(body[:length]) | more).encode()
        body, length = head + body[length:], len(head)
    return body, b"%d" % length


ARRAYS = {
    "user": np.array([[4], [-5]]),
    "dense": np.arange(6, dtype=np.float32).reshape(2, 3),
    "seen": np.array([True, False]),
}


class TestRequestsThatClientsSend:
    def test_json_flat_or_nested(self):
        assert_read({"inputs": [USER, DENSE]})
        nested = DENSE | {"data": [[1, 0.5, 3], [4, -1e-3, 6]]}
        assert_read({"inputs": [nested, USER]})
        assert_read({"inputs": [USER, DENSE, SEEN, TITLE]})

    def test_an_id_is_told_again(self):
        assert assert_read({"id": "a-1", "inputs": [USER, DENSE]})[2] == b',"id":"a-1"'
        assert assert_read({"id": "", "inputs": [USER, DENSE]})[2] == b',"id":""'

    @pytest.mark.parametrize("all_of_them", [None, True, False])
    @pytest.mark.parametrize("that_one", [None, True, False])
    def test_the_output_goes_back_as_it_is_asked_for(self, all_of_them, that_one):
        document = {"inputs": [USER, DENSE], "outputs": [{"name": "score"}]}
        if that_one is not None:
            document["outputs"][0]["parameters"] = {"binary_data": that_one}
        if all_of_them is not None:
            document["parameters"] = {"binary_data_output": all_of_them}
        assert_read(document)

    @pytest.mark.parametrize("more", [{}, {"id": "7"}])
    def test_binary_tensors_are_the_callers_and_aligned(self, more):
        body, length = binary(ARRAYS, **more)
        found = DECODE(body, length)
        assert_same(found, body, length)
        assert all(each.flags.aligned and each.flags.writeable for each in found[0].values())

    def test_json_and_binary_may_be_mixed(self):
        raw = {"name": "user", "shape": [2, 1], "datatype": "INT64"}
        head = json.dumps(
            {"inputs": [raw | {"parameters": {"binary_data_size": 16}}, DENSE]}
        ).encode()
        body = head + np.array([4, -5]).tobytes()
        assert_same(DECODE(body, b"%d" % len(head)), body, b"%d" % len(head))


class TestWhatIsLeftToTheCompleteReader:
    @pytest.mark.parametrize(
        "document",
        [
            {},
            [],
            {"inputs": []},
            {"inputs": [USER]},
            {"inputs": [USER, USER, DENSE]},
            {"inputs": [USER, DENSE, DENSE | {"name": "other"}]},
            {"inputs": [USER | {"datatype": "INT32"}, DENSE]},
            {"inputs": [USER | {"shape": [2]}, DENSE]},
            {"inputs": [USER | {"shape": [1, 2]}, DENSE]},
            {"inputs": [USER | {"shape": [3, 1]}, DENSE]},
            {"inputs": [USER | {"shape": [2, 0]}, DENSE]},
            {"inputs": [USER | {"data": [4, 5.5]}, DENSE]},
            {"inputs": [USER | {"data": [2**63, 1]}, DENSE]},
            {"inputs": [USER, DENSE | {"data": [[1, 2], [3, 4], [5, 6]]}]},
            {"inputs": [USER, DENSE | {"data": [1, 2, 3, 4, 5, 1e39]}]},
            {"inputs": [USER, DENSE | {"data": [1, 2, 3, 4, 5, float("nan")]}]},
            {"inputs": [USER | {"parameters": {}}, DENSE]},
            {"inputs": [USER | {"parameters": {"binary_data_size": 16}}, DENSE]},
            {"inputs": [USER, DENSE], "parameters": {"timeout": 5}},
            {"inputs": [USER, DENSE], "parameters": {"binary_data_output": 1}},
            {"inputs": [USER, DENSE], "outputs": [{"name": "other"}]},
            {"inputs": [USER, DENSE], "outputs": [{"name": "score"}, {"name": "score"}]},
            {
                "inputs": [USER, DENSE],
                "outputs": [{"name": "score", "parameters": {"classification": 2}}],
            },
            {"inputs": [USER, DENSE], "id": 7},
            {"inputs": [USER, DENSE], "id": 'a"b'},
            {"inputs": [USER, DENSE], "id": "\u00e9"},
            {"inputs": [USER, DENSE], "id": "x" * 129},
            {"inputs": [USER, DENSE], "other": 1},
        ],
    )
    def test_is_anything_unusual(self, document):
        assert DECODE(json.dumps(document).encode()) is None

    @pytest.mark.parametrize("length", [b"", b"0", b"x", b"-1", b"99999", b"12345678901"])
    def test_is_a_length_that_is_none(self, length):
        body, _ = binary(ARRAYS)
        assert DECODE(body, length) is None

    def test_is_a_bool_that_is_none_and_a_tensor_of_another_size(self):
        body, length = binary(ARRAYS)
        assert DECODE(body[:-1] + b"\2", length) is None
        assert DECODE(body[:-1], length) is None
        assert DECODE(body + b"\0", length) is None

    def test_is_every_request_of_some_signatures(self):
        two = Signature.of(list(WIDE.inputs.values()), [*WIDE.outputs.values()] * 1)
        assert compile_plan(two) is not None
        outputs = [Spec("a", DType.FLOAT32, (-1,)), Spec("b", DType.FLOAT32, (-1,))]
        assert compile_plan(Signature.of(list(WIDE.inputs.values()), outputs)) is None
        half = Signature.of([Spec("x", DType.FLOAT16, (-1,))], [Spec("y", DType.FLOAT32, (-1,))])
        assert compile_plan(half) is None


def requests(rng):
    """Yield bodies, each with the length of its JSON where that is told."""
    for _ in range(25):
        inputs = [USER | {"data": [rng.getrandbits(40), -1]}, DENSE]
        inputs += rng.sample([SEEN, TITLE], rng.randint(0, 2))
        rng.shuffle(inputs)
        document = {"inputs": inputs}
        if rng.random() < 0.3:
            document["id"] = rng.choice(["", "1", "x y"])
        if rng.random() < 0.3:
            document["outputs"] = [{"name": "score", "parameters": {"binary_data": True}}]
        if rng.random() < 0.3:
            document["parameters"] = {"binary_data_output": rng.random() < 0.5}
        yield json.dumps(document).encode(), None
    for _ in range(10):
        names = rng.sample(list(ARRAYS), len(ARRAYS))
        yield binary({name: ARRAYS[name] for name in names})


def fuzz(seed):
    """Hold both readers against each other; the number of bodies that the short way read."""
    rng, read = random.Random(seed), 0
    for body, length in requests(rng):
        for each in (body, *mutations(rng, body)):
            told = length if rng.random() < 0.9 else b"%d" % rng.randint(0, 300)
            found = DECODE(each) if told is None else DECODE(each, told)
            if found is not None:
                read += 1
                assert_same(found, each, told)
    return read


class TestFuzz:
    @pytest.mark.parametrize("seed", range(4))
    def test_what_the_short_way_reads_the_complete_reader_reads_the_same(self, seed):
        assert fuzz(seed) > 30

    def test_for_as_long_as_asked(self):
        seed, until = 100, time.monotonic() + float(os.environ.get("MARTLET_FUZZ_SECONDS", 0))
        while time.monotonic() < until:
            assert fuzz(seed) > 30, seed
            seed += 1

    def test_every_request_that_is_cut_short_is_left(self):
        body = json.dumps({"id": "1", "inputs": [USER, DENSE, TITLE]}).encode()
        assert DECODE(body) is not None
        assert all(DECODE(body[:size]) is None for size in range(len(body)))
