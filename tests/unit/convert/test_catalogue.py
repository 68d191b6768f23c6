"""The catalogue comes from a file of rows, or from the feature table that a recommender joins."""

from __future__ import annotations

import json

import numpy as np
import pytest

from martlet.convert.catalogue import read_catalogue
from martlet.errors import InvalidInput, ModelNotFound
from martlet.stores import write_features
from martlet.tensors import DType, Signature, Spec

SIGNATURE = Signature.of(
    [
        Spec("user", DType.INT64, (-1, 1)),
        Spec("item", DType.INT64, (-1, 1)),
        Spec("kinds", DType.INT64, (-1, 2)),
        Spec("price", DType.FLOAT32, (-1,)),
    ],
    [Spec("score", DType.FLOAT32, (-1, 1))],
)
ITEMS = [{"item": 7, "kinds": [1, 2], "price": 0.5}, {"item": 9, "kinds": [3, 4], "price": 2.0}]


def written(folder, how):
    path = folder / f"items.{how}"
    if how == "table":
        columns = {"kinds": np.array([[1, 2], [3, 4]]), "price": np.array([0.5, 2.0], np.float32)}
        write_features(path, [7, 9], {**columns, "title": np.array(["a", "b"])})
    elif how == "jsonl":
        path.write_text("\n".join(map(json.dumps, ITEMS)))
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        pyarrow = pytest.importorskip("pyarrow")
        parquet.write_table(pyarrow.Table.from_pylist(ITEMS), path)
    return path


@pytest.mark.parametrize("how", ["table", "jsonl", "parquet"])
def test_every_item_input_has_a_row_an_item(how, tmp_path):
    found = read_catalogue(written(tmp_path, how), SIGNATURE, ["user"])
    assert {name: value.tolist() for name, value in found.items()} == {
        "item": [[7], [9]],
        "kinds": [[1, 2], [3, 4]],
        "price": [0.5, 2.0],
    }
    assert found["price"].dtype == np.float32


def test_a_table_that_lacks_an_input_says_which(tmp_path):
    write_features(tmp_path / "t.table", [7, 9], {"price": np.array([0.5, 2.0])})
    with pytest.raises(InvalidInput, match="item, kinds"):
        read_catalogue(tmp_path / "t.table", SIGNATURE, ["user"])


@pytest.mark.parametrize("values", [[1.5, 2.0], [float("inf"), 1.0]])
def test_a_column_that_an_input_cannot_hold_is_refused(values, tmp_path):
    columns = {"kinds": np.repeat(values, 2).reshape(2, 2), "price": np.ones(2)}
    write_features(tmp_path / "t.table", [7, 9], columns, defaults={"kinds": 0.0})
    with pytest.raises(InvalidInput, match="int64 lacks"):
        read_catalogue(tmp_path / "t.table", SIGNATURE, ["user"])


def test_rows_that_lack_an_input_say_which(tmp_path):
    (tmp_path / "t.csv").write_text("item,price\n7,0.5\n")
    with pytest.raises(InvalidInput, match="kinds"):
        read_catalogue(tmp_path / "t.csv", SIGNATURE, ["user"])


def test_where_every_input_is_the_users_there_is_no_item(tmp_path):
    with pytest.raises(InvalidInput, match="every input"):
        read_catalogue(written(tmp_path, "jsonl"), SIGNATURE, list(SIGNATURE.inputs))


def test_no_file_no_items(tmp_path):
    with pytest.raises(ModelNotFound):
        read_catalogue(tmp_path / "none.csv", SIGNATURE, ["user"])
