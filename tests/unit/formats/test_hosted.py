"""What one format has and others do not: categories, dictionaries, fixed rows, pickles."""

from __future__ import annotations

import os
import signal
import struct
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import martlet
from martlet import formats
from martlet.errors import InvalidInput, NotAvailable, UnsupportedModel
from martlet.formats import ubjson

pytestmark = pytest.mark.filterwarnings("ignore")
RNG = np.random.default_rng(3)


def frame(rows: int = 200):
    import pandas

    return pandas.DataFrame(
        {
            "genre": RNG.choice(["action", "drama", "war"], rows),
            "year": RNG.integers(1950, 2020, rows).astype(float),
            "stars": RNG.choice([1, 3, 5], rows),
        }
    )


def gone(pid: int) -> bool:
    """Whether the process ends within a few seconds."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def columns(table) -> dict[str, np.ndarray]:
    return {
        name: table[name].to_numpy(object) if name == "genre" else table[name].to_numpy()
        for name in table
    }


class TestCategories:
    """A column that was a category takes its values; the rest is as the library treats it."""

    @pytest.fixture
    def table(self):
        return frame().astype({"genre": "category", "stars": "category"})

    def test_lightgbm(self, table, tmp_path: Path):
        import lightgbm
        import pandas

        label = (table["genre"] == "drama") | (table["year"] > 2000)
        booster = lightgbm.train(
            {"objective": "binary", "verbose": -1, "min_data_in_leaf": 5},
            lightgbm.Dataset(table, label),
            5,
        )
        booster.save_model(tmp_path / "m.txt")
        asked = {
            "genre": np.array(["drama", "unseen", None, "war"], dtype=object),
            "year": np.array([1999.0, 2010.0, np.nan, 1960.0]),
            "stars": np.array([1, 3, 4, 5]),
        }
        same = pandas.DataFrame(asked).assign(
            genre=lambda t: pandas.Categorical(t["genre"], ["action", "drama", "war"]),
            stars=lambda t: pandas.Categorical(t["stars"], [1, 3, 5]),
        )
        with martlet.load(tmp_path / "m.txt") as model:
            found = model.predict(asked)["predict"]
            assert str(model.signatures["serving_default"].inputs["genre"]) == "string [-1]"
            assert "matrix" not in model.signatures
        np.testing.assert_allclose(found, booster.predict(same), rtol=1e-12)

    def test_xgboost(self, table, tmp_path: Path):
        import pandas
        import xgboost

        label = ((table["genre"] == "drama") | (table["year"] > 2000)).astype(int)
        booster = xgboost.train(
            {"objective": "binary:logistic"},
            xgboost.DMatrix(table, label, enable_categorical=True),
            5,
        )
        booster.save_model(tmp_path / "m.ubj")
        asked = {
            "genre": np.array(["drama", "action", None, "war"], dtype=object),
            "year": np.array([1999.0, 2010.0, np.nan, 1960.0]),
            "stars": np.array([1, 3, 5, 5]),
        }
        same = pandas.DataFrame(asked).assign(
            genre=lambda t: pandas.Categorical(t["genre"], ["action", "drama", "war"]),
            stars=lambda t: pandas.Categorical(t["stars"], [1, 3, 5]),
        )
        expected = booster.predict(xgboost.DMatrix(same, enable_categorical=True))
        with martlet.load(tmp_path / "m.ubj") as model:
            np.testing.assert_allclose(model.predict(asked)["predict"], expected, rtol=1e-5)

    def test_catboost(self, tmp_path: Path):
        import catboost

        table = frame()
        table["stars"] = table["stars"].astype(str)
        label = ((table["genre"] == "drama") | (table["year"] > 2000)).astype(int)
        trained = catboost.CatBoostClassifier(
            iterations=5, verbose=False, allow_writing_files=False, cat_features=["genre", "stars"]
        ).fit(table, label)
        trained.save_model(str(tmp_path / "m.cbm"))
        asked = {
            "genre": np.array(["drama", "unseen", b"war"], dtype=object),
            "year": np.array([1999.0, np.nan, 1960.0]),
            "stars": np.array(["1", "4", "5"], dtype=object),
        }
        rows = [["drama", 1999.0, "1"], ["unseen", np.nan, "4"], ["war", 1960.0, "5"]]
        with martlet.load(tmp_path / "m.cbm") as model:
            found = model.predict(asked)
            np.testing.assert_allclose(
                found["Probability"], trained.predict_proba(rows), rtol=1e-12
            )
            assert found["Class"].tolist() == trained.predict(rows).tolist()
            numbers = asked | {"stars": np.array([1, 4, 5])}
            assert model.predict(numbers)["Class"].tolist() == found["Class"].tolist()
            with pytest.raises(InvalidInput, match="cat_feature"):
                model.predict(asked | {"stars": np.array([1.5, 4, 5])})
            with pytest.raises(InvalidInput, match="missing category"):
                model.predict(asked | {"genre": np.array(["drama", None, "war"], dtype=object)})


class TestScikitLearn:
    @pytest.fixture
    def pipeline(self):
        from sklearn.compose import ColumnTransformer
        from sklearn.impute import SimpleImputer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder

        table = frame()
        label = np.where(table["year"] > 1980, "new", "old")
        encode = ColumnTransformer(
            [
                ("text", OneHotEncoder(handle_unknown="ignore"), ["genre"]),
                ("numbers", make_pipeline(SimpleImputer()), ["year", "stars"]),
            ]
        )
        return make_pipeline(encode, LogisticRegression()).fit(table, label)

    @pytest.mark.parametrize("kind", ["skops", "joblib"])
    def test_a_data_frames_columns_are_inputs_by_name(self, pipeline, kind: str, tmp_path: Path):
        import joblib
        import pandas
        import skops.io

        path = tmp_path / f"m.{kind}"
        (skops.io if kind == "skops" else joblib).dump(pipeline, path)
        asked = {
            "genre": np.array(["drama", "unseen"], dtype=object),
            "year": np.array([1999.0, np.nan]),
            "stars": np.array([1.0, 5.0]),
        }
        with martlet.load(path, trusted=kind == "joblib") as model:
            inputs = model.signatures["serving_default"].inputs
            assert {n: s.dtype.value for n, s in inputs.items()} == {
                "genre": "string",
                "year": "float64",
                "stars": "float64",
            }
            found = model.predict(asked)
        same = pandas.DataFrame(asked)
        assert found["predict"].tolist() == pipeline.predict(same).tolist()
        np.testing.assert_allclose(found["predict_proba"], pipeline.predict_proba(same))

    def test_documents_are_one_column_of_text(self, tmp_path: Path):
        import skops.io
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        texts = ["a good film", "a bad film", "good", "bad bad"]
        trained = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [1, 0, 1, 0])
        skops.io.dump(trained, tmp_path / "m.skops")
        with martlet.load(tmp_path / "m.skops") as model:
            found = model.predict({"X": texts})
        np.testing.assert_allclose(found["predict_proba"], trained.predict_proba(texts))

    def test_a_classifier_of_two_outputs_gives_each_its_own(self, tmp_path: Path):
        import skops.io
        from sklearn.linear_model import LogisticRegression
        from sklearn.multioutput import MultiOutputClassifier

        rows = RNG.normal(size=(60, 3))
        label = np.column_stack([rows[:, 0] > 0, rows[:, 1] > 0]).astype(int)
        trained = MultiOutputClassifier(LogisticRegression()).fit(rows, label)
        skops.io.dump(trained, tmp_path / "m.skops")
        with martlet.load(tmp_path / "m.skops") as model:
            found = model.predict({"X": rows})
        assert found["predict"].tolist() == trained.predict(rows).tolist()
        for i, chances in enumerate(trained.predict_proba(rows)):
            np.testing.assert_allclose(found[f"predict_proba_{i}"], chances)


class Mischief:
    """A pickle of it writes a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class TestPickles:
    @pytest.mark.parametrize("name", ["m.pkl", "m.joblib", "m.txt", "m.onnx", "m.pt", "m.h5"])
    @pytest.mark.parametrize("protocol", [2, 4, 5])
    def test_one_that_is_not_trusted_is_never_opened(
        self, name: str, protocol: int, tmp_path: Path
    ):
        import pickle

        done = tmp_path / "done"
        (tmp_path / name).write_bytes(pickle.dumps(Mischief(done), protocol=protocol))
        with pytest.raises(UnsupportedModel, match="trusted"):
            martlet.load(tmp_path / name)
        assert not done.exists()

    @pytest.mark.parametrize("format", formats.names())
    def test_no_format_opens_one_even_where_it_is_named(self, format: str, tmp_path: Path):
        import pickle

        done = tmp_path / "done"
        (tmp_path / "m").write_bytes(pickle.dumps(Mischief(done)))
        with pytest.raises(martlet.MartletError):
            martlet.load(tmp_path / "m", format=format)
        assert not done.exists()

    @pytest.mark.parametrize("compress", ["zlib", "gzip", "bz2", "lzma", "xz"])
    def test_a_compressed_one_is_known_for_what_it_is(self, compress: str, tmp_path: Path):
        import joblib
        from sklearn.linear_model import Ridge

        trained = Ridge().fit(np.eye(3), [1, 2, 3])
        joblib.dump(trained, tmp_path / "m", compress=(compress, 3))
        assert formats.sniff(tmp_path / "m").name == "sklearn"
        with martlet.load(tmp_path / "m", trusted=True) as model:
            found = model.predict({"X": np.eye(3)})["predict"]
        np.testing.assert_allclose(found, trained.predict(np.eye(3)))

    def test_a_trusted_ones_process_may_die_and_the_model_lives(self, tmp_path: Path):
        import joblib
        from sklearn.linear_model import Ridge

        joblib.dump(Ridge().fit(np.eye(3), [1, 2, 3]), tmp_path / "m.joblib")
        with martlet.load(tmp_path / "m.joblib", trusted=True) as model:
            rows = {"X": np.eye(3)}
            before = model.predict(rows)["predict"]
            os.kill(model._servable._pid, signal.SIGKILL)
            with pytest.raises(NotAvailable, match="SIGKILL"):
                model.predict(rows)
            assert model.predict(rows)["predict"].tolist() == before.tolist()
            pid = model._servable._pid
        assert gone(pid)

    def test_a_trusted_one_sees_no_secret_of_ours(self, tmp_path: Path, monkeypatch):
        import joblib

        monkeypatch.setenv("SECRET_TOKEN", "s3cret")
        told = tmp_path / "told"
        told.write_text("")
        joblib.dump(_Teller(f"env > {told}"), tmp_path / "m.joblib")
        with pytest.raises(UnsupportedModel):
            martlet.load(tmp_path / "m.joblib", trusted=True)
        assert "PATH=" in told.read_text()
        assert "s3cret" not in told.read_text()


