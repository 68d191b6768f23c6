"""The short way to tensors beside the complete reader: what both read, they read the same."""

from __future__ import annotations

import json
import os
import random
import struct
import time

import numpy as np
import orjson
import pytest
from fuzzing import assert_same_tensors, mutations

from martlet.errors import MartletError
from martlet.native import find
from martlet.tensors import DType, Signature, Spec
from martlet.wire.rows import RowPlan
from martlet.wire.tfserving.requests import PredictDecoder, parse_object, signature_name_of

pytestmark = pytest.mark.skipif(find("rows") is None, reason="martlet.native._rows is not built")

WIDE = Signature.of(
    [
        Spec("user", DType.INT64, (-1, 1)),
        Spec("cat", DType.INT32, (-1, 2)),
        Spec("dense", DType.FLOAT32, (-1, 3)),
        Spec("title", DType.STRING, (-1,)),
        Spec("seen", DType.BOOL, (-1,)),
    ],
    [],
)


def one(dtype):
    return Signature.of([Spec("x", dtype, None)], [])


def short(signature, body):
    plan = RowPlan.compile(signature)
    return plan.decode(body if isinstance(body, bytes) else json.dumps(body).encode())


def complete(signature, body):
    """What the complete reader says: tensors and whether by row, or its error."""
    try:
        document = parse_object(body)
        name = signature_name_of(document)
        if name not in ("", "serving_default"):
            return None
        return PredictDecoder(signature, "serving_default").decode(document)
    except MartletError as exc:
        return exc


def assert_same(found, expected, body):
    assert isinstance(expected, tuple), (body, expected)
    assert found[1] == expected[1]
    assert_same_tensors(found[0], expected[0], body)


ROW = {"user": [7], "cat": [1, -2], "dense": [0.5, -1e-3, 3], "title": "Amélie\n☃", "seen": True}


class TestBodiesThatClientsSend:
    def test_rows_become_columns(self):
        tensors, by_row = short(WIDE, {"instances": [ROW, ROW | {"user": [8], "seen": False}]})
        assert by_row
        assert {name: t.tolist() for name, t in tensors.items()} == {
            "user": [[7], [8]],
            "cat": [[1, -2]] * 2,
            "dense": [[0.5, np.float32(-1e-3), 3.0]] * 2,
            "title": ["Amélie\n☃"] * 2,
            "seen": [True, False],
        }
        assert [t.dtype for t in tensors.values()] == [s.dtype.numpy for s in WIDE.inputs.values()]

    def test_columns_stay_columns(self):
        body = {"inputs": {name: [value] * 3 for name, value in ROW.items()}}
        tensors, by_row = short(WIDE, body)
        assert not by_row
        assert tensors["cat"].tolist() == [[1, -2]] * 3
        assert tensors["title"].shape == (3,)

    @pytest.mark.parametrize(
        ("body", "shape", "by_row"),
        [
            ({"instances": [1, 2, 3]}, (3,), True),
            ({"instances": [[1, 2], [3, 4], [5, 6]]}, (3, 2), True),
            ({"instances": [{"x": 1}, {"x": 2}]}, (2,), True),
            ({"instances": [{"x": [[1], [2]]}]}, (1, 2, 1), True),
            ({"inputs": 5}, (), False),
            ({"inputs": [[5]]}, (1, 1), False),
            ({"inputs": {"x": 5}}, (), False),
            ({"inputs": {"x": [5, 6]}, "signature_name": "serving_default"}, (2,), False),
            ({"signature_name": "", "inputs": {"x": [5, 6]}}, (2,), False),
        ],
    )
    def test_the_shape_is_that_of_the_lists(self, body, shape, by_row):
        tensors, found = short(one(DType.FLOAT32), body)
        assert (tensors["x"].shape, found) == (shape, by_row)

    def test_the_callers_may_write_to_what_they_get(self):
        tensors, _ = short(one(DType.INT16), {"inputs": [1, 2]})
        tensors["x"][0] = 9
        assert tensors["x"].tolist() == [9, 2]

    def test_keys_come_in_any_order_and_among_white_space(self):
        row = " , ".join(f'"{k}"\t:\r\n{json.dumps(v)}' for k, v in reversed(ROW.items()))
        body = f' {{ "instances" : [ {{{row}}} , {{ {row} }} ] }} \n'.encode()
        assert_same(short(WIDE, body), complete(WIDE, body), body)

    def test_any_buffer_is_read(self):
        body = memoryview(bytearray(b"##" + orjson.dumps({"inputs": [1.5]})))[2:]
        assert short(one(DType.FLOAT64), bytes(body))[0]["x"].tolist() == [1.5]
        assert RowPlan.compile(one(DType.FLOAT64)).decode(body)[0]["x"].tolist() == [1.5]

    def test_another_signature_is_read_by_its_own_plan(self):
        body = orjson.dumps({"inputs": [1], "signature_name": "other"})
        assert short(one(DType.INT8), body) is None
        other = RowPlan.compile(one(DType.INT8), "other")
        assert other.decode(body)[0]["x"].tolist() == [1]
        assert other.decode(orjson.dumps({"inputs": [1]})) is None


