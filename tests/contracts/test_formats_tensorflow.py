"""Keras models, made on the spot; in a module of its own for TensorFlow's import."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import martlet
from martlet import formats
from martlet.errors import MartletError, UnsupportedModel

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
tf_keras = pytest.importorskip("tf_keras")
pytestmark = pytest.mark.filterwarnings("ignore")


def network(keras: Any) -> Any:
    """A user looked up in a table beside dense features, with either generation of Keras."""
    user = keras.Input((1,), dtype="int32", name="user")
    dense = keras.Input((4,), name="dense")
    looked_up = keras.layers.Flatten()(keras.layers.Embedding(20, 3)(user))
    hidden = keras.layers.Dense(5, activation="relu", name="hidden")(
        keras.layers.Concatenate()([looked_up, dense])
    )
    chance = keras.layers.Dense(1, activation="sigmoid", name="chance")(hidden)
    scores = keras.layers.Dense(2, name="scores")(hidden)
    return keras.Model([user, dense], [chance, scores])


WAYS = [(keras, "m.keras"), (keras, "m.h5"), (tf_keras, "m.keras"), (tf_keras, "m.h5")]
NAMES = ["keras 3", "keras 3 h5", "keras 2", "keras 2 h5"]


@pytest.fixture(scope="module", params=WAYS, ids=NAMES)
def saved(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Any:
    library, name = request.param
    library.utils.set_random_seed(1)
    trained = network(library)
    path = tmp_path_factory.mktemp("model") / name
    trained.save(path)
    return path, trained


@pytest.fixture(scope="module")
def model(saved: Any, tmp_path_factory: Any) -> Any:
    with martlet.load(saved[0]) as found:
        yield found


def asked(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    dice = np.random.default_rng(seed)
    user = dice.integers(0, 20, (count, 1)).astype(np.int32)
    return {"user": user, "dense": dice.normal(size=(count, 4)).astype(np.float32)}


class TestKeras:
    def test_it_is_found_and_opened_by_content(self, saved: Any, model: Any, tmp_path: Path):
        (tmp_path / "m").write_bytes(saved[0].read_bytes())
        assert formats.sniff(tmp_path / "m").name == "keras"
        with martlet.load(tmp_path / "m") as found:
            answer = found.predict(asked(3))
        for name, value in model.predict(asked(3)).items():
            np.testing.assert_array_equal(answer[name], value)

    def test_its_outputs_have_the_layers_names(self, model: Any):
        signature = model.signatures["serving_default"]
        assert {n: s.dtype.value for n, s in signature.inputs.items()} == {
            "user": "int32",
            "dense": "float32",
        }
        assert set(signature.outputs) == {"chance", "scores"}

    @settings(max_examples=10)
    @given(count=st.integers(1, 50), seed=st.integers(0, 1000), odd=st.sampled_from([0.0, np.nan]))
    def test_its_answers_are_keras_own(
        self, model: Any, saved: Any, count: int, seed: int, odd: float
    ):
        inputs = asked(count, seed)
        inputs["dense"][0, 0] += odd
        found = model.predict(inputs)
        wanted = saved[1]([inputs["user"], inputs["dense"]])
        for name, value in zip(("chance", "scores"), wanted, strict=True):
            np.testing.assert_allclose(found[name], value.numpy(), rtol=1e-5, atol=1e-6)

    def test_no_rows_and_many_threads(self, model: Any, saved: Any):
        assert model.predict(asked(0))["scores"].shape == (0, 2)
        many = [asked(n, n) for n in (1, 3, 40, 200) * 3]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(model.predict, many))
        for inputs, got in zip(many, found, strict=True):
            wanted = saved[1]([inputs["user"], inputs["dense"]])[0].numpy()
            np.testing.assert_allclose(got["chance"], wanted, rtol=1e-5, atol=1e-6)

    def test_what_does_not_fit_is_refused(self, model: Any):
        good = asked(2)
        for bad in (
            {"user": good["user"]},
            good | {"user": good["dense"]},
            good | {"dense": good["dense"][:, :3]},
            good | {"more": good["dense"]},
        ):
            with pytest.raises(MartletError):
                model.predict(bad)

    @pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras 3", "keras 2"])
    @pytest.mark.parametrize("name", ["m.keras", "m.h5"])
    def test_code_in_a_layer_is_refused(self, library: Any, name: str, tmp_path: Path):
        inputs = library.Input((2,))
        outputs = library.layers.Lambda(lambda x: x * 2)(inputs)
        library.Model(inputs, outputs).save(tmp_path / name)
        with pytest.raises(UnsupportedModel, match="Lambda"):
            martlet.load(tmp_path / name)

    def test_trusted_code_runs_in_another_process(self, tmp_path: Path):
        inputs = keras.Input((2,), name="x")
        keras.Model(inputs, keras.layers.Lambda(lambda x: x * 2)(inputs)).save(tmp_path / "m.keras")
        with martlet.load(tmp_path / "m.keras", trusted=True) as model:
            (found,) = model.predict({"x": np.ones((1, 2), np.float32)}).values()
            assert found.tolist() == [[2, 2]]

    @pytest.mark.parametrize(
        ("config", "reason"),
        [
            ({"module": "os", "class_name": "system"}, "os.system"),
            ({"module": "keras.utils", "class_name": "get_file"}, "get_file"),
            ({"module": "keras.src.saving", "class_name": "load_model"}, "load_model"),
            ({"class_name": "Custom>Lambda"}, "Lambda"),
            ({"class_name": "TorchModuleWrapper", "module": "keras.layers"}, "Torch"),
            ({"class_name": "TFOpLambda", "config": {"function": "io.write_file"}}, "write_file"),
            ({"class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}}, "passwd"),
        ],
    )
    def test_a_config_may_name_keras_own_parts_alone(self, config: dict, reason: str):
        from martlet.formats.tensorflow.keras_file import code

        assert reason in next(code({"config": {"layers": [config]}}))

    def test_functions_of_tensorflow_between_the_layers_are_no_code(self, tmp_path: Path):
        history = tf_keras.Input((6,), dtype="int32", name="history")
        found = tf_keras.layers.Embedding(9, 4)(history)
        mask = tf.sequence_mask(tf.reduce_sum(tf.cast(history > 0, tf.int32), 1), 6, tf.float32)
        weights = tf.nn.softmax(tf.where(mask > 0, tf.reduce_mean(found, -1), -1e9))
        pooled = tf.squeeze(tf.matmul(weights[:, None], found), 1)
        first = tf.gather(tf.transpose(found, [1, 0, 2]), 0)
        trained = tf_keras.Model(history, tf.concat([pooled, first, tf.zeros_like(first)], 1))
        trained.save(tmp_path / "m.h5")
        ids = np.random.default_rng(0).integers(0, 9, (5, 6)).astype(np.int32)
        with martlet.load(tmp_path / "m.h5") as model:
            (found,) = model.predict({"history": ids}).values()
        np.testing.assert_allclose(found, trained(ids).numpy(), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize(
        "function",
        [
            *("py_function", "numpy_function", "map_fn", "compat.v1.py_func", "io.read_file"),
            *("raw_ops.WriteFile", "nn.fixed_unigram_candidate_sampler", "saved_model.load"),
        ],
    )
    def test_functions_that_reach_outside_are_code(self, function: str):
        from martlet.formats.tensorflow.keras_file import code

        layer = {"class_name": "TFOpLambda", "config": {"function": function}}
        assert function in next(code({"config": {"layers": [layer]}}))

    def test_weights_alone_are_no_model(self, tmp_path: Path):
        network(keras).save_weights(tmp_path / "m.weights.h5")
        with pytest.raises(UnsupportedModel, match="weights"):
            martlet.load(tmp_path / "m.weights.h5")

    def test_weights_in_several_files_are_no_model(self, tmp_path: Path):
        network(keras).save_weights(tmp_path / "m.weights.json", max_shard_size=1e-6)
        for path in (tmp_path, tmp_path / "m.weights.json"):
            with pytest.raises(UnsupportedModel, match="weights without a model"):
                martlet.load(path)

    @pytest.mark.parametrize("name", ["m.keras", "m.h5"])
    def test_a_class_of_its_makers_own_is_named(self, name: str, tmp_path: Path):
        @keras.saving.register_keras_serializable("mine")
        class Twice(keras.layers.Layer):
            __module__ = "__main__"

            def call(self, x: Any) -> Any:
                return x * 2

        x = keras.Input((2,), name="x")
        keras.Model(x, Twice()(x)).save(tmp_path / name)
        with pytest.raises(UnsupportedModel, match="needs mine>Twice"):
            martlet.load(tmp_path / name)

    @pytest.mark.parametrize("lookup", ["StringLookup", "IntegerLookup", "TextVectorization"])
    def test_a_vocabulary_that_hdf5_did_not_keep_is_missed(self, lookup: str, tmp_path: Path):
        words = np.array([1, 2]) if lookup == "IntegerLookup" else np.array(["a", "b"])
        layer = getattr(keras.layers, lookup)(name="words")
        layer.adapt(words)
        x = keras.Input((), dtype="int64" if lookup == "IntegerLookup" else "string")
        keras.Model(x, layer(x)).save(tmp_path / "m.h5")
        with pytest.raises(UnsupportedModel, match=f"vocabulary of its {lookup} 'words'"):
            martlet.load(tmp_path / "m.h5")

    def test_a_model_built_by_its_first_call_takes_any_number_of_rows(self, tmp_path: Path):
        trained = keras.Sequential([keras.layers.Reshape((2, 2)), keras.layers.Flatten()])
        trained(asked(32)["dense"])
        trained.save(tmp_path / "m.keras")
        with martlet.load(tmp_path / "m.keras") as model:
            ((name, spec),) = model.signatures["serving_default"].inputs.items()
            assert spec.shape == (-1, 4)
            (found,) = model.predict({name: asked(5)["dense"]}).values()
        np.testing.assert_array_equal(found, asked(5)["dense"])

    def test_weights_in_another_file_are_refused(self, saved: Any, tmp_path: Path):
        import h5py

        with h5py.File(tmp_path / "m.h5", "w") as file:
            file.attrs["model_config"] = "{}"
            file["w"] = h5py.ExternalLink("/etc/passwd", "x")
        with pytest.raises(UnsupportedModel, match="another file"):
            martlet.load(tmp_path / "m.h5")

    @pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras 3", "keras 2"])
    def test_what_is_nested_is_called_by_its_path_and_keys_are_names(
        self, library: Any, tmp_path: Path
    ):
        first, second = library.Input((3,), name="first"), library.Input((2,), name="second")
        dense = library.layers.Dense
        outputs = {"p": dense(1)(first), "q": [dense(2)(second), dense(3)(first)]}
        trained = library.Model({"user-id": first, "1 é": second}, outputs)
        trained.save(tmp_path / "m.keras")
        inputs = {"user-id": asked(3)["dense"][:, :3], "1 é": asked(3)["dense"][:, :2]}
        wanted = trained({name: tf.constant(value) for name, value in inputs.items()})
        with martlet.load(tmp_path / "m.keras") as model:
            found = model.predict(inputs)
        assert set(model.signatures["serving_default"].inputs) == set(inputs)
        for name, value in (("p", wanted["p"]), ("q.0", wanted["q"][0]), ("q.1", wanted["q"][1])):
            np.testing.assert_allclose(found[name], value.numpy(), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras 3", "keras 2"])
    def test_every_output_of_a_layer_with_several_is_answered(self, library: Any, tmp_path: Path):
        steps = library.Input((5, 3), name="steps")
        trained = library.Model(steps, library.layers.LSTM(4, return_state=True, name="l")(steps))
        trained.save(tmp_path / "m.h5")
        given = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
        with martlet.load(tmp_path / "m.h5") as model:
            found = model.predict({"steps": given})
        for name, value in zip(("l", "l_1", "l_2"), trained(given), strict=True):
            np.testing.assert_allclose(found[name], value.numpy(), rtol=1e-5, atol=1e-6)

    def test_a_folder_trained_by_a_loss_of_ones_own_is_a_model(self, tmp_path: Path):
        trained = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(1, name="y")])
        trained.compile("sgd", loss=lambda wanted, found: (wanted - found) ** 2)
        rows = asked(5)["dense"]
        trained.fit(rows, rows[:, :1], verbose=0)
        trained.save(tmp_path / "m", zipped=False)
        assert formats.sniff(tmp_path / "m").name == "keras"
        with martlet.load(tmp_path / "m") as model:
            (found,) = model.predict({"x": rows}).values()
        np.testing.assert_allclose(found, trained(rows).numpy(), rtol=1e-5, atol=1e-6)

    def test_a_feature_space_is_a_model(self, tmp_path: Path):
        space = keras.utils.FeatureSpace({"age": "float_normalized", "of": "string_categorical"})
        rows = {"age": np.arange(6, dtype=np.float32), "of": np.array(["a", "b"] * 3)}
        space.adapt(tf.data.Dataset.from_tensor_slices(rows).batch(3))
        space.save(tmp_path / "m.keras")
        wanted = space({name: tf.constant(value) for name, value in rows.items()})
        with martlet.load(tmp_path / "m.keras") as model:
            found = model.predict({n: v.reshape(-1, 1) for n, v in rows.items()})
        np.testing.assert_allclose(*found.values(), wanted.numpy(), rtol=1e-5, atol=1e-6)