class _Teller:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def onnx_model(path: Path, nodes, inputs, outputs, initializers=(), opset=17, domains=()) -> Path:
    import onnx
    from onnx import helper

    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 3) for d in domains)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


class TestOnnx:
    @pytest.fixture
    def info(self):
        from onnx import TensorProto, helper

        def make(name, shape, dtype="FLOAT"):
            return helper.make_tensor_value_info(name, getattr(TensorProto, dtype), shape)

        return make

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


class TestProvedForest:
    """Trees walk through martlet's own forest where it gave the library's very numbers at load."""

    @pytest.fixture(params=["lightgbm", "xgboost", "catboost cbm", "catboost json"])
    def trained(self, request, tmp_path: Path):
        """The file, rows, what its library answers, and by which name martlet does."""
        rows = RNG.normal(size=(400, 4))
        rows[RNG.random(rows.shape) < 0.1] = np.nan
        label = np.nan_to_num(rows[:, 0] * rows[:, 1])
        path = tmp_path / "model"
        if request.param == "lightgbm":
            import lightgbm

            booster = lightgbm.train({"verbose": -1}, lightgbm.Dataset(rows, label), 20)
            booster.save_model(path)
            return path, rows, booster.predict, "predict"
        if request.param.startswith("catboost"):
            import catboost

            model = catboost.CatBoost(
                {"iterations": 20, "thread_count": 1, "allow_writing_files": False}
            ).fit(rows, label, verbose=False)
            model.save_model(str(path), format=request.param.split()[1])
            if request.param.endswith("json"):  # whose numbers it reads to the last bit but one
                model = catboost.CatBoost().load_model(str(path), format="json")
            return path, rows, model.predict, "RawFormulaVal"
        import xgboost

        booster = xgboost.train({"max_depth": 4}, xgboost.DMatrix(rows, label), 20)
        booster.save_model(tmp_path / "model.ubj")
        return tmp_path / "model.ubj", rows, booster.inplace_predict, "predict"

    @pytest.mark.parametrize("native", ["0", "1"])
    def test_both_ways_answer_as_the_library_to_the_last_bit(self, trained, native, monkeypatch):
        from martlet.native import find

        monkeypatch.setenv("MARTLET_NATIVE", native)
        path, rows, own, name = trained
        with martlet.load(path) as model:
            assert (model._servable._sum is not None) == (find("forest") is not None)
            many = np.concatenate([rows, rows, rows])  # CatBoost's own is faster for these
            for some in (rows, rows[:1], np.asfortranarray(rows), rows[::3], many):
                assert model.predict({"X": some})[name].tolist() == own(some).tolist()

    def test_a_forest_that_adds_up_to_something_else_is_not_used(self, trained, monkeypatch):
        path, rows, own, name = trained
        wrong = np.zeros((1, 1))
        monkeypatch.setattr("martlet.formats.forest.TreeSum.__call__", lambda self, x: wrong)
        with martlet.load(path) as model:
            assert model._servable._sum is None
            assert model.predict({"X": rows})[name].tolist() == own(rows).tolist()