OPTIONAL = Signature.of(
    [
        Spec("user", DType.INT64, (-1, 1)),
        Spec("item", DType.INT64, (-1, 1)),
        Spec("cat", DType.INT32, (-1, 2), required=False),
        Spec("dense", DType.FLOAT32, (-1, 1), required=False),
    ],
    [],
)
IDS = {"user": [7], "item": [1]}


class TestInputsThatMayBeLeftOut:
    @pytest.mark.parametrize("more", [{}, {"cat": [1, 2]}, {"cat": [1, 2], "dense": [0.5]}])
    def test_are_read_where_they_came(self, more):
        row = IDS | more
        for body in (
            {"instances": [row, row]},
            {"inputs": {name: [value] for name, value in row.items()}},
        ):
            text = json.dumps(body).encode()
            found = short(OPTIONAL, text)
            assert_same(found, complete(OPTIONAL, text), text)
            assert list(found[0]) == list(row)

    @pytest.mark.parametrize(
        "rows",
        [
            [IDS, IDS | {"cat": [1, 2]}],
            [IDS | {"cat": [1, 2]}, IDS],
            [IDS | {"cat": [1, 2]}, IDS | {"dense": [1]}],
            [{"user": [7]}],
            [{"user": [7], "cat": [1, 2]}],
        ],
    )
    def test_came_in_every_row_or_in_none(self, rows):
        assert short(OPTIONAL, {"instances": rows}) is None

    def test_must_come_where_another_form_may_be_meant(self):
        other = Signature.of(list(OPTIONAL.inputs.values()), [], also="matrix")
        assert short(other, {"instances": [IDS]}) is None


