"""Every operation of MLeap in a bundle of its own, with the attributes that MLeap writes.

What is expected follows from each operation's definition; both forms of a bundle answer alike.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import Node, Tensor, files, write_folder, write_zip

import martlet
from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats.mleap.pipeline import READERS

X = np.array([[1.0, -2.0, 0.0], [0.5, 3.0, 4.0]])
NAN, INF = math.nan, math.inf


def vector(*values: float) -> Tensor:
    return Tensor([float(v) for v in values], [len(values)])


def matrix(rows: Any) -> Tensor:
    array = np.asarray(rows, float)
    return Tensor(array.ravel(order="F").tolist(), list(array.shape))


def words(*rows: list[str]) -> np.ndarray:
    out = np.full((len(rows), max(map(len, rows))), None, dtype=object)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out


# fmt: off
STEPS: list[tuple[str, dict[str, Any], Any, Any]] = [
    ("string_indexer", {"labels": ["b", "a"]}, ["a", "b"], [1.0, 0.0]),
    ("string_indexer", {"labels_length": 1, "labels_array_0": ["b", "a"], "handle_invalid": "keep"},
     ["a", "?"], [1.0, 2.0]),
    ("reverse_string_indexer", {"labels": ["b", "a"]}, [1.0, 0.0], ["a", "b"]),
    ("one_hot_encoder", {"size": 2, "drop_last": True}, [1.0, 2.0], [[0, 1], [0, 0]]),
    ("one_hot_encoder", {"size": 2, "drop_last": True, "handle_invalid": "keep"}, [1.0, 9.0],
     [[0, 1], [0, 0]]),
    ("one_hot_encoder", {"category_sizes": [2], "drop_last": False, "handle_invalid": "keep"},
     [1.0, 7.0], [[0, 1, 0], [0, 0, 1]]),
    ("standard_scaler", {"mean": vector(1, 1, 1), "std": vector(2, 4, 0)}, X,
     [[0, -0.75, 0], [-0.25, 0.5, 0]]),
    ("min_max_scaler", {"min": vector(0, -2, 0), "max": vector(1, 3, 4), "min_value": -1.0,
                        "max_value": 1.0}, X, [[1, -1, -1], [0, 1, 1]]),
    ("min_max_scaler", {"min": vector(0, -2, 0), "max": vector(1, 3, 4)}, X,
     [[1, 0, 0], [0.5, 1, 1]]),
    ("max_abs_scaler", {"maxAbs": vector(2, 4, 0)}, X, [[0.5, -0.5, 0], [0.25, 0.75, 4]]),
    ("normalizer", {"p_norm": 1.0}, X, [[1 / 3, -2 / 3, 0], [0.5 / 7.5, 3 / 7.5, 4 / 7.5]]),
    ("elementwise_product", {"scaling_vec": vector(2, 0, -1)}, X, [[2, 0, 0], [1, 0, -4]]),
    ("idf", {"idf": vector(2, 0.5, 1)}, X, [[2, -1, 0], [1, 1.5, 4]]),
    ("vector_indexer", {"keys": [1], "key_1_keys": [-2.0, 3.0], "key_1_values": [1, 0],
                        "num_features": 3}, X, [[1, 1, 0], [0.5, 0, 4]]),
    ("bucketizer", {"splits": [-INF, 0.0, 2.0, INF]}, [-1.0, 0.0, 5.0], [0, 1, 2]),
    ("bucketizer", {"splits": [0.0, 1.0, 2.0], "handle_invalid": "keep"}, [0.0, NAN, 2.0],
     [0, 2, 1]),
    ("binarizer", {"threshold": 0.5}, [0.5, 0.6], [0, 1]),
    ("imputer", {"imputeValue": 9.0, "missingValue": -1.0, "strategy": "mean"}, [1.0, -1.0, NAN],
     [1, 9, 9]),
    ("imputer", {"surrogate_value": 9.0, "strategy": "mean"}, [1.0, NAN], [1, 9]),
    ("pca", {"principal_components": matrix([[1, 0], [0, 1], [2, 2]])}, X, [[1, -2], [8.5, 11]]),
    ("polynomial_expansion", {"degree": 2, "combinations": ""}, X[:, :2],
     [[1, 1, -2, -2, 4], [0.5, 0.25, 3, 1.5, 9]]),
    ("dct", {"inverse": False, "input_size": 2}, [[1.0, 1.0]], [[math.sqrt(2), 0]]),
    ("vector_slicer", {"indices": [2, 0]}, X, [[0, 1], [4, 0.5]]),
    ("vector_slicer", {"indices": [2], "names": ["b"], "named_indices": [1]}, X, [[0, -2], [4, 3]]),
    ("chi_sq_selector", {"filter_indices": [2, 1]}, X, [[-2, 0], [3, 4]]),
    ("hashing_term_frequency", {"num_features": 4, "binary": True, "hashUnsafeBytesVersion": 2},
     words(["hello", "hello"]), None),
    ("count_vectorizer", {"vocabulary": ["b", "a"], "binary": False, "min_tf": 2.0},
     words(["a", "a", "b"], ["c"]), [[0, 2], [0, 0]]),
    ("word_to_vector", {"words": ["a", "b"], "indices": [1, 0], "kernel": "default",
                        "word_vectors": [1.0, 2.0, 3.0, 4.0]},
     words(["a", "b"], ["a", "z"]), [[2, 3], [1.5, 2]]),
    ("bucketed_random_projection_lsh", {"random_unit_vectors": [vector(1, 0, 0), vector(0, 1, 0)],
                                        "bucket_length": 2.0, "input_size": 3}, X,
     [[[0], [-1]], [[0], [1]]]),
    ("min_hash_lsh", {"random_coefficients_a": [2, 3], "random_coefficients_b": [1, 5]}, X,
     [[[3], [8]], [[3], [8]]]),
    ("math_unary", {"operation": "sqrt"}, [4.0, -1.0], [2, NAN]),
    ("math_unary", {"operation": "logit"}, [0.75], [math.log(3)]),
    ("math_unary", {"operation": "floor"}, [1.5, -1.5], [1, -2]),
    ("math_unary", {"operation": "ceil"}, [1.5, -1.5], [2, -1]),
    ("math_unary", {"operation": "round_of"}, [1.5, -1.5, 0.49999999999999994, NAN],
     [2, -1, 0, 0]),
    ("string_map", {"labels": ["a"], "values": [2.5], "handle_invalid": "keep",
                    "default_value": 7.0}, ["a", "z"], [2.5, 7.0]),
    ("regex_indexer", {"regexes": ["^a", "b"], "indices": [4, 5], "default_value": 9},
     ["ab", "cb", "c"], [4, 5, 9]),
    ("sklearn_binarizer", {"threshold": 0.5}, [0.5, 0.6], [0, 1]),
    ("sklearn_polynomial_expansion", {"combinations": "[1, x0, x1, x0^2, x0 x1]"}, X[:, :2],
     [[1, 1, -2, 1, -2], [1, 0.5, 3, 0.25, 1.5]]),
]
TEXTS: list[tuple[str, dict[str, Any], Any, list[list[str]]]] = [
    ("tokenizer", {}, ["A b", "c"], [["a", "b"], ["c"]]),
    ("regex_tokenizer", {"regex": "[,;]", "match_gaps": True, "token_min_length": 2,
                         "lowercase_text": False}, ["Ab,c;dE"], [["Ab", "dE"]]),
    ("stopwords_remover", {"stop_words": ["The"], "case_sensitive": False},
     words(["the", "fox"], ["THE", "a"]), [["fox"], ["a"]]),
    ("ngram", {"n": 2}, words(["a", "b", "c"], ["a"]), [["a b", "b c"], []]),
    ("word_filter", {"length": 1}, words(["a", "bc"]), [["bc"]]),
]
SCORES = {"features": "x"}, {"prediction": "p", "raw_prediction": "raw", "probability": "q"}
MARGIN = X @ [1.0, 0.5, -1.0] + 0.25
HALF = {"coefficients": vector(1, 0.5, -1), "intercept": 0.25, "num_classes": 2}
MODELS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("logistic_regression", {**HALF, "threshold": 0.5},
     {"p": MARGIN > 0, "q": np.stack([1 / (1 + np.exp(MARGIN)), 1 / (1 + np.exp(-MARGIN))], 1)}),
    ("logistic_regression", {"coefficient_matrix": matrix(np.eye(3)), "num_classes": 3,
                             "intercept_vector": vector(0, 0, 0)}, {"p": [0, 2], "raw": X}),
    ("linear_svc", {**HALF, "threshold": 0.0},
     {"p": MARGIN > 0, "raw": np.stack([-MARGIN, MARGIN], 1)}),
    ("support_vector_machine", {**HALF, "threshold": 0.0}, {"p": MARGIN > 0}),
    ("svm", HALF, {"p": MARGIN > 0}),
    ("linear_regression", HALF, {"p": MARGIN}),
    ("generalized_linear_regression", {**HALF, "family": "poisson", "link": "log"},
     {"p": np.exp(MARGIN)}),
    ("aft_survival_regression", {**HALF, "scale": 2.0, "quantile_probabilities": [0.5]},
     {"p": np.exp(MARGIN)}),
    ("naive_bayes", {"pi": vector(-1, -2), "theta": matrix([[1, 0, 0], [0, 1, 0]]),
                     "num_classes": 2, "num_features": 3, "model_type": "multinomial"},
     {"p": [0], "raw": [[0, -2]]}),
    ("multi_layer_perceptron_classifier", {"layers": [3, 2], "weights": vector(*range(8))},
     {"raw": X @ [[0, 1], [2, 3], [4, 5]] + [6, 7]}),
    ("k_means", {"cluster_centers": [vector(0, 3, 4), vector(1, -2, 0)], "num_features": 3},
     {"p": [1, 0]}),
    ("gaussian_mixture", {"means": [vector(0, 3, 4), vector(1, -2, 0)], "weights": [0.5, 0.5],
                          "covs": [matrix(np.eye(3))] * 2}, {"p": [1, 0]}),
    ("isotonic_regression", {"boundaries": [0.0, 1.0], "predictions": [10.0, 20.0],
                             "isotonic": True, "feature_index": 0}, {"p": [20, 15]}),
]
# fmt: on


def opened(tmp_path: Path, nodes: list[Node], form: str) -> martlet.Checked:
    parts = files(nodes, form)
    write = write_zip if form == "protobuf" else write_folder
    return martlet.load(write(tmp_path / "bundle", parts))


@pytest.fixture(params=["json", "protobuf"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ask(tmp_path: Path, node: Node, form: str, given: dict[str, Any]) -> dict[str, Any]:
    with opened(tmp_path, [node], form) as model:
        return model.predict(given, "columns")


class TestOperations:
    @pytest.mark.parametrize(
        ("op", "attributes", "given", "wanted"), STEPS, ids=lambda v: str(v)[:40]
    )
    def test_answer_as_they_are_defined(
        self, tmp_path: Path, form: str, op: str, attributes: Any, given: Any, wanted: Any
    ) -> None:
        node = Node("n", op, attributes, {"input": "x"}, {"output": "y"})
        found = ask(tmp_path, node, form, {"x": given})["y"]
        if wanted is None:
            # MurmurHash3 of "hello" with the seed 42, as scikit-learn computes it.
            wanted = np.eye(4)[[3806057185 % 4]]
        if found.dtype == object:
            assert found.tolist() == wanted
        else:
            np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-14)

    @pytest.mark.parametrize(
        ("op", "attributes", "given", "wanted"), TEXTS, ids=lambda v: str(v)[:40]
    )
    def test_give_words(
        self, tmp_path: Path, form: str, op: str, attributes: Any, given: Any, wanted: Any
    ) -> None:
        node = Node("n", op, attributes, {"input": "x"}, {"output": "y"})
        found = ask(tmp_path, node, form, {"x": given})["y"].tolist()
        assert [[w for w in row if w is not None] for row in found] == wanted

    @pytest.mark.parametrize(("op", "attributes", "wanted"), MODELS, ids=lambda v: str(v)[:40])
    def test_models_score(
        self, tmp_path: Path, form: str, op: str, attributes: Any, wanted: dict[str, Any]
    ) -> None:
        rows = X if op != "naive_bayes" else np.array([[1.0, 0.0, 2.0]])
        found = ask(tmp_path, Node("n", op, attributes, *SCORES), form, {"x": rows})
        for name, expected in wanted.items():
            np.testing.assert_allclose(
                found[name], np.asarray(expected, float), rtol=1e-9, atol=1e-12
            )

    def test_every_one_is_asked_here_or_beside_the_spark_model_it_was_made_of(self) -> None:
        elsewhere = {
            "decision_tree_classifier", "decision_tree_regression", "gbt_classifier",
            "gbt_regression", "random_forest_classifier", "random_forest_regression",
            "vector_assembler", "interaction", "feature_hasher", "math_binary", "coalesce",
            "one_vs_rest", "als", "bisecting_k_means", "xgboost.classifier", "xgboost.regression",
            "lightgbm_classifier", "lightgbm_regression",
        }  # fmt: skip
        asked = {each[0] for each in [*STEPS, *TEXTS, *MODELS]}
        assert asked | elsewhere == set(READERS)


class TestOperationsOfSeveralColumns:
    def test_either_side_of_arithmetic_may_be_a_constant(self, tmp_path: Path, form: str) -> None:
        both = {"input_a": "a", "input_b": "b"}
        nodes = [
            Node("n", "math_binary", {"operation": "sub"}, both, {"output": "y"}),
            Node(
                "m",
                "math_binary",
                {"operation": "pow", "db": 2.0},
                {"input_a": "a"},
                {"output": "z"},
            ),
        ]
        with opened(tmp_path, nodes, form) as model:
            found = model.predict({"a": [5.0, 1.0], "b": [2.0, 3.0]}, "columns")
        assert found["y"].tolist() == [3.0, -2.0]
        assert found["z"].tolist() == [25.0, 1.0]

    def test_the_first_that_is_there_is_taken(self, tmp_path: Path, form: str) -> None:
        node = Node("n", "coalesce", {}, {"input0": "a", "input1": "b"}, {"output": "y"})
        found = ask(tmp_path, node, form, {"a": [NAN, 1.0, NAN], "b": [2.0, 3.0, NAN]})["y"]
        np.testing.assert_array_equal(found, [2.0, 1.0, NAN])

    def test_numbers_and_indices_are_multiplied(self, tmp_path: Path, form: str) -> None:
        sizes = {"num_inputs": 2, "num_features0": [1], "num_features1": [3]}
        node = Node("n", "interaction", sizes, {"input0": "a", "input1": "i"}, {"output": "y"})
        found = ask(tmp_path, node, form, {"a": [2.0, 5.0], "i": [1.0, 2.0]})["y"]
        np.testing.assert_array_equal(found, [[0, 2, 0], [0, 0, 5]])

    def test_an_index_within_a_vector_is_spread_out_before_it_is_multiplied(
        self, tmp_path: Path, form: str
    ) -> None:
        sizes = {"num_inputs": 2, "num_features0": [1], "num_features1": [1, 3]}
        node = Node("n", "interaction", sizes, {"input0": "a", "input1": "v"}, {"output": "y"})
        found = ask(tmp_path, node, form, {"a": [2.0, 5.0], "v": [[0.5, 0.0], [3.0, 2.0]]})["y"]
        np.testing.assert_array_equal(found, [[1, 2, 0, 0], [15, 0, 0, 5]])

    def test_lists_of_labels_are_as_many_as_columns_whatever_the_file_counts(
        self, tmp_path: Path, form: str
    ) -> None:
        labels = {"labels_length": 1, "labels_array_0": ["a", "b"], "labels_array_1": ["c"]}
        node = Node("n", "string_indexer", {**labels, "handle_invalid": "error"},
                    {"input0": "a", "input1": "b"}, {"output0": "i", "output1": "j"})  # fmt: skip
        found = ask(tmp_path, node, form, {"a": ["b"], "b": ["c"]})
        assert (found["i"].tolist(), found["j"].tolist()) == ([1.0], [0.0])

    def test_a_user_and_an_item_are_multiplied(self, tmp_path: Path, form: str) -> None:
        tables = {
            "rank": 2,
            "users": [7, 3],
            "items": [5],
            "user_factors": [vector(1, 2), vector(3, 4)],
            "item_factors": [vector(10, 1)],
        }
        node = Node("n", "als", tables, {"user": "u", "item": "v"}, {"prediction": "p"})
        found = ask(tmp_path, node, form, {"u": [3, 7, 9], "v": [5, 5, 5]})["p"]  # fmt: skip
        np.testing.assert_allclose(found, [34.0, 12.0, NAN])

    def test_the_model_whose_class_is_likeliest_wins(self, tmp_path: Path, form: str) -> None:
        def one(*weights: float) -> tuple[str, dict[str, Any]]:
            return "logistic_regression", {**HALF, "coefficients": vector(*weights)}

        models = {f"model{i}": one(*row) for i, row in enumerate(np.eye(3))}
        node = Node("n", "one_vs_rest", {"num_classes": 3}, {"features": "x"},
                    {"prediction": "p", "probability": "q"}, models=models)  # fmt: skip
        found = ask(tmp_path, node, form, {"x": X})
        assert found["p"].tolist() == [0.0, 2.0]
        np.testing.assert_allclose(found["q"], 1 / (1 + np.exp([-1.25, -4.25])))

    def test_a_selector_of_an_early_bundle_takes_features(self, tmp_path: Path, form: str) -> None:
        node = Node(
            "n", "chi_sq_selector", {"filter_indices": [0]}, {"features": "x"}, {"output": "y"}
        )
        assert ask(tmp_path, node, form, {"x": X})["y"].tolist() == [[1.0], [0.5]]


class TestWhatIsNotSupported:
    @pytest.mark.parametrize(
        "op", ["lda", "categorical_drilldown", "map_entry_selector", "tensorflow"]
    )
    def test_is_named_with_its_node_and_place(self, tmp_path: Path, form: str, op: str) -> None:
        node = Node("guess", op, {}, {"features": "x"}, {"prediction": "p"})
        with pytest.raises(
            UnsupportedModel, match=rf"{op} guess \(root/guess.node\).*not supported"
        ):
            opened(tmp_path, [node], form)

    def test_text_that_no_pattern_finds_is_refused(self, tmp_path: Path, form: str) -> None:
        node = Node("n", "regex_indexer", {"regexes": ["a"], "indices": [1]}, {"input": "x"},
                    {"output": "y"})  # fmt: skip
        with pytest.raises(InvalidInput, match="which no pattern finds"):
            ask(tmp_path, node, form, {"x": ["b"]})
