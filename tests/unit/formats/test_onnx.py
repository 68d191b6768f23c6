"""ONNX: what its graph declares, and what is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hosting import RNG, onnx_model

import martlet
from martlet.errors import InvalidInput
from martlet.formats.onnx import values

pytestmark = pytest.mark.filterwarnings("ignore")


class TestOnnx:
    @pytest.mark.parametrize(
        "labels", [{"classlabels_int64s": [3, -7]}, {"classlabels_strings": ["no", "yes"]}]
    )
    def test_a_dictionary_a_row_is_a_tensor(self, info, labels, tmp_path: Path):
        from onnx import TensorProto, helper

        key = TensorProto.STRING if "classlabels_strings" in labels else TensorProto.INT64
        kind = helper.make_sequence_type_proto(
            helper.make_map_type_proto(key, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
        )
        path = onnx_model(
            tmp_path / "m",
            [
                helper.make_node("Softmax", ["x"], ["p"]),
                helper.make_node("ZipMap", ["p"], ["chances"], domain="ai.onnx.ml", **labels),
            ],
            [info("x", ["n", 2])],
            [helper.make_value_info("chances", kind)],
            domains=["ai.onnx.ml"],
        )
        rows = RNG.normal(size=(5, 2)).astype(np.float32)
        with martlet.load(path) as model:
            found = model.predict({"x": rows})["chances"]
            told = model.signatures["serving_default"].outputs["chances"].description
        powers = np.exp(rows)
        np.testing.assert_allclose(found, powers / powers.sum(1, keepdims=True), rtol=1e-5)
        assert told.endswith(", ".join(map(str, next(iter(labels.values())))))

    def test_a_dictionary_a_row_of_a_graph_of_one_row_takes_any_number(self, info, tmp_path: Path):
        from onnx import TensorProto, helper

        kind = helper.make_sequence_type_proto(
            helper.make_map_type_proto(
                TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None)
            )
        )
        nodes = [
            helper.make_node("Softmax", ["x"], ["p"]),
            helper.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0),
            helper.make_node(
                "ZipMap", ["p"], ["chances"], domain="ai.onnx.ml", classlabels_int64s=[3, -7]
            ),
        ]
        outputs = [info("label", [1], "INT64"), helper.make_value_info("chances", kind)]
        path = onnx_model(
            tmp_path / "m", nodes, [info("x", [1, 2])], outputs, domains=["ai.onnx.ml"]
        )
        rows = RNG.normal(size=(5, 2)).astype(np.float32)
        with martlet.load(path) as model:
            found = model.predict({"x": rows})
            none = model.predict({"x": rows[:0]})
        powers = np.exp(rows)
        np.testing.assert_allclose(
            found["chances"], powers / powers.sum(1, keepdims=True), rtol=1e-5
        )
        assert found["label"].tolist() == rows.argmax(1).tolist()
        assert none["label"].shape == (0,) and none["chances"].shape == (0, 2)

    @pytest.mark.parametrize(
        ("narrow", "given", "wide"),
        [
            ("BFLOAT16", [1.0, 2.7, -300.7], "float32"),
            ("FLOAT8E4M3FN", [1.0, 2.7, 300.0], "float32"),
            ("UINT4", [0, 7, 15], "uint8"),
            ("INT4", [-8, 0, 7], "int8"),
        ],
    )
    @pytest.mark.parametrize("rows", ["n", 1])
    def test_a_type_that_numpy_has_not_goes_in_and_out_as_a_wider_one(
        self, info, narrow: str, given, wide: str, rows, tmp_path: Path
    ):
        import ml_dtypes
        from onnx import TensorProto, helper

        kind = wide.upper().replace("32", "")
        path = onnx_model(
            tmp_path / "m",
            [
                helper.make_node("Cast", ["x"], ["y"], to=getattr(TensorProto, kind)),
                helper.make_node("Cast", ["z"], ["w"], to=getattr(TensorProto, narrow)),
            ],
            [info("x", [rows, 3], narrow), info("z", [rows, 3], kind)],
            [info("y", [rows, 3], kind), info("w", [rows, 3], narrow)],
            opset=21,
        )
        row = np.array([given], dtype=wide)
        expected = row.astype(getattr(ml_dtypes, narrow.lower().replace("e4", "_e4")))
        with martlet.load(path) as model:
            specs = model.signatures["serving_default"]
            assert {s.dtype.value for s in specs.inputs.values()} == {wide}
            assert specs.inputs["x"].description == narrow.lower()
            found = model.predict({"x": row, "z": row})
        assert found["y"].tolist() == expected.astype(wide).tolist()
        assert found["w"].tolist() == expected.astype(wide).tolist()

    def test_an_input_of_no_said_rank_takes_any(self, info, tmp_path: Path):
        from onnx import helper

        path = onnx_model(
            tmp_path / "m",
            [helper.make_node("Relu", ["x"], ["y"])],
            [info("x", None)],
            [info("y", None)],
        )
        with martlet.load(path) as model:
            assert model.signatures["serving_default"].inputs["x"].shape is None
            for shape in [(), (3,), (2, 3)]:
                rows = -np.ones(shape, np.float32)
                assert model.predict({"x": rows})["y"].tolist() == np.zeros(shape).tolist()

    def test_an_operator_that_takes_no_empty_tensor_answers_no_rows_with_none(
        self, info, tmp_path: Path
    ):
        from onnx import helper, numpy_helper

        path = onnx_model(
            tmp_path / "m",
            [
                helper.make_node("ArgMax", ["x"], ["best"], axis=1, keepdims=0),
                helper.make_node(
                    "ArrayFeatureExtractor", ["labels", "best"], ["y"], domain="ai.onnx.ml"
                ),
                helper.make_node("Reshape", ["y", "flat"], ["z"]),
            ],
            [info("x", ["n", 2])],
            [info("z", ["n"], "INT64")],
            initializers=[
                numpy_helper.from_array(np.array([7, 9]), "labels"),
                numpy_helper.from_array(np.array([-1]), "flat"),
            ],
            domains=["ai.onnx.ml"],
        )
        with martlet.load(path) as model:
            assert model.predict({"x": np.eye(2, dtype=np.float32)})["z"].tolist() == [7, 9]
            assert model.predict({"x": np.empty((0, 2), np.float32)})["z"].shape == (0,)

    def test_rows_that_the_graph_keeps_apart_run_at_once(self, info, tmp_path: Path):
        from onnx import helper

        path = onnx_model(
            tmp_path / "m",
            [
                helper.make_node("Flatten", ["x"], ["f"], axis=0),
                helper.make_node("Relu", ["f"], ["y"]),
            ],
            [info("x", [1, 3, 2])],
            [info("y", [1, 6])],
        )
        rows = RNG.normal(size=(9, 3, 2)).astype(np.float32)
        with martlet.load(path) as model:
            assert not model._servable._one_row
            assert model.signatures["serving_default"].inputs["x"].shape == (-1, 3, 2)
            found = model.predict({"x": rows})["y"]
        assert found.tolist() == np.maximum(rows, 0).reshape(9, 6).tolist()

    def test_rows_that_the_graph_would_mix_run_one_by_one(self, info, tmp_path: Path):
        from onnx import helper

        path = onnx_model(
            tmp_path / "m",
            [
                helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
                helper.make_node("Add", ["x", "m"], ["y"]),
            ],
            [info("x", [1, 3])],
            [info("y", [1, 3])],
        )
        rows = RNG.normal(size=(4, 3)).astype(np.float32)
        with martlet.load(path) as model:
            assert model.predict({"x": rows})["y"].tolist() == (2 * rows).tolist()
            assert model.predict({"x": rows[:0]})["y"].shape == (0, 3)
            with pytest.raises(InvalidInput):
                model.predict({"x": rows[:, :2]})

    def test_an_input_with_a_default_may_be_left_out(self, info, tmp_path: Path):
        from onnx import helper, numpy_helper

        path = onnx_model(
            tmp_path / "m",
            [helper.make_node("Mul", ["x", "scale"], ["y"])],
            [info("x", ["n"]), info("scale", [1])],
            [info("y", ["n"])],
            [numpy_helper.from_array(np.array([3.0], np.float32), "scale")],
        )
        one = np.array([1.0, 2.0], np.float32)
        with martlet.load(path) as model:
            assert model.predict({"x": one})["y"].tolist() == [3.0, 6.0]
            half = np.array([0.5], np.float32)
            assert model.predict({"x": one, "scale": half})["y"].tolist() == [0.5, 1.0]

    def test_text_goes_in_as_text_or_utf8(self, info, tmp_path: Path):
        from onnx import helper

        path = onnx_model(
            tmp_path / "m",
            [
                helper.make_node(
                    "LabelEncoder",
                    ["g"],
                    ["id"],
                    domain="ai.onnx.ml",
                    keys_strings=["war", "drame é"],
                    values_int64s=[1, 2],
                    default_int64=-1,
                )
            ],
            [info("g", ["n"], "STRING")],
            [info("id", ["n"], "INT64")],
            domains=["ai.onnx.ml"],
        )
        with martlet.load(path) as model:
            given = ["war", "drame é".encode(), "?"]
            assert model.predict({"g": given})["id"].tolist() == [1, 2, -1]
            for bad in ([b"\xff"], [None]):
                with pytest.raises(InvalidInput):
                    model.predict({"g": np.array(bad, dtype=object)})

    def test_a_dictionary_beside_its_tensor_leaves_the_tensor_there(self, info, tmp_path: Path):
        from onnx import TensorProto, helper

        kind = helper.make_sequence_type_proto(
            helper.make_map_type_proto(
                TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None)
            )
        )
        wraps: dict[str, Any] = {"domain": "ai.onnx.ml", "classlabels_int64s": [0, 1]}
        path = onnx_model(
            tmp_path / "m",
            [
                helper.make_node("Softmax", ["x"], ["p"]),
                helper.make_node("ZipMap", ["p"], ["chances"], **wraps),
                helper.make_node("ZipMap", ["p"], ["again"], **wraps),
                helper.make_node("ZipMap", ["x"], ["scores"], **wraps),
            ],
            [info("x", ["n", 2])],
            [
                info("p", ["n", 2]),
                *[helper.make_value_info(n, kind) for n in ("chances", "again", "scores")],
            ],
            domains=["ai.onnx.ml"],
        )
        rows = RNG.normal(size=(3, 2)).astype(np.float32)
        with martlet.load(path) as model:
            found = model.predict({"x": rows})
        assert list(found) == ["p", "chances", "again", "scores"]
        assert found["p"].tolist() == found["chances"].tolist() == found["again"].tolist()
        np.testing.assert_allclose(found["p"].sum(axis=1), 1, rtol=1e-6)
        assert found["scores"].tolist() == rows.tolist()

    @pytest.mark.parametrize("dtype", ["FLOAT", "STRING", "INT64"])
    def test_elements_of_different_shapes_are_padded_beside_their_shapes(
        self, info, dtype: str, tmp_path: Path
    ):
        from onnx import TensorProto, helper, numpy_helper

        kind = helper.make_sequence_type_proto(
            helper.make_tensor_type_proto(getattr(TensorProto, dtype), None)
        )
        path = onnx_model(
            tmp_path / "m",
            [
                helper.make_node("SequenceInsert", ["xs", "x", "at"], ["ys"]),
                helper.make_node("SequenceLength", ["xs"], ["count"]),
            ],
            [helper.make_value_info("xs", kind), info("x", ["n"], dtype)],
            [helper.make_value_info("ys", kind), info("count", [], "INT64")],
            initializers=[numpy_helper.from_array(np.array(0), "at")],
        )
        wanted = [[7, 8], [1, 2, 3], [4]]
        if dtype == "STRING":
            wanted = [list(map(str, each)) for each in wanted]
        of = {"FLOAT": np.float32, "STRING": object, "INT64": np.int64}[dtype]
        first, *others = (np.array(each, of) for each in wanted)
        nothing = "" if of is object else 0
        padded = np.array([[*others[0]], [*others[1], nothing, nothing]], of)
        with martlet.load(path) as model:
            given = {"x": first, "xs": padded}
            found = model.predict(given | {"xs_shapes": np.array([[3], [1]])})
            assert found["count"] == 2
            assert found["ys_shapes"].tolist() == [[2], [3], [1]]
            told = zip(found["ys"], found["ys_shapes"], strict=True)
            assert [each[: shape[0]].tolist() for each, shape in told] == wanted
            whole = model.predict(given)
            assert whole["ys_shapes"].tolist() == [[2], [3], [3]]
            empty = {"xs": np.empty((0,), of), "xs_shapes": np.empty((0, 0), np.int64)}
            assert model.predict({"x": first} | empty)["ys"].tolist() == [wanted[0]]
            for wrong in ([[3]], [[3], [4]], [[3], [-1]], [3, 1]):
                with pytest.raises(InvalidInput, match="xs_shapes"):
                    model.predict(given | {"xs_shapes": np.array(wrong)})

    def test_a_map_goes_in_as_its_keys_and_values(self, info, tmp_path: Path):
        from onnx import TensorProto, helper

        kind = helper.make_map_type_proto(
            TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, None)
        )
        words: dict[str, Any] = {"string_vocabulary": ["a", "b", "c"]}
        path = onnx_model(
            tmp_path / "m",
            [helper.make_node("DictVectorizer", ["x"], ["y"], domain="ai.onnx.ml", **words)],
            [helper.make_value_info("x", kind)],
            [info("y", [1, 3])],
            domains=["ai.onnx.ml"],
        )
        values = np.array([1.5, 2.5], np.float32)
        with martlet.load(path) as model:
            keys = np.array(["c", b"a"], object)
            assert model.predict({"x": values, "x_keys": keys})["y"].tolist() == [[2.5, 0, 1.5]]
            with pytest.raises(InvalidInput, match="one length"):
                model.predict({"x": values, "x_keys": keys[:1]})

    def test_an_optional_input_may_be_left_out(self, info, tmp_path: Path):
        from onnx import TensorProto, helper

        kind = helper.make_optional_type_proto(
            helper.make_tensor_type_proto(TensorProto.FLOAT, ["n"])
        )
        path = onnx_model(
            tmp_path / "m",
            [
                helper.make_node("OptionalHasElement", ["x"], ["there"]),
                helper.make_node("Identity", ["x"], ["y"]),
            ],
            [helper.make_value_info("x", kind)],
            [info("there", [], "BOOL"), helper.make_value_info("y", kind)],
            opset=18,
        )
        with martlet.load(path) as model:
            found = model.predict({"x": np.ones(2, np.float32)})
            assert found["there"]
            assert found["y"].tolist() == [1, 1]
            found = model.predict({})
            assert not found["there"]
            assert found["y"].shape == (0,)

    @pytest.mark.parametrize("shape", [(2, 5), (0, 5)])
    def test_rows_that_fit_no_weight_are_the_callers_to_mend(self, info, shape, tmp_path: Path):
        from onnx import helper, numpy_helper

        path = onnx_model(
            tmp_path / "m",
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            [info("x", ["n", "m"])],
            [info("y", ["n", 2])],
            initializers=[numpy_helper.from_array(np.ones((4, 2), np.float32), "w")],
        )
        with martlet.load(path) as model, pytest.raises(InvalidInput, match="MatMul"):
            model.predict({"x": np.ones(shape, np.float32)})

    def test_no_rows_of_products_of_fields_are_answered_with_none(self, info, tmp_path: Path):
        from onnx import helper

        path = onnx_model(
            tmp_path / "m",
            [helper.make_node("Einsum", ["a", "b"], ["y"], equation="nhd,nmd->nhmd")],
            [info("a", ["n", 3, 4]), info("b", ["n", 5, 4])],
            [info("y", ["n", 3, 5, 4])],
        )
        with martlet.load(path) as model:
            given = {"a": np.ones((0, 3, 4), np.float32), "b": np.ones((0, 5, 4), np.float32)}
            assert model.predict(given)["y"].shape == (0, 3, 5, 4)

    def test_an_output_said_to_be_one_row_that_gives_each_row_is_told_as_that(
        self, info, tmp_path: Path
    ):
        from onnx import helper

        path = onnx_model(
            tmp_path / "m",
            [
                helper.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0),
                helper.make_node("ReduceMax", ["x"], ["most"], axes=[0], keepdims=1),
            ],
            [info("x", ["n", 3])],
            [info("label", [1], "INT64"), info("most", [1, 3])],
        )
        with martlet.load(path) as model:
            outputs = model.signatures["serving_default"].outputs
            assert {n: s.shape for n, s in outputs.items()} == {"label": (-1,), "most": (1, 3)}
            assert model.predict({"x": np.eye(3, dtype=np.float32)})["label"].tolist() == [0, 1, 2]


class TestText:
    """What onnxruntime is given as text: arrays of ``str`` as they are, bytes decoded."""

    @pytest.mark.parametrize("native", ["0", "1"])
    def test_text_reaches_the_graph_in_every_form_it_comes(self, native, monkeypatch):
        from martlet.native import find

        given = np.array([["a", "b"], ["c", "\u00e9"], ["", "d"]], object)
        forms = [given, given.T, given[::2], given[:0], np.broadcast_to(given[:1], (3, 2))]
        forms += [np.array(given, "U"), np.vectorize(str.encode, otypes=[object])(given)]
        monkeypatch.setattr(values, "_TEXTS", find("texts") if native == "1" else None)
        for form in forms:
            found = values.text_for("x", np.asarray(form, object))
            wanted = [v.decode() if isinstance(v, bytes) else v for v in form.ravel().tolist()]
            assert found.ravel().tolist() == wanted
            assert found.shape == form.shape and found.flags.c_contiguous

    @pytest.mark.parametrize("odd", [None, b"\xff"])
    def test_what_is_no_text_is_refused(self, odd):
        with pytest.raises(InvalidInput, match="'x'"):
            values.text_for("x", np.array(["a", odd, "b"], object))
