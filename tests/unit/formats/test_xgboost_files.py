"""XGBoost's files: the old binary, and UBJSON."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import martlet
from martlet.errors import UnsupportedModel
from martlet.formats.xgboost import ubjson

pytestmark = pytest.mark.filterwarnings("ignore")


class TestXGBoostBinary:
    """The format before 3.1, which XGBoost no longer reads."""

    def test_a_margin_of_an_old_version_becomes_a_probability(self):
        from martlet.formats.xgboost.binary import _predicted

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
            b"{i\x01ai\x01i\x01ai\x02}",
        ],
    )
    def test_what_is_not_ubjson_is_refused_without_room_for_it(self, data: bytes):
        with pytest.raises(ValueError):
            ubjson.loads(data)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict[str, str]:
    """Models with vectors in their leaves, with categories, linear and of DART, as JSON."""
    xgboost = pytest.importorskip("xgboost")
    rows = np.random.default_rng(0).normal(size=(60, 3))
    rows[:, 2] = np.arange(60) % 5
    label = (rows[:, 0] > 0) ^ (rows[:, 2] == 3)
    found = {}

    def train(name: str, label: np.ndarray, few: dict[str, Any], **told: Any) -> None:
        table = xgboost.DMatrix(rows, label, **told)
        booster = xgboost.train({"max_depth": 2, "nthread": 1, **few}, table, 2)
        found[name] = bytes(booster.save_raw("json")).decode()

    train("linear", label, {"booster": "gblinear"})
    train("dart", label, {"booster": "dart", "rate_drop": 0.5})
    both = {"multi_strategy": "multi_output_tree", "tree_method": "hist"}
    train("vectors", np.stack([label, ~label], 1), both)
    codes = {"feature_types": ["q", "q", "c"], "enable_categorical": True}
    train("categories", label, {"max_cat_to_onehot": 1}, **codes)
    return found


class TestDamage:
    """What XGBoost would read past the end of: it ends the process, so martlet looks first."""

    @pytest.mark.parametrize(
        ("model", "old", "new"),
        [
            ("vectors", '"loss_changes"', '"x"'),
            ("vectors", '"split_conditions"', '"x"'),
            ("vectors", '"sum_hessian"', '"x"'),
            ("vectors", '"size_leaf_vector":"2"', '"size_leaf_vector":"-1"'),
            ("vectors", '"split_type"', '"x"'),
            ("vectors", r'"split_type":\[0,', '"split_type":['),
            ("linear", r'"weights":\[', '"weights":[1.0,'),
            ("linear", '"weights":', '"x":'),
            ("dart", r'"weight_drop":\[', '"weight_drop":[1.0,'),
            ("dart", '"name":"dart"', '"name":"gblinear"'),
            ("categories", r'("categories_sizes":\[\d+),[^]]*', r"\1"),
            ("categories", r'"categories_sizes":\[', '"categories_sizes":[1,'),
            ("dart", r'"feature_names":\[', '"feature_names":["a","b"'),
            ("dart", r'"feature_names":\[', '"feature_names":["a","b","b"'),
            ("categories", '"feature_types":."q"', '"feature_types":["?"'),
            ("categories", '"id":0', '"left_children":[0],"id":0'),
            ("categories", '"num_nodes":"', '"num_nodes":"9999999999999999999999'),
            ("categories", r'"split_indices":\[', '"split_indices":[99999999999999999999,'),
            ("dart", '"id":1,', '"id":0,'),
            ("dart", '"id":1,', '"id":18446744073709551616,'),
            ("dart", '"base_score":"[^"]*"', '"base_score":"1-E5"'),
            ("dart", '"base_score":"[^"]*"', '"base_score":"[0.5,0.5,0.5]"'),
        ],
    )
    def test_is_refused(self, saved, model: str, old: str, new: str, tmp_path: Path):
        found, count = re.subn(old, new, saved[model], count=1)
        assert count == 1
        (tmp_path / "m.json").write_text(found)
        with pytest.raises(UnsupportedModel, match="not a whole XGBoost model"):
            martlet.load(tmp_path / "m.json")


@pytest.mark.parametrize(
    "content",
    [
        b"booster[0]:\n0:[f0<0.5] yes=1,no=2,missing=1\n\t1:leaf=0.4\n\t2:leaf=-0.4\n",
        b'[\n  { "nodeid": 0, "leaf": 0.4 }\n]',
        b'{"learner":{"generic_param":{},"gradient_booster":{"name":"gbtree"},"learner_model_param":'
        b'{"num_feature":"3","num_class":"0"},"objective":{"name":"reg:gamma"}},"version":[3,2,0]}',
    ],
    ids=["trees as text", "trees as JSON", "a configuration"],
)
def test_what_holds_no_model_says_what_would(content: bytes, tmp_path: Path):
    pytest.importorskip("xgboost")
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(UnsupportedModel, match="save_model"):
        martlet.load(tmp_path / "m")


def trained_on(column: Any, path: Path) -> tuple[Any, Any]:
    """A booster of a number and of a category without a name of its own, saved at *path*."""
    pandas, xgboost = pytest.importorskip("pandas"), pytest.importorskip("xgboost")
    rows = np.random.default_rng(1).normal(size=len(column))
    table = pandas.DataFrame({0: rows, 1: pandas.Categorical(column)})
    label = (rows > 0) ^ (table[1].cat.codes.to_numpy() == 1)
    told = xgboost.DMatrix(table, label, enable_categorical=True)
    booster = xgboost.train({"max_depth": 3, "nthread": 1}, told, 4)
    booster.save_model(path)
    return table, booster.predict(told)


class TestCategories:
    """From 3.1 a file keeps the values of its categories."""

    @pytest.mark.parametrize("kind", ["json", "ubj"])
    @pytest.mark.parametrize("values", [["lima", "oslo", "rome"], [10, 20, 50]], ids=str)
    def test_columns_that_are_numbered_take_their_values(self, values, kind, tmp_path: Path):
        path = tmp_path / f"m.{kind}"
        table, expected = trained_on(values * 40, path)
        with martlet.load(path) as model:
            column = table[1].to_numpy()
            as_told = column.astype(object if isinstance(values[0], str) else float)
            found = model.predict({"0": table[0].to_numpy(), "1": as_told})["predict"]
        np.testing.assert_allclose(found, expected, rtol=1e-6)

    def test_names_that_xgboost_cut_short_are_not_taken_for_others(self, tmp_path: Path):
        """XGBoost 3.1 to 3.3 count characters for bytes: "Oslo" is not the "Os" of its file."""
        table, expected = trained_on(["Köln", "Oslo", "Zürich"] * 40, tmp_path / "m.json")
        codes = table[1].cat.codes.to_numpy().astype(float)
        with martlet.load(tmp_path / "m.json") as model:
            if model.signatures["columns"].inputs["1"].dtype.value == "string":
                codes = table[1].to_numpy().astype(object)  # a later XGBoost, which keeps them
            found = model.predict({"0": table[0].to_numpy(), "1": codes}, "columns")["predict"]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