class TestTreesOfScikitLearn:
    """Its trees and forests walk through martlet's own where that gives its very numbers."""

    KINDS: ClassVar = {
        "tree": ("DecisionTreeClassifier", {}),
        "tree of numbers": ("DecisionTreeRegressor", {}),
        "forest": ("RandomForestClassifier", {"n_estimators": 12}),
        "forest of numbers": ("RandomForestRegressor", {"n_estimators": 12}),
        "extra": ("ExtraTreesClassifier", {"n_estimators": 12}),
        "boosted": ("GradientBoostingClassifier", {"n_estimators": 12}),
        "boosted numbers": ("GradientBoostingRegressor", {"n_estimators": 12}),
        "boosted of weights": ("GradientBoostingClassifier", {"loss": "exponential"}),
    }

    @pytest.mark.parametrize("classes", [2, 3])
    @pytest.mark.parametrize("kind", KINDS)
    def test_answer_to_the_last_bit(self, kind: str, classes: int, tmp_path: Path):
        import skops.io
        from sklearn import ensemble, tree

        from martlet.native import find

        name, settings = self.KINDS[kind]
        if classes == 3 and "loss" in settings:
            pytest.skip("two classes are all that it takes")
        rows = RNG.normal(size=(300, 4))
        signal = rows[:, 0] + rows[:, 1] * rows[:, 2]
        label = np.array(["low", "mid", "high"])[np.digitize(signal, [0.0, 1.0][: classes - 1])]
        chosen = getattr(tree, name, None) or getattr(ensemble, name)
        own = chosen(**settings).fit(rows, signal if name.endswith("Regressor") else label)
        skops.io.dump(own, tmp_path / "m")
        with martlet.load(tmp_path / "m") as model:
            assert (model._servable._quick is not None) == (find("forest") is not None)
            for some in (rows, rows[:1], np.asfortranarray(rows * 1.1), rows[::3], rows * 1e30):
                for output, found in model.predict({"X": some}).items():
                    assert found.tolist() == getattr(own, output)(some).tolist()
            with pytest.raises(InvalidInput, match=r"infinity|too large"):
                model.predict({"X": np.full((1, 4), 1e300)})

    def test_what_the_forest_has_not_is_scikit_learns(self, tmp_path: Path):
        import skops.io
        from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
        from sklearn.linear_model import LinearRegression

        rows = RNG.normal(size=(100, 3))
        for own, label in (
            (RandomForestRegressor(4), rows[:, :2]),  # two outputs
            (GradientBoostingRegressor(n_estimators=4, init=LinearRegression()), rows[:, 0]),
        ):
            own.fit(rows, label)
            skops.io.dump(own, tmp_path / "m")
            with martlet.load(tmp_path / "m") as model:
                assert model._servable._quick is None
                found = model.predict({"X": rows})["predict"]
                np.testing.assert_array_equal(found, own.predict(rows))

    def test_missing_values_are_scikit_learns(self, tmp_path: Path):
        import skops.io
        from sklearn.ensemble import RandomForestClassifier

        rows = RNG.normal(size=(300, 3))
        rows[RNG.random(rows.shape) < 0.2] = np.nan
        own = RandomForestClassifier(6).fit(rows, np.nan_to_num(rows[:, 0], nan=1.0) > 0)
        skops.io.dump(own, tmp_path / "m")
        with martlet.load(tmp_path / "m") as model:
            found = model.predict({"X": rows})["predict_proba"]
            np.testing.assert_array_equal(found, own.predict_proba(rows))


