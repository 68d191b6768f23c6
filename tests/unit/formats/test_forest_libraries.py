"""The forest against the libraries that grow trees: to the last bit, compiled and pure."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from martlet.formats.trees.builder import Arithmetic, Trees

pytestmark = pytest.mark.usefixtures("walks")
NAN = math.nan


def data(rows=500, features=8, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features))
    x[:, 0] = rng.integers(0, 40, rows)
    y = (x[:, 1] + np.sin(x[:, 2]) + (x[:, 0] % 3) + rng.normal(size=rows) * 0.1) > 1
    x[rng.random(x.shape) < 0.1] = NAN
    return x, y.astype(int)


def of_lightgbm(booster):
    dump = booster.dump_model()
    trees = Trees(dump["max_feature_idx"] + 1)
    values = []

    def grow(node):
        if "leaf_value" in node:
            values.append(node["leaf_value"])
            return trees.leaf(len(values) - 1)
        yes, no = grow(node["left_child"]), grow(node["right_child"])
        feature = node["split_feature"]
        if node["decision_type"] == "==":
            codes = [int(c) for c in node["threshold"].split("||")]
            return trees.member(feature, codes, yes=yes, no=no, missing=no)
        if node["missing_type"] == "NaN":
            missing = yes if node["default_left"] else no
        else:
            missing = yes if node["threshold"] >= 0 else no  # NaN is taken for 0
        return trees.compare(feature, "<=", node["threshold"], yes=yes, no=no, missing=missing)

    for tree in dump["tree_info"]:
        trees.add(grow(tree["tree_structure"]))
    return trees.build(), values


class TestAgainstLibraries:
    @pytest.mark.parametrize("nan", [True, False])
    def test_lightgbm_with_categories_and_missing_values(self, nan):
        lightgbm = pytest.importorskip("lightgbm")
        x, y = data()
        if not nan:
            x = np.nan_to_num(x)
        booster = lightgbm.train(
            {"objective": "binary", "verbose": -1, "num_leaves": 31, "max_cat_to_onehot": 1,
             "min_data_per_group": 5, "cat_smooth": 1, "num_threads": 1},
            lightgbm.Dataset(x, y, categorical_feature=[0]), num_boost_round=30,
        )  # fmt: skip
        forest, values = of_lightgbm(booster)
        assert (forest.set_of >= 0).any()
        score = forest.sum(values, target=np.zeros(forest.trees))
        asked = np.concatenate([x, data(seed=1)[0]])
        asked[-3:, 0] = [39, 77, -1]
        expected = booster.predict(asked, raw_score=True, num_threads=1)
        np.testing.assert_array_equal(score(asked)[:, 0], expected)
        np.testing.assert_array_equal([score.of(row)[0] for row in asked[-20:]], expected[-20:])

    def test_xgboost_in_its_own_float32(self):
        xgboost = pytest.importorskip("xgboost")
        x, y = data()
        booster = xgboost.train(
            {"objective": "binary:logistic", "max_depth": 6, "base_score": 0.5, "nthread": 1},
            xgboost.DMatrix(x, y), num_boost_round=40,
        )  # fmt: skip
        trees, values = Trees(x.shape[1], Arithmetic.FLOAT32), []
        learner = json.loads(bytes(booster.save_raw("json")))["learner"]
        for tree in learner["gradient_booster"]["model"]["trees"]:
            ids = [trees.reserve() for _ in tree["left_children"]]
            for i, at in enumerate(ids):
                left, right = tree["left_children"][i], tree["right_children"][i]
                if left < 0:
                    values.append(tree["split_conditions"][i])
                    trees.leaf(len(values) - 1, at=at)
                    continue
                missing = left if tree["default_left"][i] else right
                trees.compare(
                    tree["split_indices"][i], "<", tree["split_conditions"][i],
                    yes=ids[left], no=ids[right], missing=ids[missing], at=at,
                )  # fmt: skip
            trees.add(ids[0])
        score = trees.build().sum(values, target=np.zeros(40), float32=True)
        asked = data(seed=1)[0]
        expected = booster.predict(xgboost.DMatrix(asked), output_margin=True)
        np.testing.assert_array_equal(score(asked)[:, 0], expected.astype(np.float64))
        assert score.of(asked[0]) == [float(expected[0])]

    def test_a_scikit_learn_random_forest_votes_its_distributions(self):
        ensemble = pytest.importorskip("sklearn.ensemble")
        x, y = data()
        x = np.nan_to_num(x)
        model = ensemble.RandomForestClassifier(20, max_depth=8, random_state=0).fit(x, y)
        trees, values = Trees(x.shape[1], Arithmetic.FLOAT32_VALUES), []
        for each in model.estimators_:
            tree = each.tree_
            ids = [trees.reserve() for _ in range(tree.node_count)]
            for i, at in enumerate(ids):
                if tree.children_left[i] < 0:
                    values.append(tree.value[i, 0])
                    trees.leaf(len(values) - 1, at=at)
                else:
                    left, right = ids[tree.children_left[i]], ids[tree.children_right[i]]
                    trees.compare(
                        int(tree.feature[i]), "<=", float(tree.threshold[i]),
                        yes=left, no=right, missing=left, at=at,
                    )  # fmt: skip
            trees.add(ids[0])
        forest = trees.build()
        asked = np.nan_to_num(data(seed=1)[0])
        shares = forest.sum(values)(asked) / forest.trees
        np.testing.assert_array_equal(shares, model.predict_proba(asked))
