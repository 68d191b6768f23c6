"""SavedModels of TensorFlow Serving's own tests answer as TensorFlow 2.21's session does."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from martlet import formats
from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats import LoadOptions
from martlet.formats.tensorflow import savedmodel
from martlet.tensors import DType, Tensor
from martlet.wire.tfserving.messages import Example

pytestmark = pytest.mark.slow
pytest.importorskip("tensorflow")

VALUES = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}


def example(**features: float) -> bytes:
    made = Example()
    for name, value in features.items():
        feature = made.features.feature[name]
        values = feature.int64_list if isinstance(value, int) else feature.float_list
        values.value.append(value)
    return made.SerializeToString()


def inputs_of(case: str, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """Read a case of expected.json, as ``x=[[1,2],[3,4]]``, ``x=1;2`` or ``missing x``."""
    [(name, spec)] = inputs.items()
    values = case.partition("=")[2]
    if spec.dtype is DType.STRING:
        features: list[dict[str, float]] = {
            "missing x": [{"z": 2.0}],
            "int x": [{"x": 2}],
        }.get(case) or [{"x": float(each)} for each in values.split(";")]
        return {name: np.array([example(**each) for each in features], object)}
    known = {"empty": [], "scalar 2": 2.0, "[nan,inf,-inf]": [np.nan, np.inf, -np.inf]}
    value = known[values] if values in known else ast.literal_eval(values)
    return {name: np.array(value, np.float32)}


def expected(shared: Path) -> Any:
    return json.loads((shared / "checks/tfserving/expected.json").read_text())


class TestUpstreamsModels:
    def test_every_signature_answers_as_expected(self, shared):
        checked = 0
        answers = {k: v for k, v in expected(shared).items() if v.get("session_results")}
        for folder, wanted in answers.items():
            model = formats.load(shared / "models/tfserving" / folder)
            for name, cases in wanted["session_results"].items():
                inputs = model.signatures[name].inputs
                for case in cases:
                    if folder.startswith("saved_model_counter"):
                        continue
                    given = inputs_of(case["case"], inputs)
                    if "error" in case:
                        with pytest.raises(InvalidInput):
                            model.predict(given, name)
                    else:
                        same(model.predict(given, name), case["outputs"])
                    checked += 1
            model.close()
        assert checked > 100

    def test_state_is_kept_between_calls(self, shared):
        counter = formats.load(shared / "models/tfserving/saved_model_counter/00000123")
        steps: list[tuple[str, dict[str, Tensor], float]] = [
            ("reset_counter", {}, 0.0),
            ("incr_counter", {}, 1.0),
            ("incr_counter_by", {"delta": np.float32(2.5)}, 3.5),  # type: ignore[dict-item]
            ("get_counter", {}, 3.5),
        ]
        for name, given, wanted in steps:
            checked = counter.signatures[name].check(given)
            assert counter.predict(checked, name)["output"] == np.float32(wanted)

    def test_an_input_with_a_default_may_be_left_out(self, shared):
        model = formats.load(shared / "models/tfserving/saved_model_half_plus_two_tf2_cpu/00000123")
        assert model.predict({})["y"].tolist() == [2.0]

    def test_strings_pass_as_bytes_of_any_kind(self, shared):
        model = formats.load(shared / "models/tfserving/extra/echo/1")
        given = np.array(["é", b"\xff\x00", ""], object)
        [found] = model.predict({"x": given}, "t_string").values()
        assert found.tolist() == ["é".encode(), b"\xff\x00", b""]

    def test_the_files_own_words_are_kept_for_the_metadata(self, shared):
        from martlet.wire.tfserving.metadata import metadata_json

        root = shared / "models/tfserving"
        model = formats.load(root / "saved_model_half_plus_two_cpu/00000123")
        wanted = json.loads((root / "half_plus_two_model_metadata.json").read_text())
        assert json.loads(metadata_json("default", 123, model.signatures)) == wanted

    def test_a_folder_of_something_else_is_refused(self, shared):
        with pytest.raises(UnsupportedModel):
            formats.load(shared / "models/tfserving/bad_half_plus_two/00000123")


def saved(folder: Path, **functions: Any) -> Path:
    """Functions by the names of their signatures, each of one float32 vector ``x``."""
    import tensorflow as tf

    module: Any = tf.Module()
    wanted = [tf.TensorSpec([None], tf.float32, "x")]
    signatures = {
        name: tf.function(each, input_signature=wanted) for name, each in functions.items()
    }
    module.functions = list(signatures.values())
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return folder


class TestKindsOfTensors:
    def test_bfloat16_is_spoken_as_float32(self, tmp_path):
        import tensorflow as tf

        module: Any = tf.Module()
        module.f = tf.function(
            lambda x: {"y": x * 3, "same": x, "wide": tf.cast(x, tf.float32)},
            input_signature=[tf.TensorSpec([None], tf.bfloat16, "x")],
        )
        tf.saved_model.save(module, str(tmp_path), signatures=module.f)
        own = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
        rows = np.array([1.2345678, 3e38, np.nan], np.float32)
        model = formats.load(tmp_path)
        found = model.predict(model.signatures["serving_default"].check({"x": rows}))
        assert all(value.dtype == np.float32 for value in found.values())
        for name, value in own(x=tf.constant(rows, tf.bfloat16)).items():
            np.testing.assert_array_equal(found[name], value.numpy().astype(np.float32))

    def test_sparse_and_ragged_outputs_come_as_their_parts(self, tmp_path):
        import tensorflow as tf

        def kept(x: Any) -> Any:
            rows = tf.reshape(x, [-1, 2])
            return {
                "ragged": tf.ragged.boolean_mask(rows, rows > 0),
                "sparse": tf.sparse.from_dense(rows),
                "whole": rows,
            }

        model = formats.load(saved(tmp_path, serving_default=kept))
        found = model.predict({"x": np.array([1, -2, 3, 4, 0, 0], np.float32)})
        assert found["ragged.flat_values"].tolist() == [1, 3, 4]
        assert found["ragged.row_splits"].tolist() == [0, 1, 3, 3]
        assert found["sparse.values"].tolist() == [1, -2, 3, 4]
        assert found["sparse.indices"].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
        assert found["sparse.dense_shape"].tolist() == [3, 2]
        assert found["whole"].shape == (3, 2)
        assert set(model.signatures["serving_default"].outputs) == set(found)

    def test_a_sparse_input_of_tensorflow_1_is_given_as_its_parts(self, tmp_path):
        import tensorflow as tf

        v1 = tf.compat.v1
        with tf.Graph().as_default(), v1.Session() as session:
            given = v1.sparse_placeholder(tf.float32, [None, 4])
            total = tf.sparse.reduce_sum(given, 1)
            v1.saved_model.simple_save(session, str(tmp_path / "m"), {"x": given}, {"y": total})
        model = formats.load(tmp_path / "m")
        inputs = {
            "x.indices": np.array([[0, 1], [2, 3]], np.int64),
            "x.values": np.array([5, 7], np.float32),
            "x.dense_shape": np.array([3, 4], np.int64),
        }
        checked = model.signatures["serving_default"].check(inputs)
        assert model.predict(checked)["y"].tolist() == [5, 0, 7]

    def test_what_initialises_a_model_stands_last(self, tmp_path):
        functions = {name: lambda x: {"y": x} for name in ("rank", "encode", "serving_default")}
        names = list(formats.load(saved(tmp_path, **functions)).signatures)
        assert names == ["serving_default", "encode", "rank", "__saved_model_init_op"]


def test_a_keras_3_export_answers_as_keras_did(shared):
    folder = shared / "models/savedmodel/neumf_ml1m_twin"
    model = formats.load(folder / "1")
    given = json.loads((folder / "open.inputs.json").read_text())
    wanted = json.loads((folder / "open.expected.json").read_text())["output"]
    inputs = {name: np.array(each["data"], each["dtype"]) for name, each in given.items()}
    found = model.predict(model.signatures["serving_default"].check(inputs))["output_0"]
    np.testing.assert_allclose(found, np.array(wanted["data"], np.float32), rtol=1e-5, atol=1e-6)


def same(found: dict[str, Tensor], wanted: Any) -> None:
    assert set(found) == set(wanted)
    for name, want in wanted.items():
        values = np.array(tokens(want["value"]), np.float32).reshape(want["shape"])
        assert found[name].shape == values.shape
        np.testing.assert_array_equal(found[name], values)


def tokens(value: Any) -> Any:
    if isinstance(value, list):
        return [tokens(each) for each in value]
    return VALUES.get(value, value) if isinstance(value, str) else value


@pytest.mark.parametrize(
    ("names", "found"), [(["saved_model.pb"], True), (["model.onnx"], False), ([], False)]
)
def test_a_folder_is_known_by_its_file(tmp_path, names, found):
    for name in names:
        (tmp_path / name).write_bytes(b"\x08\x01")
    assert savedmodel.FORMAT.sniff(tmp_path) is found
    for name in names:
        assert savedmodel.FORMAT.sniff(tmp_path / name) is found


def test_a_broken_file_is_refused(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 40)
    with pytest.raises(UnsupportedModel, match="is not a SavedModel that loads"):
        savedmodel.SavedModelServable(tmp_path, LoadOptions())


@pytest.mark.parametrize("way", ["saved_model.save", "export"])
def test_towers_of_keras_whose_layers_share_names_have_their_own_weights(way, tmp_path):
    import keras
    import tensorflow as tf

    def tower(name: str) -> Any:
        given = keras.Input((3,))
        hidden = keras.layers.Dense(4, name="hidden")(given)
        return keras.Model(given, keras.layers.Dense(2, name="last")(hidden), name=name)

    user, item = keras.Input((3,), name="user"), keras.Input((3,), name="item")
    score = keras.layers.Dot(1)([tower("of_user")(user), tower("of_item")(item)])
    trained = keras.Model([user, item], score)
    if way == "export":
        trained.export(str(tmp_path), verbose=False)
    else:
        tf.saved_model.save(trained, str(tmp_path))
    model = savedmodel.SavedModelServable(tmp_path, LoadOptions())
    own = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    random = np.random.default_rng(0)
    for rows in (1, 5):
        names = model.signatures["serving_default"].inputs
        given = {n: random.normal(size=(rows, 3)).astype(np.float32) for n in names}
        wanted = own(**{n: tf.constant(v) for n, v in given.items()})["output_0"]
        np.testing.assert_allclose(model.predict(given)["output_0"], wanted, rtol=1e-5, atol=1e-6)
    model.close()
