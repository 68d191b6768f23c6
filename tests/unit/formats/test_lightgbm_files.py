"""LightGBM's text: which columns were pandas categories, and what is no tree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import martlet
from martlet.errors import UnsupportedModel
from martlet.formats.lightgbm.categories import category_columns

pytestmark = pytest.mark.filterwarnings("ignore")
NUMBER, TEXT = "[-2.5:3.1]", "-1:1:0"


class TestCategoryColumns:
    """The file lists the categories' values, not their columns."""

    @pytest.mark.parametrize(
        ("infos", "parameters", "columns"),
        [
            ([NUMBER, TEXT], "", [1]),
            (["-1:7:3:0:8", TEXT], "[categorical_feature: 0,1]", [1]),  # codes beyond the values
            (["[0:1]", NUMBER], "", [0]),  # a category that pandas orders
            ([NUMBER, "none"], "[categorical_feature: 1]", [1]),  # one that never varied
            (["none", "none"], "[categorical_feature: 1]", [1]),
            (["[0:1]", "[0:1]"], "", None),  # either
            (["none", "none"], "", None),
            ([NUMBER, "[0:2]"], "", None),  # neither
            ([TEXT, TEXT], "", None),
        ],
    )
    def test_of_one_category_of_two_values(self, infos, parameters, columns):
        assert category_columns([["a", "b"]], infos, parameters) == columns

    def test_several_stand_in_the_order_of_the_columns(self):
        infos = [NUMBER, "-1:2:0:1", "[0:4]", "-1:0", "none"]
        values = [list("abc"), list("pqrst"), ["x"]]
        assert category_columns(values, infos, "") == [1, 2, 3]

    def test_what_would_take_too_long_is_not_tried(self):
        assert category_columns([["a"]] * 2000, ["none"] * 2000, "") is None


@pytest.mark.parametrize("kind", ["ordered", "constant", "beside numbered"])
def test_categories_of_a_data_frame_are_asked_by_their_values(kind: str, tmp_path: Path):
    lightgbm, pandas = pytest.importorskip("lightgbm"), pytest.importorskip("pandas")
    dice = np.random.default_rng(0)
    table = pandas.DataFrame(
        {
            "number": dice.normal(size=200),
            "code": dice.integers(0, 9, 200),
            "size": pandas.Categorical(
                dice.choice(["small", "mid", "big"], 200),
                ["small", "mid", "big"],
                ordered=kind == "ordered",
            ),
            "same": pandas.Categorical(["one"] * 200) if kind == "constant" else np.zeros(200),
        }
    )
    label = (table["size"] == "mid") ^ (table["number"] > 0)
    few = {"verbose": -1, "min_data_in_leaf": 5, "num_threads": 1}
    told = {"categorical_feature": ["code", "size"]} if kind == "beside numbered" else {}
    booster = lightgbm.train(few, lightgbm.Dataset(table, label, **told), 4)
    booster.save_model(tmp_path / "m.txt")
    asked = {name: table[name].to_numpy().astype(float) for name in ("number", "code")}
    asked["size"] = table["size"].to_numpy().astype(object)
    asked["same"] = table["same"].to_numpy().astype(object if kind == "constant" else float)
    with martlet.load(tmp_path / "m.txt") as model:
        found = model.predict(asked)["predict"]
    np.testing.assert_allclose(found, booster.predict(table), rtol=1e-12)


@pytest.fixture(scope="module")
def text() -> str:
    """A model of three classes and two iterations."""
    lightgbm = pytest.importorskip("lightgbm")
    rows = np.random.default_rng(0).normal(size=(90, 2))
    few = {"objective": "multiclass", "num_class": 3, "verbose": -1, "min_data_in_leaf": 5}
    booster = lightgbm.train(few, lightgbm.Dataset(rows, np.digitize(rows[:, 0], [-0.5, 0.5])), 2)
    return booster.model_to_string()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("num_tree_per_iteration=3", "num_tree_per_iteration=-3"),
        ("num_tree_per_iteration=3", "num_tree_per_iteration=0"),
        ("split_feature=", "split_feature=99999999999999999999 "),
        ("pandas_categorical:null", 'pandas_categorical:{"a":1}'),
        ("pandas_categorical:null", "pandas_categorical:[[[]]]"),
    ],
)
def test_what_is_damaged_is_refused(text: str, old: str, new: str, tmp_path: Path):
    assert old in text
    (tmp_path / "m.txt").write_text(text.replace(old, new, 1))
    with pytest.raises(UnsupportedModel):
        martlet.load(tmp_path / "m.txt")


def test_an_iteration_that_is_not_whole_does_not_count(text: str, tmp_path: Path):
    """As LightGBM has it."""
    import lightgbm

    rows = np.random.default_rng(1).normal(size=(20, 2))
    lines = [line for line in text.split("\n") if not line.startswith("tree_sizes=")]
    head, *trees = "\n".join(lines).split("\nTree=")
    _, _, tail = trees[-1].partition("end of trees")
    cut = "\nTree=".join([head, *trees[:-1]]) + "\nend of trees" + tail
    (tmp_path / "m.txt").write_text(cut)
    own = lightgbm.Booster(model_str=cut)
    with martlet.load(tmp_path / "m.txt") as model:
        np.testing.assert_array_equal(
            model.predict({"X": rows})["raw_score"], own.predict(rows, raw_score=True)
        )
        leaf = np.asarray(own.predict(rows, pred_leaf=True))
        np.testing.assert_array_equal(model.predict({"X": rows}, "leaf")["leaf"], leaf)
