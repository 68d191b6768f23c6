"""Stages with parameters and rows drawn at random, beside their published formulas.

What is expected is computed by scikit-learn, by SciPy, or value by value in plain Python.
"""

from __future__ import annotations

import bisect
import itertools
import math
import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from martlet.errors import InvalidInput

pytest.importorskip("pyarrow", reason="the extra martlet[spark] is not installed")

from spark_draws import COLUMNS, NUMBERS, ask, close, lists, matrices
from spark_files import matrix, sparse, vector

few = settings(max_examples=20, deadline=None)
MANY = st.sampled_from([1, 20])  # a few rows are counted one by one, many as arrays
WORDS = st.text("aBé😀 ,\t", max_size=5)


def words_of(row: list[str | None]) -> list[str]:
    return [word for word in row if word is not None]


def filled(rows: list[list[str]]) -> np.ndarray:
    width = max(map(len, rows), default=0)
    out = np.full((len(rows), width), None, dtype=object)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out


class TestText:
    @few
    @given(lists(WORDS, 1, 4))
    def test_a_tokenizer_cuts_lowered_text_at_white_space(self, rows: list[str]) -> None:
        found = ask("feature.Tokenizer", {"inputCol": "t", "outputCol": "w"}, None, {"t": rows})
        for row, text in zip(found["w"].tolist(), rows, strict=True):
            wanted = re.split(r"[ \t]", text.lower())
            while len(wanted) > 1 and not wanted[-1]:
                wanted.pop()
            assert words_of(row) == (wanted if wanted != [""] or not text else [])

    @few
    @given(lists(lists(WORDS, 0, 6), 1, 4), st.integers(1, 3))
    def test_ngrams_are_neighbours(self, rows: list[list[str]], n: int) -> None:
        params = {"inputCol": "w", "outputCol": "g", "n": n}
        found = ask("feature.NGram", params, None, {"w": filled(rows)})["g"].tolist()
        for row, words in zip(found, rows, strict=True):
            shifted = [words[i:] for i in range(n)]
            assert words_of(row) == [" ".join(each) for each in zip(*shifted, strict=False)]

    @few
    @given(lists(lists(WORDS, 0, 8), 1, 4), st.integers(1, 40), st.booleans(), MANY)
    def test_words_are_counted_where_murmur3_puts_them(
        self, rows: list[list[str]], width: int, binary: bool, times: int
    ) -> None:
        rows = rows * times
        hashing = pytest.importorskip("sklearn.utils").murmurhash3_32
        params = {"inputCol": "w", "outputCol": "v", "numFeatures": width, "binary": binary}
        found = ask("feature.HashingTF", params, None, {"w": filled(rows)})["v"]
        wanted = np.zeros((len(rows), width))
        for i, words in enumerate(rows):
            for word in words:
                wanted[i, hashing(word.encode(), seed=42) % width] += 1
        np.testing.assert_array_equal(found, np.sign(wanted) if binary else wanted)

    @few
    @given(
        lists(lists(WORDS, 0, 8), 1, 4), lists(WORDS, 1, 5), st.sampled_from([0.3, 1.0, 2.0]), MANY
    )  # fmt: skip
    def test_words_of_a_vocabulary_are_counted(
        self, rows: list[list[str]], vocabulary: list[str], least: float, times: int
    ) -> None:
        rows = rows * times
        known = list(dict.fromkeys(vocabulary))
        params = {"inputCol": "w", "outputCol": "v", "minTF": least}
        rows_of = [{"vocabulary": known}]
        found = ask("feature.CountVectorizerModel", params, rows_of, {"w": filled(rows)})["v"]
        for row, words in zip(found, rows, strict=True):
            counts = Counter(words)
            limit = least if least >= 1 else least * len(words)
            assert row.tolist() == [counts[w] if counts[w] >= limit else 0.0 for w in known]

    @few
    @given(lists(lists(WORDS, 0, 6), 1, 4), lists(WORDS, 1, 5), MANY)
    def test_vectors_of_known_words_are_averaged_over_all(
        self, rows: list[list[str]], vocabulary: list[str], times: int
    ) -> None:
        rows = rows * times
        known = {
            word: [float(i), 1.0 / (i + 1)] for i, word in enumerate(dict.fromkeys(vocabulary))
        }
        params = {"inputCol": "w", "outputCol": "v"}
        kept = [{"word": word, "vector": each} for word, each in known.items()]
        found = ask("feature.Word2VecModel", params, kept, {"w": filled(rows)})["v"]
        for got, words in zip(found, rows, strict=True):
            sums = [sum(known[w][j] for w in words if w in known) for j in range(2)]
            close(got, [each / max(1, len(words)) for each in sums])


