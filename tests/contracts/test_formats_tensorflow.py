"""Keras and TFLite, made by TensorFlow on the spot; in a module of its own for its import."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_formats_damaged import try_damages

import martlet
from martlet import formats
from martlet.errors import InvalidInput, MartletError, UnsupportedModel

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
    def test_it_is_found_by_content(self, saved: Any, tmp_path: Path):
        (tmp_path / "m").write_bytes(saved[0].read_bytes())
        assert formats.sniff(tmp_path / "m").name == "keras"

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
        from martlet.formats.keras import _code

        assert reason in next(_code({"config": {"layers": [config]}}))

    def test_weights_alone_are_no_model(self, tmp_path: Path):
        network(keras).save_weights(tmp_path / "m.weights.h5")
        with pytest.raises(UnsupportedModel, match="weights"):
            martlet.load(tmp_path / "m.weights.h5")

    def test_weights_in_another_file_are_refused(self, saved: Any, tmp_path: Path):
        import h5py

        with h5py.File(tmp_path / "m.h5", "w") as file:
            file.attrs["model_config"] = "{}"
            file["w"] = h5py.ExternalLink("/etc/passwd", "x")
        with pytest.raises(UnsupportedModel, match="another file"):
            martlet.load(tmp_path / "m.h5")


class TestTFLite:
    @pytest.fixture(scope="class")
    def trained(self) -> Any:
        keras.utils.set_random_seed(2)
        return network(keras)

    @pytest.fixture(scope="class")
    def path(self, trained: Any, tmp_path_factory: Any) -> Path:
        path = tmp_path_factory.mktemp("tflite") / "m"
        path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(trained).convert())
        return path

    def test_inputs_are_bound_by_name_at_any_number_of_rows(self, trained: Any, path: Path):
        assert formats.sniff(path).name == "tflite"
        with martlet.load(path) as model:
            for count in (1, 7, 300, 1):
                inputs = asked(count, count)
                found = model.predict(inputs)
                wanted = trained([inputs["user"], inputs["dense"]])
                by_width = {value.shape[1]: value for value in found.values()}
                for value in wanted:
                    np.testing.assert_allclose(
                        by_width[value.shape[1]], value.numpy(), rtol=1e-5, atol=1e-6
                    )
            assert {v.shape for v in model.predict(asked(0)).values()} == {(0, 1), (0, 2)}

    def test_threads_take_turns(self, trained: Any, path: Path):
        many = [asked(n, n) for n in (1, 3, 40, 2) * 5]
        with martlet.load(path) as model, ThreadPoolExecutor(4) as pool:
            found = list(pool.map(model.predict, many))
        for inputs, got in zip(many, found, strict=True):
            wanted = trained([inputs["user"], inputs["dense"]])[0].numpy()
            chance = next(value for value in got.values() if value.shape[1] == 1)
            np.testing.assert_allclose(chance, wanted, rtol=1e-5, atol=1e-6)

    def test_a_quantised_model_says_how_its_numbers_are_to_be_read(self, tmp_path: Path):
        keras.utils.set_random_seed(3)
        trained = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(1)])
        converter = tf.lite.TFLiteConverter.from_keras_model(trained)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([asked(1, i)["dense"]] for i in range(50))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        (tmp_path / "m").write_bytes(converter.convert())
        with martlet.load(tmp_path / "m") as model:
            signature = model.signatures["serving_default"]
            ((name, spec),), ((_, out),) = signature.inputs.items(), signature.outputs.items()
            assert spec.dtype.value == out.dtype.value == "int8"
            scale, zero = read(spec.description)
            rows = np.concatenate([asked(1, i)["dense"] for i in range(20)])
            stored = np.clip(np.round(rows / scale + zero), -128, 127).astype(np.int8)
            (found,) = model.predict({name: stored}).values()
            scale, zero = read(out.description)
            got = scale * (found.astype(float) - zero)
        np.testing.assert_allclose(got, trained(rows).numpy(), atol=0.15)

    def test_what_a_recurrent_layer_remembers_is_of_one_run(self, tmp_path: Path):
        import tensorflow as tf
        import tf_keras

        # Of one row, which is what the converter makes an operator with a memory of.
        trained = tf_keras.Sequential(
            [tf_keras.Input((4, 3), batch_size=1, name="steps"), tf_keras.layers.LSTM(5, name="y")]
        )
        steps = tf.TensorSpec((1, 4, 3), name="steps")
        call = tf.function(lambda steps: {"y": trained(steps)}).get_concrete_function(steps)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([call], trained)
        (tmp_path / "m").write_bytes(converter.convert())
        rows = np.random.default_rng(0).normal(size=(3, 4, 3)).astype(np.float32)
        expected = np.concatenate([trained(rows[i : i + 1]) for i in range(3)])
        with martlet.load(tmp_path / "m") as model:
            for _ in range(2):
                found = model.predict({"steps": rows})["y"]
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)

    def test_an_id_outside_its_table_does_not_crash(self, path: Path):
        with martlet.load(path) as model:
            inputs = asked(2)
            inputs["user"][0] = 10_000
            with pytest.raises((InvalidInput, MartletError)):
                model.predict(inputs)

    def test_damages_are_refused_or_are_still_a_model(self, path: Path, tmp_path: Path):
        (tmp_path / "m").write_bytes(path.read_bytes())
        assert try_damages(tmp_path / "m", "tflite", 40) >= 10


def read(description: str) -> tuple[float, float]:
    scale, _, rest = description.removeprefix("real = ").partition(" * (stored - ")
    return float(scale), float(rest.rstrip(")"))