class TestXGBoostBinary:
    """The format before 3.1, which XGBoost no longer reads."""

    def test_a_margin_of_an_old_version_becomes_a_probability(self):
        from martlet.formats.xgboost_file import _predicted

        assert _predicted("binary:logistic", 0.0) == 0.5
        assert _predicted("count:poisson", 0.0) == 1.0
        assert _predicted("reg:linear", 0.25) == 0.25
        assert _predicted("rank:pairwise", 0.25) == 0.25


def test_an_objective_that_is_not_known_is_asked_of_xgboost(tmp_path: Path, monkeypatch):
    import xgboost

    from martlet.formats import xgboost as ours

    monkeypatch.delitem(ours._LINKS, "binary:logistic")
    rows = RNG.normal(size=(80, 3))
    label = (rows[:, 0] > 0).astype(int)
    booster = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(rows, label), 3)
    booster.save_model(tmp_path / "m.json")
    with martlet.load(tmp_path / "m.json") as model:
        found = model.predict({"X": rows})["predict"]
        assert model.predict({"X": rows[:0]})["predict"].shape == (0,)
    np.testing.assert_allclose(found, booster.inplace_predict(rows), rtol=1e-6)


class TestUbjson:
    @pytest.mark.parametrize(
        ("data", "value"),
        [
            (b"{i\x01aSi\x02hi}", {"a": "hi"}),
            (b"[i\x01U\xffTFZ]", [1, 255, True, False, None]),
            (b"[#i\x02i\x01i\x02", [1, 2]),
            (b"{#i\x01i\x01ai\x05", {"a": 5}),
            (b"D" + struct.pack(">d", 1.5), 1.5),
            (b"L" + struct.pack(">q", -2), -2),
        ],
    )
    def test_values(self, data: bytes, value: object):
        assert ubjson.loads(data) == value

    def test_a_typed_array_is_numpys(self):
        found = ubjson.loads(b"[$d#i\x02" + struct.pack(">2f", 1.5, -2))
        assert found.tolist() == [1.5, -2.0]

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"{",
            b"[" * 100,
            b"[$L#L" + struct.pack(">q", 1 << 60),
            b"[#L" + struct.pack(">q", -1),
            b"SL" + struct.pack(">q", 1 << 40) + b"x",
            b"?",
            b"i\x01i\x02",
            b"[$d]",
        ],
    )
    def test_what_is_not_ubjson_is_refused_without_room_for_it(self, data: bytes):
        with pytest.raises(ValueError):
            ubjson.loads(data)


