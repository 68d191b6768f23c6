"""XGBoost's files: the old binary, and UBJSON."""

from __future__ import annotations

import struct

import pytest

from martlet.formats import ubjson

pytestmark = pytest.mark.filterwarnings("ignore")


class TestXGBoostBinary:
    """The format before 3.1, which XGBoost no longer reads."""

    def test_a_margin_of_an_old_version_becomes_a_probability(self):
        from martlet.formats.xgboost_binary import _predicted

        assert _predicted("binary:logistic", 0.0) == 0.5
        assert _predicted("count:poisson", 0.0) == 1.0
        assert _predicted("reg:linear", 0.25) == 0.25
        assert _predicted("rank:pairwise", 0.25) == 0.25


class TestUbjson:
    @pytest.mark.parametrize(
        ("data", "value"),
        [
            (b"{i\x01aSi\x02hi}", {"a": "hi"}),
            (b"[i\x01U\xffTFZ]", [1, 255, True, False, None]),
            (b"[#i\x02i\x01i\x02", [1, 2]),
            (b"{#i\x01i\x01ai\x05", {"a": 5}),
            (b"D" + struct.pack(">d", 1.5), 1.5),
            (b"L" + struct.pack(">q", -2), -2),
        ],
    )
    def test_values(self, data: bytes, value: object):
        assert ubjson.loads(data) == value

    def test_a_typed_array_is_numpys(self):
        found = ubjson.loads(b"[$d#i\x02" + struct.pack(">2f", 1.5, -2))
        assert found.tolist() == [1.5, -2.0]

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"{",
            b"[" * 100,
            b"[$L#L" + struct.pack(">q", 1 << 60),
            b"[#L" + struct.pack(">q", -1),
            b"SL" + struct.pack(">q", 1 << 40) + b"x",
            b"?",
            b"i\x01i\x02",
            b"[$d]",
        ],
    )
    def test_what_is_not_ubjson_is_refused_without_room_for_it(self, data: bytes):
        with pytest.raises(ValueError):
            ubjson.loads(data)
