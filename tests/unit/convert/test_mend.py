"""What tf2onnx writes wrongly of feature columns is put right; TensorFlow's answers say so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from graphs import FLOAT, INT32, INT64, STRING, Build

from martlet import formats
from martlet.convert.rewriting.graph import answer, session
from martlet.convert.rewriting.mend import mend
from martlet.convert.rewriting.rewrite import rewrite
from martlet.convert.to_onnx import to_onnx


def run(model, **inputs):
    found = answer(session(model), inputs)
    return None if found is None else found[0]


class TestOneHot:
    def model(self):
        build = Build(id=(INT64, ["n"]))
        hot = build("OneHot", "id", np.array(3), np.array([0, 1], np.float32))
        build("Identity", hot, gives="score")
        return build.model(score=(FLOAT, ["n", 3]))

    def test_a_negative_index_is_all_off_as_in_tensorflow(self):
        found = run(mend(self.model()), id=np.array([-1, 2, 3]))
        np.testing.assert_array_equal(found, [[0, 0, 0], [0, 0, 1], [0, 0, 0]])


def test_text_compared_as_a_number_is_compared_with_the_empty_text():
    build = Build(word=(STRING, ["n"]))
    number = build("Cast", "word", to=INT32)
    missing = build("Equal", number, np.array(-1, np.int32))
    build("Cast", missing, to=FLOAT, gives="score")
    model = build.model(score=(FLOAT, ["n"]))
    words = np.array(["", "War", "7"], object)
    assert run(model, word=words) is None
    np.testing.assert_array_equal(run(mend(model), word=words), [1, 0, 0])


COLUMNS = """
import os, sys
os.environ["TF_USE_LEGACY_KERAS"] = "1"
import tensorflow as tf, tf_keras as keras
column, layers = tf.feature_column, keras.layers
keras.utils.set_random_seed(1)
genres = ["Film-Noir", "Action", "Adventure", "War"]
film = column.embedding_column(column.categorical_column_with_identity("film", 40), 5)
words = column.categorical_column_with_vocabulary_list("genre", genres)
shared = column.categorical_column_with_vocabulary_list("liked", genres)
inputs = {
    "film": layers.Input((), name="film", dtype="int32"),
    "genre": layers.Input((), name="genre", dtype="string"),
    "liked": layers.Input((), name="liked", dtype="string"),
    "rating": layers.Input((), name="rating"),
}
deep = [film, column.embedding_column(words, 5), column.numeric_column("rating")]
deep = layers.Dense(6, activation="relu")(layers.DenseFeatures(deep)(inputs))
wide = layers.DenseFeatures([column.indicator_column(shared)])(inputs)
score = layers.Dense(1, activation="sigmoid")(layers.concatenate([deep, wide]))
keras.Model(inputs, score).save(sys.argv[1])
"""


@pytest.mark.slow
def test_feature_columns_of_words_are_lookups(tmp_path: Path):
    pytest.importorskip("tf_keras")
    subprocess.run(
        [sys.executable, "-c", COLUMNS, str(tmp_path / "model")], check=True, capture_output=True
    )
    original = formats.load(tmp_path / "model")
    signature = original.signatures["serving_default"]
    random = np.random.default_rng(2)
    words = np.array(["Film-Noir", "Action", "Adventure", "War", "", "unheard of"], object)
    rows = {
        "film": random.integers(-1, 40, 300).astype(np.int32),
        "genre": words[random.integers(0, 6, 300)],
        "liked": words[random.integers(0, 6, 300)],
        "rating": random.random(300).astype(np.float32),
    }
    rows["film"][0] = 1
    path = to_onnx(
        tmp_path / "model",
        "savedmodel",
        "serving_default",
        signature,
        tmp_path / "model.onnx",
        sample=rows,
    )
    import onnx

    first = {name: value[:1] for name, value in rows.items()}
    first |= {name: np.array(["War"], object) for name in ("genre", "liked")}
    found = rewrite(onnx.load(path), [first], original)
    assert {each.input for each in found.lookups} == {"film", "genre", "liked"}
    left = {node.op_type for node in found.model.graph.node}
    assert not left & {"Unique", "TopK", "ScatterND", "OneHot", "NonZero"}
    expected = next(iter(original.predict(rows).values()))
    np.testing.assert_allclose(run(found.model, **rows), expected, 1e-5, 1e-6)
