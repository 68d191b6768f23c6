"""ONNX files: where they lie, what they hold that is refused, and how that is said."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hosting import RNG, onnx_model

import martlet
from martlet.errors import InvalidInput, UnsupportedModel

pytestmark = pytest.mark.filterwarnings("ignore")


class TestFiles:
    def test_a_size_whose_name_is_no_text_is_damage(self, info, tmp_path: Path):
        from onnx import helper

        path = onnx_model(
            tmp_path / "m",
            [helper.make_node("Neg", ["x"], ["y"])],
            [info("x", ["rows", 2])],
            [info("y", ["rows", 2])],
        )
        path.write_bytes(path.read_bytes().replace(b"rows", b"r\xf3ws"))
        with pytest.raises(UnsupportedModel):
            martlet.load(path)

    @pytest.mark.parametrize("where", ["../weights", "/etc/hostname", "link", "missing", ""])
    def test_tensors_outside_the_models_folder_are_refused(self, info, where: str, tmp_path: Path):
        import onnx
        from onnx import TensorProto, helper

        folder = tmp_path / "model"
        folder.mkdir()
        (tmp_path / "weights").write_bytes(struct.pack("<2f", 1, 2))
        (folder / "link").symlink_to(tmp_path / "weights")
        tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=where)
        graph = helper.make_graph(
            [helper.make_node("Add", ["x", "w"], ["y"])],
            "g",
            [info("x", [2])],
            [info("y", [2])],
            [tensor],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        (folder / "m.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(UnsupportedModel, match=r"own folder|missing"):
            martlet.load(folder / "m.onnx")
        assert onnx.load_model(folder / "m.onnx", load_external_data=False) is not None

    def test_tensors_beside_the_model_are_read(self, info, tmp_path: Path):
        import onnx
        from onnx import helper, numpy_helper

        weight = RNG.normal(size=(40, 2)).astype(np.float32)
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "g",
            [info("x", [1, 40])],
            [info("y", [1, 2])],
            [numpy_helper.from_array(weight, "w")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(
            model,
            tmp_path / "m.onnx",
            save_as_external_data=True,
            location="w.bin",
            size_threshold=0,
        )
        rows = RNG.normal(size=(3, 40)).astype(np.float32)
        with (
            martlet.load(tmp_path)
            if (tmp_path / "model.onnx").exists()
            else martlet.load(tmp_path / "m.onnx") as found
        ):
            np.testing.assert_allclose(found.predict({"x": rows})["y"], rows @ weight, rtol=1e-4)

    def test_an_operator_that_onnxruntime_does_not_know_is_named(self, info, tmp_path: Path):
        from onnx import helper

        path = onnx_model(
            tmp_path / "m",
            [helper.make_node("Frobnicate", ["x"], ["y"], domain="com.example")],
            [info("x", [1])],
            [info("y", [1])],
            domains=["com.example"],
        )
        with pytest.raises(UnsupportedModel, match="Frobnicate"):
            martlet.load(path)

    def test_maps_in_a_file_that_cannot_be_changed_are_values_and_keys(self, info, tmp_path: Path):
        import onnxruntime as ort
        from onnx import TensorProto, helper

        kind = helper.make_sequence_type_proto(
            helper.make_map_type_proto(
                TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, None)
            )
        )
        labels: dict[str, Any] = {"classlabels_strings": ["yes", "no"]}
        path = onnx_model(
            tmp_path / "m.onnx",
            [helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", **labels)],
            [info("x", ["n", 2])],
            [helper.make_value_info("y", kind)],
            domains=["ai.onnx.ml"],
        )
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "m.ort")
        options.add_session_config_entry("session.save_model_format", "ORT")
        ort.InferenceSession(str(path), options)
        with martlet.load(tmp_path / "m.ort") as model:
            found = model.predict({"x": np.array([[1, 2], [3, 4]], np.float32)})
        assert found["y_keys"].tolist() == ["no", "yes"]
        assert found["y"].tolist() == [[2, 1], [4, 3]]

    def test_an_operator_of_another_domain_is_named_with_its_node(self, info, tmp_path: Path):
        from onnx import helper

        path = onnx_model(
            tmp_path / "m",
            [
                helper.make_node("Neg", ["x"], ["z"]),
                helper.make_node("Frob", ["z"], ["y"], domain="my.ops", name="layer_7"),
            ],
            [info("x", ["n"])],
            [info("y", ["n"])],
            domains=["my.ops"],
        )
        with pytest.raises(UnsupportedModel, match=r"my\.ops:Frob.*\(node 1 .*'layer_7'\)"):
            martlet.load(path)

    @pytest.mark.parametrize(
        ("told", "value"), [("model_version", 3), ("doc_string", "of May"), ("domain", "org.shop")]
    )
    def test_whatever_follows_the_version_of_the_format_it_is_known(
        self, info, told: str, value: Any, tmp_path: Path
    ):
        import onnx
        from onnx import helper

        nodes = [helper.make_node("Neg", ["x"], ["y"])]
        path = onnx_model(tmp_path / "m", nodes, [info("x", ["n"])], [info("y", ["n"])])
        model = onnx.load(path)
        setattr(model, told, value)
        path.write_bytes(model.SerializeToString())
        with martlet.load(path) as loaded:
            assert loaded.predict({"x": np.ones(2, np.float32)})["y"].tolist() == [-1, -1]

    @pytest.mark.parametrize(("operator", "gates"), [("GRU", 3), ("LSTM", 4)])
    def test_an_empty_sequence_that_would_end_the_process_is_refused(
        self, info, operator: str, gates: int, tmp_path: Path
    ):
        from onnx import helper, numpy_helper

        weights = {"w": RNG.normal(size=(1, gates * 4, 2)), "r": RNG.normal(size=(1, gates * 4, 4))}
        path = onnx_model(
            tmp_path / "m",
            [
                helper.make_node("Transpose", ["x"], ["s"], perm=[1, 0, 2]),
                helper.make_node(operator, ["s", "w", "r"], ["", "h"], hidden_size=4),
                helper.make_node("Transpose", ["h"], ["y"], perm=[1, 0, 2]),
            ],
            [info("x", ["n", "steps", 2])],
            [info("y", ["n", 1, 4])],
            [numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()],
        )
        with martlet.load(path) as model:
            rows = RNG.normal(size=(3, 5, 2)).astype(np.float32)
            assert model.predict({"x": rows})["y"].shape == (3, 1, 4)
            assert model.predict({"x": rows[:0]})["y"].shape == (0, 1, 4)
            with pytest.raises(InvalidInput, match=rf"'x' has shape \[3, 0, 2\], and {operator}"):
                model.predict({"x": rows[:, :0]})

    @pytest.mark.parametrize(
        "where", ["else_branch of node 0 of the graph", "the function 'Twice'"]
    )
    def test_an_operator_within_a_branch_or_function_is_named_with_its_place(
        self, info, where: str, tmp_path: Path
    ):
        import onnx
        from onnx import helper

        frob = helper.make_node("Frob", ["x"], ["z"], domain="my.ops", name="inner")
        then = helper.make_graph(
            [helper.make_node("Neg", ["x"], ["z"])], "t", [], [info("z", None)]
        )
        other = helper.make_graph([frob], "e", [], [info("z", None)])
        called = helper.make_node("Twice", ["x"], ["y"], domain="mine")
        chosen = helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)
        path = onnx_model(
            tmp_path / "m",
            [called if "Twice" in where else chosen],
            [info("x", ["n"]), info("c", [], "BOOL")],
            [info("y", ["n"])],
            domains=["my.ops", "mine"],
        )
        if "Twice" in where:
            model = onnx.load(path)
            opsets = [helper.make_opsetid("my.ops", 3)]
            model.functions.append(
                helper.make_function("mine", "Twice", ["x"], ["z"], [frob], opsets)
            )
            onnx.save(model, path)
        with pytest.raises(
            UnsupportedModel, match=rf"my\.ops:Frob.*\(node 0 of {where}, 'inner'\)"
        ):
            martlet.load(path)

    def test_a_format_that_is_too_new_is_refused_in_a_sentence(self, info, tmp_path: Path):
        import onnx
        from onnx import helper

        nodes = [helper.make_node("Neg", ["x"], ["y"])]
        path = onnx_model(tmp_path / "m", nodes, [info("x", ["n"])], [info("y", ["n"])])
        model = onnx.load(path)
        model.ir_version = 30
        path.write_bytes(model.SerializeToString())
        with pytest.raises(UnsupportedModel, match="loads: Unsupported model IR version: 30"):
            martlet.load(path)

    def test_onnxruntimes_own_form_is_known_by_its_bytes(self, info, tmp_path: Path):
        import onnxruntime
        from onnx import helper

        nodes = [helper.make_node("Neg", ["x"], ["y"])]
        path = onnx_model(tmp_path / "m", nodes, [info("x", ["n"])], [info("y", ["n"])])
        settings = onnxruntime.SessionOptions()
        settings.optimized_model_filepath = str(tmp_path / "m.ort")
        onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        renamed = (tmp_path / "m.ort").rename(tmp_path / "model.bin")
        with martlet.load(renamed) as model:
            assert model.predict({"x": np.ones(2, np.float32)})["y"].tolist() == [-1, -1]
