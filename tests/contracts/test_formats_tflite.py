"""TFLite, made by TensorFlow on the spot, answers as LiteRT does."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_formats_damaged import try_damages
from test_formats_tensorflow import asked, network

import martlet
from martlet import formats
from martlet.errors import InvalidInput, MartletError, UnsupportedModel

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
litert = pytest.importorskip("ai_edge_litert.interpreter")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
pytestmark = pytest.mark.filterwarnings("ignore")


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


def converted(path: Path, flex: bool = False, /, **graphs: tuple[Callable[..., Any], Any]) -> Path:
    """Graphs by the names of their signatures, each a function and what it takes."""
    module: Any = tf.Module()
    functions = {
        name: tf.function(function, input_signature=[tf.TensorSpec(*spec) for spec in specs])
        for name, (function, specs) in graphs.items()
    }
    module.functions = list(functions.values())
    tf.saved_model.save(module, str(path.with_suffix(".saved")), signatures=functions)
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(path.with_suffix(".saved")), signature_keys=list(graphs)
    )
    if flex:
        sets = tf.lite.OpsSet
        converter.target_spec.supported_ops = [sets.TFLITE_BUILTINS, sets.SELECT_TF_OPS]
    path.write_bytes(converter.convert())
    return path


def same_as_litert(
    path: Path, inputs: dict[str, np.ndarray], name: str = "serving_default"
) -> None:
    wanted = litert.Interpreter(str(path)).get_signature_runner(name)(**inputs)
    with martlet.load(path) as model:
        for _ in range(2):
            found = model.predict(inputs, name)
            assert set(found) == set(wanted)
            for each, value in wanted.items():
                np.testing.assert_array_equal(found[each], value)
                assert found[each].shape == value.shape


class TestGraphs:
    def test_values_of_every_dtype_pass(self, tmp_path: Path):
        kinds = ["bool", "int16", "int64", "uint8", "uint32", "float16", "string"]
        graph = lambda x: {"y": tf.reshape(x, [-1])}  # noqa: E731
        path = converted(
            tmp_path / "m", **{f"of_{kind}": (graph, [([None, 2], kind, "x")]) for kind in kinds}
        )
        rows = np.array([[0, 1], [1, 1], [0, 0]])
        texts = np.array([["a", "é"], ["", "b"], ["c", "c"]], object)
        for kind in kinds:
            given = texts if kind == "string" else rows.astype(kind)
            same_as_litert(path, {"x": given}, f"of_{kind}")

    def test_signatures_have_graphs_of_their_own(self, tmp_path: Path):
        path = converted(
            tmp_path / "m",
            encode=(lambda x: {"h": x * 2.0}, [([None, 2], "float32", "x")]),
            decode=(
                lambda x, by: {"h": x - by, "all": tf.reduce_sum(x)},
                [([None, 3], "float32", "x"), ([], "float32", "by")],
            ),
        )
        rows = asked(5)["dense"]
        same_as_litert(path, {"x": rows[:, :2]}, "encode")
        same_as_litert(path, {"x": rows[:, :3], "by": np.array(3, np.float32)}, "decode")

    def test_loops_and_branches_run(self, tmp_path: Path):
        def graph(x: Any) -> Any:
            turned = tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y * 1.5), (0, x))[1]
            return {"y": tf.cond(tf.reduce_sum(x) > 0, lambda: turned, lambda: -turned)}

        path = converted(tmp_path / "m", serving_default=(graph, [([None, 4], "float32", "x")]))
        same_as_litert(path, {"x": asked(3)["dense"]})
        same_as_litert(path, {"x": -np.abs(asked(2)["dense"])})

    def test_a_shape_the_graph_refuses_is_the_callers_fault_and_forgotten(self, tmp_path: Path):
        path = converted(
            tmp_path / "m",
            serving_default=(
                lambda x, w: {"y": tf.matmul(x, w)},
                [([None, None], "float32", "x"), ([None, None], "float32", "w")],
            ),
        )
        good = {"x": np.ones((2, 3), np.float32), "w": np.ones((3, 1), np.float32)}
        with martlet.load(path) as model:
            for _ in range(2):
                assert model.predict(good)["y"].tolist() == [[3], [3]]
                with pytest.raises(InvalidInput, match=r"\[2, 3\]"):
                    model.predict(good | {"w": good["x"]})

    def test_what_has_no_rows_is_computed_where_nothing_is_a_result(self, tmp_path: Path):
        path = converted(
            tmp_path / "m",
            serving_default=(
                lambda x: {"y": x * 2.0, "all": tf.reduce_sum(x)},
                [([None], "float32", "x")],
            ),
        )
        with martlet.load(path) as model:
            found = model.predict({"x": np.empty(0, np.float32)})
        assert found["y"].shape == (0,) and found["all"].shape == () and found["all"] == 0

    def test_any_rank_is_taken_where_the_file_names_none(self, tmp_path: Path):
        path = converted(
            tmp_path / "m", serving_default=(lambda x: {"y": x * 2.0}, [(None, "float32", "x")])
        )
        with martlet.load(path) as model:
            assert model.signatures["serving_default"].inputs["x"].shape is None
            for shape in ((), (3,), (2, 3)):
                assert model.predict({"x": np.ones(shape, np.float32)})["y"].shape == shape

    @pytest.mark.parametrize("within_a_loop", [False, True])
    def test_tensorflows_own_operators_are_named(self, within_a_loop: bool, tmp_path: Path):
        def looped(x: Any) -> dict[str, Any]:
            once = lambda at, text: (at + 1, tf.strings.lower(text))  # noqa: E731
            return {"y": tf.while_loop(lambda at, text: at < 2, once, (0, x))[1]}

        graph = looped if within_a_loop else lambda x: {"y": tf.strings.lower(x)}
        path = converted(tmp_path / "m", True, serving_default=(graph, [([3], "string", "x")]))
        with pytest.raises(UnsupportedModel, match="StringLower"):
            martlet.load(path)


class TestFiles:
    @pytest.fixture(scope="class")
    def path(self, tmp_path_factory: Any) -> Path:
        table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(["a", "b"], tf.constant([5, 6], tf.int64)), -1
        )
        module: Any = tf.Module()
        module.table = table
        module.f = tf.function(
            lambda key, more: {"id": table.lookup(key), "sum": more * 2.0 + 1.0},
            input_signature=[
                tf.TensorSpec([None], tf.string, "key"),
                tf.TensorSpec([None], tf.float32, "more"),
            ],
        )
        folder = tmp_path_factory.mktemp("tflite")
        tf.saved_model.save(module, str(folder / "m"), signatures=module.f)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "m"))
        (folder / "m.tflite").write_bytes(converter.convert())
        return folder / "m.tflite"

    def test_a_table_of_texts_answers(self, path: Path):
        keys = np.array(["b", "a", "other"], object)
        same_as_litert(path, {"key": keys, "more": np.arange(3, dtype=np.float32)})

    def changed(self, path: Path, change: Callable[[Any], Any], to: Path) -> Path:
        import flatbuffers

        model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
        change(model)
        builder = flatbuffers.Builder(0)
        builder.Finish(model.Pack(builder), b"TFL3")
        to.write_bytes(bytes(builder.Output()))
        return to

    def test_tensors_of_one_name_are_told_apart(self, path: Path, tmp_path: Path):
        def change(model: Any) -> None:
            main = model.subgraphs[0]
            for number in (*main.inputs, *main.outputs):
                main.tensors[number].name = b"same"

        given = {"key": np.array(["a"], object), "more": np.ones(1, np.float32)}
        with martlet.load(self.changed(path, change, tmp_path / "m")) as model:
            signature = model.signatures["tensors"]
            assert len(signature.inputs) == len(signature.outputs) == 2
            by_kind = {"string": given["key"], "float32": given["more"]}
            found = model.predict(
                {name: by_kind[spec.dtype.value] for name, spec in signature.inputs.items()},
                "tensors",
            )
            assert sorted(value.item() for value in found.values()) == [3.0, 5]
            assert model.predict(given)["id"].tolist() == [5]

    @pytest.mark.parametrize(
        ("reason", "change"),
        [
            ("no graph", lambda model: model.subgraphs.clear()),
            ("no value", lambda model: model.subgraphs[0].operators.clear()),
            ("no value", lambda model: [setattr(b, "data", None) for b in model.buffers]),
            ("tensor 99", lambda model: setattr(model.subgraphs[0], "inputs", [99])),
            ("tensor -1", lambda model: setattr(model.subgraphs[0].operators[-1], "inputs", [-1])),
            ("a buffer", lambda model: setattr(model.subgraphs[0].tensors[0], "buffer", 99)),
            ("kind", lambda model: setattr(model.subgraphs[0].operators[0], "opcodeIndex", 99)),
            ("graph 9", lambda model: setattr(model.signatureDefs[0], "subgraphIndex", 9)),
            ("text", lambda model: spoilt_texts(model, 4)),
            ("text", lambda model: spoilt_texts(model, 0)),
        ],
    )
    def test_what_points_nowhere_is_refused(
        self, reason: str, change: Callable[[Any], Any], path: Path, tmp_path: Path
    ):
        with pytest.raises(UnsupportedModel, match=reason):
            martlet.load(self.changed(path, change, tmp_path / "m"))

    @pytest.fixture(scope="class")
    def quantised(self, tmp_path_factory: Any) -> Path:
        module = tf.Module()
        module.f = tf.function(
            lambda x: x + x[:, ::-1], input_signature=[tf.TensorSpec([1, 4], tf.float32)]
        )
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [module.f.get_concrete_function()], module
        )
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([asked(1, i)["dense"]] for i in range(8))
        path = tmp_path_factory.mktemp("tflite") / "m"
        path.write_bytes(converter.convert())
        martlet.load(path).close()
        return path

    @pytest.mark.parametrize(
        ("reason", "change"),
        [
            ("a scale", {"scale": 0.0}),
            ("a scale", {"scale": 1e-40}),
            ("a scale", {"scale": np.nan}),
            ("a zero point", {"zeroPoint": 128}),
            ("do not go together", {"scale": 1e9}),
            ("without a scale", {"scale": None}),
        ],
    )
    def test_numbers_that_stand_for_none_are_refused(
        self, reason: str, change: dict[str, Any], quantised: Path, tmp_path: Path
    ):
        def spoil(model: Any) -> None:
            graph = model.subgraphs[0]
            quantise = next(each for each in graph.operators if len(each.inputs) == 1)
            told = graph.tensors[quantise.outputs[0]].quantization
            for name, value in change.items():
                setattr(told, name, [] if value is None else [value])

        with pytest.raises(UnsupportedModel, match=reason):
            martlet.load(self.changed(quantised, spoil, tmp_path / "m"))

    def test_a_sum_of_nothing_is_refused(self, quantised: Path, tmp_path: Path):
        def spoil(model: Any) -> None:
            add = next(each for each in model.subgraphs[0].operators if len(each.inputs) == 2)
            add.inputs, add.outputs = [], []

        with pytest.raises(UnsupportedModel, match="does not make one tensor of two"):
            martlet.load(self.changed(quantised, spoil, tmp_path / "m"))

    @settings(max_examples=200)
    @given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), end=st.floats(0.5, 1.5))
    def test_a_flipped_or_cut_outline_is_read_or_refused(
        self, path: Path, at: float, bit: int, end: float
    ):
        from martlet.formats.tensorflow.tflite_file import outline_of

        content = bytearray(path.read_bytes())
        content[int(at * len(content))] ^= 1 << bit
        with contextlib.suppress(ValueError, struct.error):
            assert outline_of(bytes(content[: int(end * len(content))])).unranked

    def test_damages_are_refused_or_are_still_a_model(self, path: Path, tmp_path: Path):
        (tmp_path / "m").write_bytes(path.read_bytes())
        assert try_damages(tmp_path / "m", "tflite", 60) >= 20


def spoilt_texts(model: Any, at: int) -> None:
    """Change a number in how the texts of the file's table are kept."""
    (tensor,) = (t for t in model.subgraphs[1].tensors if t.type == schema.TensorType.STRING)
    buffer = model.buffers[tensor.buffer]
    content = bytearray(bytes(buffer.data))
    content[at : at + 4] = (1 << 20).to_bytes(4, "little")
    buffer.data = np.frombuffer(bytes(content), np.uint8)


def read(description: str) -> tuple[float, float]:
    scale, _, rest = description.removeprefix("real = ").partition(" * (stored - ")
    return float(scale), float(rest.rstrip(")"))
