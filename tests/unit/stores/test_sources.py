"""Tables made from the files that people have."""

from __future__ import annotations

import json

import numpy as np
import pytest

from martlet.errors import InvalidInput, ModelNotFound
from martlet.stores import Embeddings, Features, Lists
from martlet.stores.sources import make_embeddings, make_features, make_lists, read_columns


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.table"


class TestEmbeddings:
    def test_from_npz(self, tmp_path, out):
        np.savez(tmp_path / "v.npz", keys=[7, 9], vectors=[[1.0, 2.0], [3.0, 4.0]])
        make_embeddings(tmp_path / "v.npz", out, generation="g")
        assert Embeddings(out).get_many([9]).vectors.tolist() == [[3.0, 4.0]]

    def test_from_csv_with_a_column_for_each_dimension(self, tmp_path, out):
        (tmp_path / "v.csv").write_text("item,d0,d1\na,1,2.5\nb,3,4\n")
        make_embeddings(tmp_path / "v.csv", out)
        assert Embeddings(out).get_many(["b", "a"]).vectors.tolist() == [[3, 4], [1, 2.5]]

    def test_from_json_of_objects(self, tmp_path, out):
        (tmp_path / "v.json").write_text(
            '[{"id": 4, "vector": [1, 2]}, {"id": 5, "vector": [3, 4]}]'
        )
        make_embeddings(tmp_path / "v.json", out)
        assert Embeddings(out).get_many([5]).vectors.tolist() == [[3, 4]]

    def test_from_parquet(self, tmp_path, out):
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        table = pa.table({"id": ["x", "y"], "vector": [[1.0, 2.0], [3.0, 4.0]]})
        parquet.write_table(table, tmp_path / "v.parquet")
        make_embeddings(tmp_path / "v.parquet", out)
        assert Embeddings(out).get_many(["y"]).vectors.tolist() == [[3, 4]]

    @pytest.mark.parametrize(
        ("name", "content", "says"),
        [
            ("v.csv", "item,d0\na,1\na,2\n", "'a' comes twice"),
            ("v.csv", "item,d0,d1\na,1\n", "line 2 has 2 cells, not 3"),
            ("v.csv", "item,d0,d1\na,1,x\n", "'d1' .* is not a dimension"),
            ("v.csv", "item,d0,d1\na,1,\n", "'d1' .* is not a dimension"),
            ("v.csv", "item,d0\na,nan\n", "not finite"),
            ("v.csv", "item,item\na,1\n", "once"),
            ("v.csv", "", "header"),
            ("v.csv", "item\na\n", "at least one more"),
            ("v.json", '[{"k": 1, "v": [1]}, {"k": 2, "v": [1, 2]}]', "key 2 has 2 components"),
            ("v.json", '[{"k": 1, "v": [1]}, {"k": 2}]', "key 2 has no vector"),
            ("v.json", '[{"k": 1, "v": ["a"]}]', "is not a number"),
            ("v.json", "{", "not readable as json"),
            ("v.json", "3", "not readable as json"),
            ("v.npz", "not a zip", "not readable as npz"),
            ("v.parquet", "not parquet", "not readable as parquet"),
            ("v.txt", "", "the suffixes are"),
        ],
    )
    def test_what_cannot_be_read_is_said_so(self, tmp_path, out, name, content, says):
        (tmp_path / name).write_text(content)
        with pytest.raises(InvalidInput, match=says):
            make_embeddings(tmp_path / name, out)
        assert not out.exists()

    def test_nothing_at_the_path_is_said_so(self, tmp_path, out):
        with pytest.raises(ModelNotFound):
            make_embeddings(tmp_path / "none.csv", out)


class TestFeatures:
    def test_the_cells_of_a_csv_say_what_a_column_is(self, tmp_path, out):
        (tmp_path / "f.csv").write_text(
            "user,age,rate,name,vip,zip\n1,30,0.5,Ann,true,01234\n2,,1e3,,false,99999\n"
        )
        make_features(tmp_path / "f.csv", out, defaults={"age": -1})
        table = Features(out)
        found = {name: values.tolist() for name, values in table.get_many([2, 1, 3]).items()}
        assert np.isnan(found.pop("rate")[2])
        assert found == {
            "age": [-1, 30, -1],
            "name": ["", "Ann", ""],
            "vip": [False, True, False],
            "zip": ["99999", "01234", ""],
        }

    def test_the_key_may_be_any_column(self, tmp_path, out):
        (tmp_path / "f.csv").write_text("age,user\n30,a\n")
        make_features(tmp_path / "f.csv", out, key="user")
        assert Features(out).get_many(["a"])["age"].tolist() == [30]
        with pytest.raises(InvalidInput, match="no column 'who'; it has: age, user"):
            make_features(tmp_path / "f.csv", out, key="who")

    def test_vectors_and_nulls_of_parquet_are_kept(self, tmp_path, out):
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        columns = {"id": [1, 2], "v": [[1.0, 2.0], [3.0, 4.0]], "n": [None, 5], "s": ["x", None]}
        parquet.write_table(pa.table(columns), tmp_path / "f.parquet")
        make_features(tmp_path / "f.parquet", out, defaults={"n": 8})
        found = Features(out).get_many([2, 1])
        assert found["v"].tolist() == [[3, 4], [1, 2]]
        assert found["n"].tolist() == [5, 8]
        assert found["s"].tolist() == ["", "x"]


class TestLists:
    def test_from_json(self, tmp_path, out):
        (tmp_path / "l.json").write_text(json.dumps({"1": [5, 6], "2": []}))
        make_lists(tmp_path / "l.json", out)
        assert Lists(out).get(1)[0].tolist() == [5, 6]
        (tmp_path / "l.json").write_text(json.dumps({"u1": [["a", 0.5], ["b", 0.25]]}))
        make_lists(tmp_path / "l.json", out)
        items, scores = Lists(out).get("u1")
        assert (items.tolist(), scores.tolist()) == (["a", "b"], [0.5, 0.25])

    def test_from_rows(self, tmp_path, out):
        (tmp_path / "l.csv").write_text("user,item,score\n1,10,0.9\n2,11,0.8\n1,12,0.7\n")
        make_lists(tmp_path / "l.csv", out)
        items, scores = Lists(out).get(1)
        assert items.tolist() == [10, 12]
        assert scores == pytest.approx([0.9, 0.7])

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ('{"1": [5], "1": [6]}', "'1' comes twice"),
            ('{"1": [5, [6, 0.1]]}', "mixes"),
            ('{"1": 5}', "object of lists"),
            ("[1]", "object of lists"),
            ('{"1": [5, 5]}', "an item twice"),
            ("{", "not JSON"),
        ],
    )
    def test_what_does_not_fit_is_named(self, tmp_path, out, content, says):
        (tmp_path / "l.json").write_text(content)
        with pytest.raises(InvalidInput, match=says):
            make_lists(tmp_path / "l.json", out)


def test_an_array_that_could_run_code_is_not_opened(tmp_path):
    np.savez(tmp_path / "v.npz", keys=np.array([{}], object), vectors=[[1.0]])
    with pytest.raises(InvalidInput, match="allow_pickle"):
        read_columns(tmp_path / "v.npz")