class TestWhatIsLeftToTheCompleteReader:
    @pytest.mark.parametrize(
        "body",
        [
            b"", b" ", b"{", b"[]", b"{}", b"null", b'{"instances":[]}', b'{"inputs":{}}',
            b'{"instances":5}', b'{"inputs":[]}', b'{"inputs":[1,]}', b'{"inputs":[1],}',
            b'{"inputs":[1]} x', b'{"inputs":[1]}{', b'{"inputs":[[1],[2,3]]}',
            b'{"inputs":[1,[2]]}', b'{"inputs":[[1],2]}', b'{"inputs":[1],"inputs":[1]}',
            b'{"inputs":[1],"instances":[1]}', b'{"inputs":[1],"other":2}',
            b'{"inputs":{"x":1,"x":2}}', b'{"inputs":{"y":1}}', b'{"inputs":{"x":1,"y":2}}',
            b'{"instances":[{"x":1},2]}', b'{"instances":[{"x":1},{}]}',
            b'{"instances":[{"x":1},{"x":[1]}]}', b'{"instances":[1,{"x":1}]}',
            b'{"inputs":[null]}', b'{"inputs":["1"]}', b'{"inputs":[true]}',
            b'{"inputs":{"b64":"AA=="}}', b'{"inputs":[1],"signature_name":5}',
            b'{"inputs":[1],"signature_name":"s\\u0065rving_default"}',
            b'\xef\xbb\xbf{"inputs":[1]}', b'{"inputs":' + b"[" * 100_000,
            b'{"inputs":[01]}', b'{"inputs":[-]}', b'{"inputs":[+1]}', b'{"inputs":[1.]}',
            b'{"inputs":[.5]}', b'{"inputs":[1e]}', b'{"inputs":[1e+]}', b'{"inputs":[1e400]}',
            b'{"inputs":[nan]}', b'{"inputs":[-NaN]}', b'{"inputs":[Infinit]}', b'{"inputs":[0x1]}',
            b'{"inputs":[1 2]}', b'{"inputs":[1',
        ],
    )  # fmt: skip
    def test_is_anything_unusual(self, body):
        assert short(one(DType.FLOAT32), body) is None

    @pytest.mark.parametrize(
        ("dtype", "token"),
        [
            (DType.INT8, "128"), (DType.INT8, "-129"), (DType.UINT8, "256"), (DType.UINT8, "-1"),
            (DType.INT16, "32768"), (DType.UINT16, "65536"), (DType.INT32, "2147483648"),
            (DType.UINT32, "4294967296"), (DType.INT64, "9223372036854775808"),
            (DType.INT64, "-9223372036854775809"), (DType.UINT64, "18446744073709551616"),
            (DType.UINT64, "99999999999999999999"), (DType.INT32, "1.0"), (DType.INT32, "1e2"),
            (DType.INT32, "true"), (DType.BOOL, "1"), (DType.BOOL, "null"),
            (DType.STRING, "5"), (DType.STRING, '"\t"'), (DType.STRING, '"\\x"'),
            (DType.STRING, '"\\ud800"'), (DType.STRING, '"\\udc00"'),
            (DType.STRING, '"\\ud800\\u0041"'),
            (DType.STRING, '"\\u12"'), (DType.STRING, '"abc'), (DType.STRING, '"a\\'),
            (DType.STRING, '{"b64":"AA=="}'),
        ],
    )  # fmt: skip
    def test_is_a_value_that_does_not_fit_its_dtype(self, dtype, token):
        assert short(one(dtype), f'{{"inputs":[{token}]}}'.encode()) is None

    def test_is_a_string_that_is_not_utf8(self):
        assert short(one(DType.STRING), b'{"inputs":["\xff"]}') is None
        assert short(one(DType.STRING), b'{"inputs":["\\n\xff"]}') is None

    @pytest.mark.parametrize(
        "signature",
        [
            Signature.of([], []),
            one(DType.FLOAT16),
            Signature.of([Spec("b64", DType.STRING, None)], []),
        ],
    )
    def test_is_every_body_of_some_signatures(self, signature):
        assert RowPlan.compile(signature) is None

    def test_is_everything_without_the_compiled_part(self, monkeypatch):
        monkeypatch.setenv("MARTLET_NATIVE", "0")
        assert RowPlan.compile(WIDE) is None