class TestCategories:
    @few
    @given(
        lists(WORDS, 1, 5), lists(st.one_of(WORDS, st.none()), 1, 6),
        st.sampled_from(["keep", "skip", "error"]),
    )  # fmt: skip
    def test_have_the_places_of_their_labels(
        self, labels: list[str], rows: list[str | None], way: str
    ) -> None:
        labels = list(dict.fromkeys(labels))
        params = {"inputCol": "c", "outputCol": "i", "handleInvalid": way}

        def run() -> list[float]:
            given = {"c": np.array([*rows, None], dtype=object)[:-1]}
            kept = [{"labelsArray": [labels]}]
            return ask("feature.StringIndexerModel", params, kept, given)["i"].tolist()

        unseen = any(row not in labels for row in rows)
        if way == "error" and unseen:
            with pytest.raises(InvalidInput, match="has not seen"):
                run()
            return
        other = float(len(labels)) if way == "keep" else math.nan
        wanted = [float(labels.index(r)) if r in labels else other for r in rows]
        np.testing.assert_array_equal(run(), wanted)

    @few
    @given(st.integers(1, 5), st.booleans(), st.booleans(), lists(st.integers(0, 7), 1, 6))
    def test_are_spread_out(self, size: int, drop: bool, keep: bool, rows: list[int]) -> None:
        params = {"inputCols": ["i"], "outputCols": ["v"], "dropLast": drop,
                  "handleInvalid": "keep" if keep else "error"}  # fmt: skip
        if not keep:
            rows = [min(row, size - 1) for row in rows]
        given = {"i": np.array(rows, dtype=float)}
        found = ask("feature.OneHotEncoderModel", params, [{"categorySizes": [size]}], given)["v"]
        wide = np.eye(size + keep)[[min(row, size + keep - 1) for row in rows]]
        np.testing.assert_array_equal(found, wide[:, :-1] if drop else wide)


class TestNumbers:
    @few
    @given(st.lists(NUMBERS, min_size=2, max_size=5, unique=True), lists(NUMBERS, 1, 6))
    def test_are_put_in_buckets(self, inner: list[float], rows: list[float]) -> None:
        edges = sorted(inner)
        params = {"inputCol": "x", "outputCol": "b", "splits": ["-Inf", *edges, "Inf"],
                  "handleInvalid": "keep"}  # fmt: skip
        found = ask("feature.Bucketizer", params, None, {"x": [*rows, *edges, math.nan]})["b"]
        wanted = [bisect.bisect_right(edges, each) for each in [*rows, *edges]]
        assert found.tolist() == [*wanted, len(edges) + 1]

    @few
    @given(NUMBERS, NUMBERS, lists(st.one_of(NUMBERS, st.just(math.nan)), 1, 6))
    def test_are_put_where_some_are_missing(
        self, surrogate: float, absent: float, rows: list[float]
    ) -> None:
        params = {"inputCols": ["x"], "outputCols": ["y"], "missingValue": absent}
        found = ask("feature.ImputerModel", params, [{"x": surrogate}], {"x": [*rows, absent]})
        wanted = [surrogate if r != r or r == absent else r for r in [*rows, absent]]
        assert found["y"].tolist() == wanted


SPREAD = st.one_of(st.just(0.0), st.floats(0.1, 5))


class TestVectors:
    @few
    @given(matrices(3), lists(NUMBERS, 3), lists(SPREAD, 3), st.booleans(), st.booleans())
    def test_are_standardised(
        self, x: np.ndarray, mean: list[float], std: list[float], with_mean: bool, with_std: bool
    ) -> None:
        params = {"inputCol": "x", "outputCol": "y", "withMean": with_mean, "withStd": with_std}
        rows = [{"mean": vector(mean), "std": vector(std)}]
        found = ask("feature.StandardScalerModel", params, rows, {"x": x})["y"]
        for row, given_row in zip(found, x, strict=True):
            for got, v, m, s in zip(row, given_row, mean, std, strict=True):
                moved = v - m if with_mean else v
                close(got, moved if not with_std else moved / s if s else 0.0)

    @few
    @given(matrices(3), lists(NUMBERS, 3), lists(SPREAD, 3))
    def test_are_put_between_two_limits(
        self, x: np.ndarray, low: list[float], span: list[float]
    ) -> None:
        high = [a + b for a, b in zip(low, span, strict=True)]
        params = {"inputCol": "x", "outputCol": "y", "min": -1.0, "max": 3.0}
        rows = [{"originalMin": sparse(3, dict(enumerate(low))), "originalMax": vector(high)}]
        found = ask("feature.MinMaxScalerModel", params, rows, {"x": x})["y"]
        for row, given_row in zip(found, x, strict=True):
            for got, v, a, b in zip(row, given_row, low, high, strict=True):
                close(got, (v - a) / (b - a) * 4 - 1 if a != b else 1.0)

    @few
    @given(matrices(4), st.sampled_from([1.0, 2.0, 3.0, math.inf]))
    def test_are_divided_by_their_norm(self, x: np.ndarray, p: float) -> None:
        params = {"inputCol": "x", "outputCol": "y", "p": "Inf" if p == math.inf else p}
        found = ask("feature.Normalizer", params, None, {"x": x})["y"]
        norm = np.linalg.norm(x, p, axis=1, keepdims=True)
        close(found, x / np.where(norm == 0, 1, norm))

    @few
    @given(matrices(3), st.integers(1, 4))
    def test_are_expanded_to_all_products(self, x: np.ndarray, degree: int) -> None:
        params = {"inputCol": "x", "outputCol": "y", "degree": degree}
        found = ask("feature.PolynomialExpansion", params, None, {"x": x})["y"]
        for row, given_row in zip(found, x, strict=True):
            combined = itertools.combinations_with_replacement
            every = [
                math.prod(each) for d in range(1, degree + 1) for each in combined(given_row, d)
            ]
            close(np.sort(row), np.sort(every))

    @few
    @given(matrices(5), st.booleans())
    def test_are_transformed_by_cosines(self, x: np.ndarray, inverse: bool) -> None:
        fft = pytest.importorskip("scipy.fft")
        params = {"inputCol": "x", "outputCol": "y", "inverse": inverse}
        found = ask("feature.DCT", params, None, {"x": x})["y"]
        close(found, (fft.idct if inverse else fft.dct)(x, norm="ortho"))

    @few
    @given(matrices(3), matrices(3, least=2))
    def test_are_projected(self, x: np.ndarray, components: np.ndarray) -> None:
        params = {"inputCol": "x", "outputCol": "y"}
        rows = [{"pc": matrix(components.T)}]
        close(ask("feature.PCAModel", params, rows, {"x": x})["y"], x @ components.T)


