"""Stages of Spark ML that take words, and those that hash: from their folders to stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from martlet.errors import UnsupportedModel
from martlet.formats.spark.columns import Columns
from martlet.formats.spark.disk import Saved, matrix, vector
from martlet.formats.spark.features import Reader, in_out
from martlet.formats.stages import baskets, hashing, text
from martlet.formats.stages.stage import Kind, Stage


def feature_hasher(saved: Saved, columns: Columns) -> list[Stage]:
    inputs, categorical = saved.inputs(), saved.param("categoricalCols", [])
    kinds = {name: columns.port(name).kind for name in inputs}
    unknown = [name for name in categorical if kinds.get(name) is Kind.EITHER]
    if unknown:
        raise UnsupportedModel(
            f"{saved.name}: only Spark's schema knows whether {unknown[0]!r} is whole, and so its "
            "hash as a category; cast it in the SQL that makes it"
        )
    return [
        hashing.feature_hasher(
            saved.name,
            inputs,
            saved.text("outputCol", f"{saved.uid}__output"),
            _width(saved),
            categorical,
            whole=[name for name, kind in kinds.items() if kind is Kind.WHOLE],
            truth=[name for name, kind in kinds.items() if kind is Kind.TRUTH],
            raw=[name for name in inputs if not columns.made(name)],
        )
    ]


def _width(saved: Saved) -> int:
    width = int(saved.number("numFeatures", 1 << 18))
    if not 0 < width <= 1 << 31:
        raise UnsupportedModel(f"{saved.name}: numFeatures is {width}")
    return width


def hashing_tf(saved: Saved, columns: Columns) -> list[Stage]:
    return [
        hashing.hashing_tf(
            saved.name, *in_out(saved), _width(saved), bool(saved.param("binary", False)),
            legacy=saved.spark < (3, 0),
        )
    ]  # fmt: skip


def tokenizer(saved: Saved, columns: Columns) -> list[Stage]:
    return [text.tokenizer(saved.name, *in_out(saved))]


def regex_tokenizer(saved: Saved, columns: Columns) -> list[Stage]:
    return [
        text.regex_tokenizer(
            saved.name,
            *in_out(saved),
            saved.text("pattern", r"\s+"),
            bool(saved.param("gaps", True)),
            int(saved.number("minTokenLength", 1)),
            bool(saved.param("toLowercase", True)),
        )
    ]


def stop_words_remover(saved: Saved, columns: Columns) -> list[Stage]:
    words = saved.param("stopWords")
    if words is None:
        raise UnsupportedModel(f"{saved.name} keeps no list of stop words; set it before saving")
    sensitive = bool(saved.param("caseSensitive", False))
    return [text.stop_words_remover(saved.name, saved.inputs(), saved.outputs(), words, sensitive)]


def ngram(saved: Saved, columns: Columns) -> list[Stage]:
    return [text.ngram(saved.name, *in_out(saved), int(saved.number("n", 2)))]


def count_vectorizer(saved: Saved, columns: Columns) -> list[Stage]:
    return [
        text.count_vectorizer(
            saved.name,
            *in_out(saved),
            saved.row()["vocabulary"],
            bool(saved.param("binary", False)),
            saved.number("minTF", 1.0),
        )
    ]


def word2vec(saved: Saved, columns: Columns) -> list[Stage]:
    """Spark 2 and later keep a word a row; 1.6 kept two long lists."""
    table = saved.table("data")
    if "wordVectors" in table.column_names:
        row = saved.row()
        words = [word for word, _ in sorted(dict(row["wordIndex"]).items(), key=lambda p: p[1])]
        vectors = np.array(row["wordVectors"], dtype=np.float64).reshape(len(words), -1)
    else:
        words = table.column("word").to_pylist()
        vectors = np.array(table.column("vector").to_pylist(), dtype=np.float64)
    if vectors.ndim != 2:
        raise UnsupportedModel(f"{saved.name}: its word vectors differ in length")
    return [text.mean_vector(saved.name, *in_out(saved), words, vectors)]


def random_projection(saved: Saved, columns: Columns) -> list[Stage]:
    """A matrix with a row a table; Spark 2.1 kept a vector a row of data."""
    rows = saved.rows()
    cell = rows[0]["randUnitVectors"]
    if isinstance(cell, list):
        directions = np.stack([vector(each, saved.name) for each in cell])
    else:
        directions = matrix(cell, saved.name)
    length = saved.number("bucketLength")
    return [hashing.random_projection(saved.name, *in_out(saved), directions.T.copy(), length)]


def min_hash(saved: Saved, columns: Columns) -> list[Stage]:
    flat: list[Any] = saved.row()["randCoefficients"]
    pairs = list(zip(flat[::2], flat[1::2], strict=True))
    return [hashing.min_hash(saved.name, *in_out(saved), pairs)]


def frequent_patterns(saved: Saved, columns: Columns) -> list[Stage]:
    """The items are text; Spark gives what follows in no order of its own."""
    sets: dict[frozenset[str], int] = {}
    for row in saved.rows():
        if not all(isinstance(item, str) for item in row["items"]):
            raise UnsupportedModel(f"{saved.name}: its items are not text")
        sets[frozenset(row["items"])] = int(row["freq"])
    if min(sets.values()) < 1:
        raise UnsupportedModel(f"{saved.name} has a set of items that no basket holds")
    prediction = saved.text("predictionCol")
    confidence = saved.number("minConfidence", 0.8)
    return [
        baskets.association_rules(
            saved.name, saved.text("itemsCol", "items"), prediction, sets, confidence
        )
    ]


READERS: Mapping[str, Reader] = {
    "FPGrowthModel": frequent_patterns,
    "FeatureHasher": feature_hasher,
    "HashingTF": hashing_tf,
    "Tokenizer": tokenizer,
    "RegexTokenizer": regex_tokenizer,
    "StopWordsRemover": stop_words_remover,
    "NGram": ngram,
    "CountVectorizerModel": count_vectorizer,
    "Word2VecModel": word2vec,
    "BucketedRandomProjectionLSHModel": random_projection,
    "MinHashLSHModel": min_hash,
}