class TestNumbers:
    @pytest.mark.parametrize("dtype", [d for d in DType if d.is_integer])
    def test_integers_are_exact_to_the_ends_of_their_range(self, dtype):
        info = np.iinfo(dtype.numpy)
        values = [info.min, info.max, 0, 1, int(info.max) // 3]
        assert short(one(dtype), {"inputs": [int(v) for v in values]})[0]["x"].tolist() == values

    def tokens(self):
        rng = random.Random(4)
        yield from ["0", "-0", "0.0", "-0.0", "-0e5", "1", "NaN", "Infinity", "-Infinity", "Inf"]
        yield from ["9007199254740993", "9007199254740992.5", "5e-324", "2.4703282292062327e-324"]
        yield from ["1.7976931348623157e308", "2.2250738585072011e-308", "1e23", "8.5e22"]
        yield from ["123456789012345678901234567890", "0." + "0" * 30 + "123", "3.4028236e38"]
        yield from ["1" * 19, "9" * 19, "9" * 20, "18446744073709551615", "1e-400", "0e999999"]
        for _ in range(6000):
            yield repr(struct.unpack("d", struct.pack("Q", rng.getrandbits(62)))[0])
            yield repr(rng.gauss(0, 1))
            digits = str(rng.getrandbits(rng.randint(1, 64)))
            point = rng.randint(0, len(digits) - 1)
            text = digits[:point] + "." + digits[point:] if point else digits
            yield rng.choice(["", "-"]) + text + rng.choice(["", f"e{rng.randint(-25, 25)}"])
            # Halfway between two floats, and just beside it.
            half = int(struct.unpack("d", struct.pack("d", rng.getrandbits(52) + 2.0**53))[0]) + 1
            yield str(half)
            yield f"{half}.{rng.randint(0, 1)}"

    def test_floats_are_rounded_as_python_rounds_them(self):
        tokens = list(self.tokens())
        found = short(one(DType.FLOAT64), f'{{"inputs":[{",".join(tokens)}]}}'.encode())
        # An integer has no sign where it is 0.
        expected = [0.0 if token == "-0" else float(token) for token in tokens]
        assert found[0]["x"].tobytes() == np.array(expected).tobytes()

    def test_float32_is_the_double_rounded(self):
        tokens = [*self.tokens(), "1e39", "-1e39", "1e-50"]
        found = short(one(DType.FLOAT32), f'{{"inputs":[{",".join(tokens)}]}}'.encode())
        with np.errstate(over="ignore"):
            expected = np.array([float(t) if t != "-0" else 0.0 for t in tokens]).astype("f4")
        assert found[0]["x"].tobytes() == expected.tobytes()


def bodies(rng):
    def number():
        kind = rng.randrange(5)
        return [rng.randint(-9, 300), rng.gauss(0, 1), 0, rng.getrandbits(40), float("nan")][kind]

    def nested(leaf, shape):
        return leaf() if not shape else [nested(leaf, shape[1:]) for _ in range(shape[0])]

    words = ["", "a", "Amélie", '\\"/\b\f\n\r\t', "☃", "😀", "x" * 20]
    leaves = {
        DType.STRING: lambda: rng.choice(words),
        DType.BOOL: lambda: rng.random() < 0.5,
        DType.FLOAT32: number,
        DType.FLOAT64: number,
    }
    for _ in range(60):
        dtype = rng.choice(
            [d for d in DType if d.value not in ("float16", "complex64", "complex128")]
        )
        leaf = leaves.get(dtype, lambda: rng.randint(-3, 140))
        shape = [rng.randint(1, 3) for _ in range(rng.randint(0, 3))]
        form = rng.randrange(4)
        if form == 0:
            body = {"instances": [{"x": nested(leaf, shape)} for _ in range(rng.randint(1, 3))]}
        elif form == 1:
            body = {"instances": nested(leaf, [2, *shape])}
        elif form == 2:
            body = {"inputs": {"x": nested(leaf, shape)}}
        else:
            body = {"inputs": nested(leaf, shape)}
        if rng.random() < 0.2:
            body["signature_name"] = rng.choice(["", "serving_default", "other"])
        ascii_only, spaced = rng.random() < 0.5, rng.random() < 0.5
        separators = (", ", ": ") if spaced else (",", ":")
        yield one(dtype), json.dumps(body, ensure_ascii=ascii_only, separators=separators).encode()
    for _ in range(20):
        rows = [ROW | {"user": [rng.getrandbits(33)]} for _ in range(rng.randint(1, 3))]
        yield WIDE, json.dumps({"instances": rows}).encode()
        row = IDS | rng.choice([{}, {"dense": [0.5]}])
        yield OPTIONAL, json.dumps({"instances": [row, row]}).encode()


def fuzz(seed):
    """Hold both readers against each other; the number of bodies that the short way read."""
    rng, read = random.Random(seed), 0
    for signature, body in bodies(rng):
        plan = RowPlan.compile(signature)
        for each in (body, *mutations(rng, body)):
            found = plan.decode(each)
            if found is not None:
                read += 1
                assert_same(found, complete(signature, each), each)
    return read


class TestFuzz:
    @pytest.mark.parametrize("seed", range(6))
    def test_what_the_short_way_reads_the_complete_reader_reads_the_same(self, seed):
        assert fuzz(seed) > 100

    def test_for_as_long_as_asked(self):
        seed, until = 100, time.monotonic() + float(os.environ.get("MARTLET_FUZZ_SECONDS", 0))
        while time.monotonic() < until:
            assert fuzz(seed) > 100, seed
            seed += 1

    def test_every_body_that_is_cut_short_is_left(self):
        body = json.dumps({"instances": [ROW, ROW]}).encode()
        plan = RowPlan.compile(WIDE)
        assert plan.decode(body) is not None
        assert all(plan.decode(body[:size]) is None for size in range(len(body)))

    def test_the_bench_bodies_are_read(self, shared):
        signature = Signature.of(
            [
                Spec("user_id", DType.INT64, (-1, 1)),
                Spec("item_id", DType.INT64, (-1, 1)),
                Spec("cat", DType.INT64, (-1, 6)),
                Spec("dense", DType.FLOAT32, (-1, 8)),
            ],
            [],
        )
        for name in ("w1.tfs_instances.json", "w1.tfs_inputs.json"):
            body = (shared / "bench" / "bodies" / name).read_bytes()
            assert_same(short(signature, body), complete(signature, body), name)
