"""Names of models, versions and labels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from martlet.errors import InvalidInput
from martlet.names import ModelRef, check_name, check_version, read_version


@pytest.mark.parametrize("name", ["ctr", "a", "A-b_c.9", "_x", "7", "x" * 128])
def test_a_name_may_be(name: str):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", " ", ".x", "-x", "a b", "a/b", "a@b", "a:b", "é", "x" * 129, "a\n", "..", "a\x00"]
)
def test_a_name_may_not_be(name: str):
    with pytest.raises(InvalidInput, match="cannot name a label: use 1 to 128 letters"):
        check_name(name, "label")


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("ctr", ModelRef("ctr")),
        ("ctr@3", ModelRef("ctr", 3)),
        ("ctr@007", ModelRef("ctr", 7)),
        ("ctr@stable", ModelRef("ctr", None, "stable")),
        (f"ctr@{2**63 - 1}", ModelRef("ctr", 2**63 - 1)),
    ],
)
def test_a_reference_is_read(text: str, ref: ModelRef):
    assert ModelRef.parse(text) == ref


@pytest.mark.parametrize(
    "text", ["", "@3", "ctr@", "ctr@-1", "ctr@a b", "ctr@3@4", f"ctr@{2**63}", "ctr@" + "9" * 9999]
)
def test_a_reference_that_is_none_is_refused(text: str):
    with pytest.raises(InvalidInput):
        ModelRef.parse(text)


@given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_.\-]{0,9}", fullmatch=True), st.integers(0, 2**63 - 1))
def test_what_is_written_is_read_again(name: str, version: int):
    for ref in (ModelRef(name), ModelRef(name, version), ModelRef(name, label=name)):
        assert ModelRef.parse(str(ref)) == ref


@pytest.mark.parametrize("version", [-1, 2**63])
def test_a_version_beyond_64_bits_is_refused(version: int):
    with pytest.raises(InvalidInput, match=f"version {version} is out of range"):
        check_version(version)


def test_zeros_in_front_do_not_count():
    assert read_version("0" * 9999) == 0
    assert read_version("0" * 9999 + "12") == 12