def nodes(draw: Any, kind: str, depth: int) -> list[dict[str, Any]]:
    """Draw a tree over three features, the last of which has four categories."""
    found: list[dict[str, Any]] = []

    def grow(left: int) -> int:
        number = len(found)
        stats = draw(lists(st.floats(0, 9), 3)) if kind == "class" else []
        row = {
            "id": number,
            "prediction": draw(NUMBERS),
            "impurity": 0.0,
            "impurityStats": stats,
            "rawCount": 1,
            "gain": 0.0,
            "leftChild": -1,
            "rightChild": -1,
            "split": {"featureIndex": -1, "leftCategoriesOrThreshold": [], "numCategories": -1},
        }
        found.append(row)
        if left and draw(st.booleans()):
            feature = draw(st.integers(0, 2))
            test = draw(lists(st.integers(0, 3), 1, 3) if feature == 2 else lists(NUMBERS, 1))
            row["split"] = {
                "featureIndex": feature,
                "numCategories": 4 if feature == 2 else -1,
                "leftCategoriesOrThreshold": sorted({float(v) for v in test}),
            }
            row["leftChild"] = grow(left - 1)
            row["rightChild"] = grow(left - 1)
        return number

    grow(depth)
    return found  # fmt: skip


def leaf(tree: list[dict[str, Any]], x: np.ndarray) -> dict[str, Any]:
    row = tree[0]
    while row["leftChild"] >= 0:
        split = row["split"]
        value, test = x[split["featureIndex"]], split["leftCategoriesOrThreshold"]
        left = value in test if split["numCategories"] > 0 else value <= test[0]
        row = tree[row["leftChild"] if left else row["rightChild"]]
    return row


@st.composite
def forests(draw: st.DrawFn, kind: str) -> tuple[list[list[dict[str, Any]]], np.ndarray]:
    trees = [nodes(draw, kind, 3) for _ in range(draw(st.integers(1, 3)))]
    plain = draw(matrices(2))
    category = draw(lists(st.integers(0, 3), len(plain)))
    return trees, np.column_stack([plain, category])


def forest_of(trees: list[list[dict[str, Any]]], weights: list[float]) -> tuple[Any, Any]:
    rows = [{"treeID": i, "nodeData": row} for i, tree in enumerate(trees) for row in tree]
    metadata = [{"treeID": i, "metadata": "{}", "weights": w} for i, w in enumerate(weights)]
    return rows, {"treesMetadata": metadata}


class TestTrees:
    @few
    @given(forests("class"))
    def test_a_forest_votes_by_shares(self, drawn: Any) -> None:
        trees, x = drawn
        rows, tables = forest_of(trees, [1.0] * len(trees))
        extra = {"numFeatures": 3, "numClasses": 3, "numTrees": len(trees)}
        kind = "classification.RandomForestClassificationModel"
        found = ask(kind, COLUMNS, rows, {"x": x}, extra, tables)
        raw = np.zeros((len(x), 3))
        for i, row in enumerate(x):
            for tree in trees:
                stats = np.array(leaf(tree, row)["impurityStats"])
                raw[i] += stats / stats.sum() if stats.sum() else 0.0
        close(found["raw"], raw)

    @few
    @given(forests("number"), st.floats(0.1, 1))
    def test_boosted_trees_add_up(self, drawn: Any, step: float) -> None:
        trees, x = drawn
        weights = [1.0, step, step][: len(trees)]
        rows, tables = forest_of(trees, weights)
        found = ask("classification.GBTClassificationModel", COLUMNS, rows, {"x": x},
                    {"numFeatures": 3, "numTrees": len(trees)}, tables)  # fmt: skip
        for i, row in enumerate(x):
            total = sum(w * leaf(t, row)["prediction"] for w, t in zip(weights, trees, strict=True))
            close(found["raw"][i], [-total, total])
            close(found["probability"][i, 1], 1 / (1 + math.exp(-2 * total)))
            assert found["prediction"][i] == (total > 0)
