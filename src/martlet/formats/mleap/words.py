"""MLeap's operations that take words, and those that hash: from nodes to stages."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from martlet.errors import UnsupportedModel
from martlet.formats.mleap.bundle import Node
from martlet.formats.mleap.ports import Reader, in_out, inputs, outputs
from martlet.formats.stages import hashing, text
from martlet.formats.stages.stage import Port, Stage


def tokenizer(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    return [text.tokenizer(node.label, *in_out(node))]


def regex_tokenizer(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    return [
        text.regex_tokenizer(
            node.label,
            *in_out(node),
            str(node.need("regex")),
            bool(node.get("match_gaps", True)),
            int(node.get("token_min_length", 1)),
            bool(node.get("lowercase_text", True)),
        )
    ]


def stopwords_remover(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    sensitive = bool(node.get("case_sensitive", False))
    sources, targets = inputs(node), outputs(node)
    return [
        text.stop_words_remover(node.label, sources, targets, node.need("stop_words"), sensitive)
    ]


def ngram(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    return [text.ngram(node.label, *in_out(node), int(node.need("n")))]


def word_filter(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    least = int(node.get("length", 3))
    return [text.length_filter(node.label, *in_out(node), least)]


def hashing_term_frequency(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    """Version 1 of the hash is Spark 2's, and what a file that names none was written with."""
    legacy = int(node.get("hashUnsafeBytesVersion", 1)) == 1
    return [
        hashing.hashing_tf(
            node.label, *in_out(node), _places(node), bool(node.get("binary", False)),
            legacy=legacy,
        )
    ]  # fmt: skip


def _places(node: Node) -> int:
    width = int(node.need("num_features"))
    if not 0 < width <= 1 << 31:
        raise UnsupportedModel(f"{node.label}: num_features is {width}")
    return width


def feature_hasher(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    categorical = node.get("categorical_cols") or []
    sources = inputs(node)
    names = node.get("input_names") or sources
    if list(names) != sources:
        raise UnsupportedModel(f"{node.label}: its columns are not named as when it was trained")
    return [
        hashing.feature_hasher(
            node.label, sources, outputs(node)[0], _places(node), categorical,
            raw=[name for name in sources if name not in known],
        )
    ]  # fmt: skip


def count_vectorizer(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    return [
        text.count_vectorizer(
            node.label,
            *in_out(node),
            node.need("vocabulary"),
            bool(node.get("binary", False)),
            float(node.get("min_tf", 1.0)),
        )
    ]


def word_to_vector(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    words = list(node.need("words"))
    flat = node.vector("word_vectors")
    if not words or len(flat) % len(words):
        raise UnsupportedModel(f"{node.label}: {len(flat)} numbers for {len(words)} words")
    table = flat.reshape(len(words), -1)
    indices = [int(i) for i in node.get("indices") or range(len(words))]
    if sorted(indices) != list(range(len(words))):
        raise UnsupportedModel(f"{node.label}: its indices do not number its words")
    kernel = str(node.get("kernel") or "default")
    if kernel not in ("default", "sqrt"):
        raise UnsupportedModel(f"{node.label}: the kernel {kernel!r} is not supported")
    return [
        text.mean_vector(node.label, *in_out(node), words, table[indices], root=kernel == "sqrt")
    ]


def random_projection(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    directions = np.stack(node.vectors("random_unit_vectors")).T.copy()
    length = float(node.need("bucket_length"))
    return [hashing.random_projection(node.label, *in_out(node), directions, length)]


def min_hash(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    a = [int(v) for v in node.need("random_coefficients_a")]
    b = [int(v) for v in node.need("random_coefficients_b")]
    return [hashing.min_hash(node.label, *in_out(node), list(zip(a, b, strict=True)))]


READERS: Mapping[str, Reader] = {
    "tokenizer": tokenizer,
    "regex_tokenizer": regex_tokenizer,
    "stopwords_remover": stopwords_remover,
    "ngram": ngram,
    "word_filter": word_filter,
    "hashing_term_frequency": hashing_term_frequency,
    "feature_hasher": feature_hasher,
    "count_vectorizer": count_vectorizer,
    "word_to_vector": word_to_vector,
    "bucketed_random_projection_lsh": random_projection,
    "min_hash_lsh": min_hash,
}
