"""What a Parquet footer claims, beside what Arrow reads of whole files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from martlet.formats.spark.footer import claims

pa = pytest.importorskip("pyarrow", reason="the extra martlet[spark] is not installed")
pq = pytest.importorskip("pyarrow.parquet")

COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "number": st.floats(),
    "text": st.none() | st.text(max_size=5),
    "list": st.lists(st.integers(-(2**40), 2**40), max_size=4),
    "flag": st.booleans(),
}


@settings(max_examples=40)
@given(st.lists(st.fixed_dictionaries(COLUMNS), min_size=1, max_size=40), st.integers(1, 20))
def test_it_is_what_arrow_says(tmp_path: Path, rows: list[dict[str, Any]], group: int) -> None:
    path = tmp_path / "t.parquet"
    schema = pa.schema(
        {
            "number": pa.float64(),
            "text": pa.string(),
            "list": pa.list_(pa.int64()),
            "flag": pa.bool_(),
        }
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=group)
    told = pq.read_metadata(path)
    groups = [told.row_group(i) for i in range(told.num_row_groups)]
    chunks = [each.column(j) for each in groups for j in range(each.num_columns)]
    assert claims(path) == (
        sum(each.total_uncompressed_size for each in chunks),
        sum(each.num_values for each in chunks),
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PAR1",
        b"\xff\xff\xff\x7fPAR1",
        b"\x19\xfc\xff\xff\xff\xff\x0f" + b"\x07\0\0\0PAR1",  # a list of a billion structs
        b"\x1c" * 200 + b"\xc8\0\0\0PAR1",  # a struct in a struct in a struct
        b"\x16" + b"\xff" * 20 + b"\x15\0\0\0PAR1",  # a number without an end
        b"\0\x01\0\0\0PAR1",  # no field at all
    ],
)
def test_what_is_no_footer_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="its"):
        claims(path)
