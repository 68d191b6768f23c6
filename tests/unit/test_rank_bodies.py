"""The short way from ``:rank`` bodies: what it reads, the complete reader reads the same."""

from __future__ import annotations

import json
import os
import random
import time

import pytest
from fuzzing import assert_same_tensors, mutations

from martlet.errors import MartletError
from martlet.native import find
from martlet.tensors import DType, Signature, Spec
from martlet.wire import recommendations as wire
from martlet.wire.document import parse
from martlet.wire.rows import RowPlan

pytestmark = pytest.mark.skipif(find("rows") is None, reason="martlet.native._rows is not built")

WIDE = Signature.of(
    [
        Spec("user", DType.INT64, (-1, 1)),
        Spec("about", DType.FLOAT32, (-1, 20)),
        Spec("item", DType.INT32, (-1, 1)),
        Spec("cat", DType.INT64, (-1, 2), required=False),
        Spec("price", DType.FLOAT32, (-1,), required=False),
        Spec("title", DType.STRING, (-1,), required=False),
        Spec("seen", DType.BOOL, (-1, 1), required=False),
    ],
    [],
)
ABOUT = [round(0.1 * k, 2) for k in range(20)]
CONTEXT = {"user": 7, "about": ABOUT}


def short(signature, body):
    plan = RowPlan.compile(signature)
    return plan.decode_rank(body if isinstance(body, bytes) else json.dumps(body).encode())


def complete(signature, body):
    """What the complete reader says: tensors, or its error."""
    try:
        document = parse(body)
        return signature.check(wire.rank_inputs(document, signature))
    except MartletError as exc:
        return exc


def assert_read(signature, body):
    body = json.dumps(body).encode()
    found = short(signature, body)
    assert found is not None, body
    assert found[1] is False
    assert_same_tensors(found[0], complete(signature, body), body)
    return found[0]


class TestBodiesThatClientsSend:
    def test_what_all_share_is_there_for_each(self):
        found = assert_read(WIDE, {"context": CONTEXT, "items": {"item": [1, 2, 3]}})
        assert found["user"].tolist() == [[7], [7], [7]]
        assert found["item"].tolist() == [[1], [2], [3]]
        assert found["about"].strides[0] == 0
        assert list(found) == ["user", "about", "item"]

    @pytest.mark.parametrize("user", [7, [7], [[7]]])
    def test_a_shared_row_comes_bare_or_in_its_lists(self, user):
        context = {"user": user, "about": ABOUT}
        assert_read(WIDE, {"context": context, "items": {"item": [[1], [2]]}})

    def test_every_kind_of_column_is_read(self):
        items = {
            "item": [1, 2],
            "cat": [[1, 2], [3, 4]],
            "price": [1, 2.5],
            "title": ["a", "Am\u00e9lie"],
            "seen": [True, False],
        }
        assert_read(WIDE, {"items": items, "context": CONTEXT})
        shared = {**CONTEXT, "title": "a", "seen": True, "cat": [1, 2], "price": 3}
        assert_read(WIDE, {"items": {"item": [1, 2]}, "context": shared})

    def test_nothing_need_be_shared(self):
        items = {"user": [7, 8], "about": [ABOUT, ABOUT], "item": [1, 2]}
        assert_read(WIDE, {"items": items})
        assert_read(WIDE, {"context": {}, "items": items})

    @pytest.mark.parametrize("shape", [None, (-1,), (-1, 1), (-1, 2)])
    @pytest.mark.parametrize("value", [1, [1], [[1]], [[1, 2]]])
    def test_a_shape_that_the_models_code_judges_is_read_as_declared(self, shape, value):
        signature = Signature.of(
            [Spec("u", DType.INT64, shape, enforced=False), Spec("i", DType.INT64, None)], []
        )
        body = json.dumps({"context": {"u": value}, "items": {"i": [1, 2, 3]}}).encode()
        found, expected = short(signature, body), complete(signature, body)
        if found is not None:
            assert_same_tensors(found[0], expected, body)
        else:
            assert isinstance(expected, MartletError) or shape == (-1, 2)


class TestWhatIsLeftToTheCompleteReader:
    @pytest.mark.parametrize(
        "body",
        [
            {"context": CONTEXT, "items": {}},
            {"context": CONTEXT, "items": {"item": []}},
            {"context": CONTEXT, "items": {"item": 3}},
            {"context": CONTEXT, "items": {"item": [1, 2], "price": [1]}},
            {"context": CONTEXT, "items": {"item": [1, 2], "user": [1, 2]}},
            {"context": CONTEXT, "items": {"item": [1, 2], "other": [1, 2]}},
            {"context": {"user": 7}, "items": {"item": [1, 2]}},
            {"context": {"user": [7, 8], "about": ABOUT}, "items": {"item": [1, 2]}},
            {"context": CONTEXT, "items": {"item": [1, 2]}, "output": "y"},
            {"context": CONTEXT, "items": {"item": [1, 2]}, "signature_name": "serving_default"},
            {"recommender": "films", "user": 7, "items": [1, 2]},
            {"context": CONTEXT, "items": {"item": [1.5]}},
            {"context": CONTEXT, "items": {"item": [2**31]}},
            {"context": CONTEXT, "items": {"item": [1], "price": [2**60]}},
            {"context": CONTEXT, "items": {"item": [1], "price": [1e39]}},
            {"context": CONTEXT, "items": {"item": [1], "price": [float("nan")]}},
            [],
        ],
    )
    def test_is_anything_unusual(self, body):
        assert short(WIDE, body) is None


def bodies(rng):
    for _ in range(30):
        count = rng.randint(1, 3)
        items = {"item": [rng.randint(-3, 300) for _ in range(count)]}
        if rng.random() < 0.5:
            items["price"] = [rng.choice([0, 1.5, -1e-3, 3]) for _ in range(count)]
        if rng.random() < 0.5:
            items["cat"] = [[rng.randint(0, 9), 1] for _ in range(count)]
        if rng.random() < 0.3:
            items["title"] = [rng.choice(["", "a", "Am\u00e9lie", "\n"]) for _ in range(count)]
        context = {"user": rng.choice([7, [7], [[7]]]), "about": rng.choice([ABOUT, [ABOUT]])}
        if rng.random() < 0.3:
            context["seen"] = True
        body = {"context": context, "items": items}
        yield json.dumps(body, separators=rng.choice([(",", ":"), (", ", ": ")])).encode()


def fuzz(seed):
    """Hold both readers against each other; the number of bodies that the short way read."""
    rng, read = random.Random(seed), 0
    plan = RowPlan.compile(WIDE)
    for body in bodies(rng):
        for each in (body, *mutations(rng, body)):
            found = plan.decode_rank(each)
            if found is not None:
                read += 1
                expected = complete(WIDE, each)
                assert isinstance(expected, dict), (each, expected)
                assert_same_tensors(found[0], expected, each)
    return read


class TestFuzz:
    @pytest.mark.parametrize("seed", range(4))
    def test_what_the_short_way_reads_the_complete_reader_reads_the_same(self, seed):
        assert fuzz(seed) > 40

    def test_for_as_long_as_asked(self):
        seed, until = 100, time.monotonic() + float(os.environ.get("MARTLET_FUZZ_SECONDS", 0))
        while time.monotonic() < until:
            assert fuzz(seed) > 40, seed
            seed += 1

    def test_every_body_that_is_cut_short_is_left(self):
        body = json.dumps({"context": CONTEXT, "items": {"item": [1, 2]}}).encode()
        assert short(WIDE, body) is not None
        assert all(short(WIDE, body[:size]) is None for size in range(len(body)))
