"""What a file names (keys, thresholds, words) is read off it, whatever library wrote it."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import write
from onnx import TensorProto, helper

from martlet.convert.asking.constants import constants_of

KEYS = [10**12 + 17 * at for at in range(300)]


def test_keys_and_thresholds_of_an_onnx_graph(tmp_path):
    keys, rows = [7_000_001, 7_000_002], [0, 1]
    nodes = [
        helper.make_node(
            "LabelEncoder", ["item"], ["row"], "encode", domain="ai.onnx.ml",
            keys_int64s=keys, values_int64s=rows, default_int64=0,
        ),
        helper.make_node("Cast", ["row"], ["score"], to=TensorProto.FLOAT),
        helper.make_node("Greater", ["score", "limit"], ["over"]),
    ]  # fmt: skip
    inputs, outputs = [("item", TensorProto.INT64, ["n"])], [("over", TensorProto.BOOL, ["n"])]
    weights = {"limit": np.array([0.5, 2e6], np.float32)}
    path = write(tmp_path / "m.onnx", nodes, inputs, outputs, weights)
    found = constants_of(path, "onnx").numbers
    assert {*keys, 2e6} <= set(found) and 0.5 not in found


def test_numbers_of_a_torchscripts_code_and_buffers(tmp_path):
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.tensor([1995.0, 1.4e9]))

        def forward(self, x, item):
            return torch.where(item == 234_567, x - self.mean, x)

    path = tmp_path / "m.pt"
    torch.jit.script(Net()).save(str(path))
    assert {234_567, 1995.0, 1.4e9} <= set(constants_of(path, "torchscript").numbers)


@pytest.mark.parametrize("kind", ["keras", "savedmodel"])
def test_vocabularies_and_boundaries_of_a_keras_model(tmp_path, kind):
    keras = pytest.importorskip("keras")
    layers = keras.layers
    item, word = keras.Input((1,), dtype="int64"), keras.Input((1,), dtype="string")
    price, year = keras.Input((1,)), keras.Input((1,))
    parts = [
        layers.Embedding(301, 2)(layers.IntegerLookup(vocabulary=KEYS)(item)),
        layers.Embedding(3, 2)(layers.StringLookup(vocabulary=["sun", "rain"])(word)),
        layers.Embedding(3, 2)(layers.Discretization([1e6, 2e6])(price)),
    ]
    flat = layers.Concatenate()(
        [*map(layers.Flatten(), parts), layers.Normalization(mean=1995.0, variance=100.0)(year)]
    )
    model = keras.Model([item, word, price, year], layers.Dense(1)(flat))
    path = tmp_path / ("m.keras" if kind == "keras" else "m")
    model.save(path) if kind == "keras" else model.export(path, verbose=False)
    found = constants_of(path, kind)
    assert {*KEYS, 1e6, 2e6} <= set(found.numbers)
    assert {"sun", "rain"} <= set(found.words)


def test_keys_that_a_savedmodel_learnt_are_in_its_checkpoint(tmp_path):
    tensorflow = pytest.importorskip("tensorflow")

    class Learnt(tensorflow.Module):
        def __init__(self):
            super().__init__()
            self.table = tensorflow.lookup.experimental.MutableHashTable("string", "int64", 0)
            self.table.insert(["kiwi", "plum"], [1, 2])

        @tensorflow.function(input_signature=[tensorflow.TensorSpec([None], "string")])
        def __call__(self, fruit):
            return {"row": self.table.lookup(fruit)}

    tensorflow.saved_model.save(Learnt(), str(tmp_path / "m"))
    assert {"kiwi", "plum"} <= set(constants_of(tmp_path / "m", "savedmodel").words)


def test_of_what_is_no_model_nothing_is_read(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"no model")
    found = constants_of(tmp_path / "m.onnx", "onnx")
    assert (found.words, found.numbers) == ((), ())