class TestMLflow:
    def folder(self, path: Path, flavours: str, signature: str = "") -> Path:
        path.mkdir()
        (path / "MLmodel").write_text(f"flavors:\n{flavours}{signature}")
        return path

    def test_the_native_flavour_takes_the_folders_column_names(self, tmp_path: Path):
        import lightgbm

        rows = RNG.normal(size=(100, 2))
        booster = lightgbm.train(
            {"verbose": -1, "min_data_in_leaf": 5}, lightgbm.Dataset(rows, rows[:, 0]), 3
        )
        folder = self.folder(
            tmp_path / "m",
            "  python_function: {loader_module: mlflow.lightgbm}\n  lightgbm: {data: model.lgb}\n",
            'signature:\n  inputs: \'[{"name": "age", "type": "double"}, '
            '{"name": "price", "type": "long"}]\'\n'
            "saved_input_example_info: {artifact_path: input_example.json}\n",
        )
        booster.save_model(folder / "model.lgb")
        (folder / "input_example.json").write_text(
            '{"columns": ["age", "price"], "data": [[0.5, 1], [1.5, 2]]}'
        )
        with martlet.load(folder) as model:
            found = model.predict({"age": rows[:, 0], "price": rows[:, 1]})
            assert model.predict({"X": rows})["predict"].tolist() == found["predict"].tolist()
            assert model.predict({"X": rows}, "leaf")["leaf"].shape == (100, 3)
            (example,) = model._servable.examples
            assert example["age"].tolist() == [0.5, 1.5]
        np.testing.assert_allclose(found["predict"], booster.predict(rows))

    def test_a_python_function_alone_is_code(self, tmp_path: Path):
        folder = self.folder(tmp_path / "m", "  python_function: {loader_module: os}\n")
        with pytest.raises(UnsupportedModel, match="trusted"):
            martlet.load(folder)

    @pytest.mark.parametrize("where", ["../secret", "/etc/passwd"])
    def test_a_file_outside_the_folder_is_refused(self, where: str, tmp_path: Path):
        (tmp_path / "secret").write_text("tree\n")
        folder = self.folder(tmp_path / "m", f"  lightgbm: {{data: {where}}}\n")
        with pytest.raises(UnsupportedModel, match="outside"):
            martlet.load(folder)

    def test_what_is_no_yaml_is_refused(self, tmp_path: Path):
        folder = self.folder(tmp_path / "m", "  x: !!python/object/apply:os.system ['true']\n")
        with pytest.raises(UnsupportedModel, match="YAML"):
            martlet.load(folder)

    def test_a_registered_model_is_fetched_by_its_alias(self, tmp_path: Path, monkeypatch):
        import lightgbm

        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        mlflow = pytest.importorskip("mlflow")
        store = f"file://{tmp_path / 'store'}"
        mlflow.set_tracking_uri(store)
        mlflow.set_registry_uri(store)
        rows = RNG.normal(size=(60, 2))
        booster = lightgbm.train({"verbose": -1}, lightgbm.Dataset(rows, rows[:, 0]), 2)
        folder = self.folder(tmp_path / "m", "  lightgbm: {data: model.lgb}\n")
        booster.save_model(folder / "model.lgb")
        client = mlflow.MlflowClient()
        client.create_registered_model("ctr")
        made = client.create_model_version("ctr", source=str(folder))
        client.set_registered_model_alias("ctr", "champion", made.version)
        with martlet.load("models:/ctr@champion") as model:
            np.testing.assert_allclose(model.predict({"X": rows})["predict"], booster.predict(rows))
        with pytest.raises(UnsupportedModel, match="none"):
            martlet.load("models:/none/1")


def test_looking_for_a_format_loads_no_library(tmp_path: Path):
    """In a fresh process: every file is asked of every format, so asking must be cheap."""
    import subprocess
    import sys

    (tmp_path / "m").write_bytes(b"nothing that is known")
    script = (
        "import sys, pathlib, martlet\n"
        "from martlet import formats\n"
        f"try: formats.sniff(pathlib.Path({str(tmp_path / 'm')!r}))\n"
        "except martlet.errors.UnsupportedModel: pass\n"
        "print(sorted(m for m in sys.modules if '.' not in m))"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    heavy = {"onnxruntime", "lightgbm", "xgboost", "catboost", "sklearn", "skops", "pandas"}
    heavy |= {"torch", "tensorflow", "keras", "ai_edge_litert", "h5py", "joblib", "pyarrow"}
    assert not heavy & set(eval(told.stdout))
