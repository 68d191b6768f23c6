"""MLflow's folders: the flavour within, and what they say of it."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hosting import RNG, onnx_model

import martlet
from martlet.cli import main
from martlet.config import NamedPath
from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats.mlflow import example

pytestmark = pytest.mark.filterwarnings("ignore")


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

    @pytest.mark.parametrize(
        "lines",
        [
            "a: &a [x, x]\n" + "".join(f"{n}: &{n} [*{m}, *{m}]\n" for m, n in pairwise("abcdefghij"
            "klmnopqrstuvwxyz")) + "saved_input_example_info: {artifact_path: *z}\n",
            "a: &a [*a]\nsaved_input_example_info: {artifact_path: *a}\n",
            "a: [" + "1," * 60_000 + "1]\n",
            "a: " + "[" * 50_000,
        ],
        ids=["doubled", "within itself", "long", "deep"],
    )  # fmt: skip
    def test_yaml_that_unfolds_without_end_is_refused(self, lines: str, tmp_path: Path):
        folder = self.folder(tmp_path / "m", "  lightgbm: {data: model.lgb}\n", lines)
        with pytest.raises(UnsupportedModel, match="more than 50000 values"):
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
        # The commands ask in a process of its own, which knows the server by the environment.
        monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
        monkeypatch.setenv("MLFLOW_REGISTRY_URI", store)
        shown = CliRunner().invoke(main, ["inspect", "models:/ctr@champion", "--json"])
        assert json.loads(shown.stdout)["format"] == "mlflow"
        assert NamedPath.parse("ctr=models:/ctr@champion") == NamedPath("ctr", folder)
        with pytest.raises(UnsupportedModel, match="MLflow does not give models:/none/1"):
            NamedPath.parse("ctr=models:/none/1")

    def test_an_xgboost_estimator_answers_as_the_estimator_that_was_logged(self, tmp_path: Path):
        import xgboost

        rows, held = RNG.normal(size=(80, 2)), RNG.normal(size=(80, 2))
        early = xgboost.XGBClassifier(n_estimators=60, early_stopping_rounds=2, learning_rate=1.0)
        early.fit(rows, rows[:, 0] > 0, eval_set=[(held, held[:, 1] > 0)], verbose=False)
        assert early.best_iteration + 1 < early.get_booster().num_boosted_rounds()
        folder = self.folder(
            tmp_path / "m",
            "  xgboost: {data: model.xgb, model_class: xgboost.sklearn.XGBClassifier}\n",
            'signature: {inputs: \'[{"name": "a", "type": "double"}, '
            '{"name": "b", "type": "double"}]\'}\n',
        )
        early.save_model(folder / "model.json")
        (folder / "model.json").rename(folder / "model.xgb")
        with martlet.load(folder) as model:
            found = model.predict({"a": held[:, 0], "b": held[:, 1]})
        assert found["predict"].tolist() == early.predict(held).tolist()
        np.testing.assert_allclose(found["predict_proba"], early.predict_proba(held), rtol=1e-6)

    def test_a_folder_of_mlflow_1_answers_as_it_did(self):
        folder = Path(__file__).parents[2] / "fixtures" / "older" / "mlflow_1.30.1_early"
        told = json.loads((folder / "answers.json").read_text())
        with martlet.load(folder) as model:
            found = model.predict(told["rows"])
            assert len(model._servable.examples) == 1
        assert found["predict"].tolist() == told["predict"]
        np.testing.assert_allclose(found["predict_proba"], told["predict_proba"], rtol=1e-5)

    def test_a_pickle_finds_its_classes_in_the_folders_code(self, tmp_path: Path, monkeypatch):
        import sys

        import joblib

        folder = self.folder(tmp_path / "m", "  sklearn: {pickled_model: model.pkl, code: code}\n")
        (folder / "code").mkdir()
        (folder / "code" / "ours_alone.py").write_text(
            "from sklearn.base import BaseEstimator\n"
            "class Twice(BaseEstimator):\n"
            "    n_features_in_ = 1\n"
            "    def predict(self, X):\n"
            "        return 2 * X[:, 0]\n"
        )
        monkeypatch.syspath_prepend(str(folder / "code"))
        import ours_alone  # pyright: ignore[reportMissingImports]

        joblib.dump(ours_alone.Twice(), folder / "model.pkl")
        monkeypatch.undo()
        del sys.modules["ours_alone"]
        with martlet.load(folder, trusted=True) as model:
            assert model.predict({"X": np.array([[1.5], [2]])})["predict"].tolist() == [3, 4]

    @staticmethod
    def signed(**columns: str) -> str:
        told = json.dumps([{"name": name, "type": kind} for name, kind in columns.items()])
        return f"signature:\n  inputs: '{told}'\n"

    def test_a_ranker_of_mlflow_2_answers_as_it_did_under_the_names_it_was_given(self):
        """LightGBM 3.3.5 wrote it: `user age` is `user_age` there, and it has no classes."""
        pytest.importorskip("lightgbm")
        folder = Path(__file__).parents[2] / "fixtures" / "older" / "mlflow_2.0.1_ranker"
        told = json.loads((folder / "answers.json").read_text())
        with pytest.raises(UnsupportedModel, match="trusted"):
            martlet.load(folder)
        with martlet.load(folder, trusted=True) as model:
            assert list(model.signatures["serving_default"].inputs) == ["user age", "prix", "ctr"]
            found = model.predict(told["rows"])["predict"]
        np.testing.assert_allclose(found, told["predict"], rtol=1e-12)

    def test_lightgbm_takes_the_folders_columns_by_their_place(self, tmp_path: Path):
        import lightgbm

        rows = RNG.normal(size=(100, 2))
        data = lightgbm.Dataset(rows, rows[:, 0], feature_name=["user age", "n"])
        booster = lightgbm.train({"verbose": -1, "min_data_in_leaf": 5}, data, 3)
        assert booster.feature_name() == ["user_age", "n"]
        folder = self.folder(
            tmp_path / "m",
            "  lightgbm: {data: model.lgb}\n",
            self.signed(**{"user age": "double", "n": "double"}),
        )
        booster.save_model(folder / "model.lgb")
        (folder / "input_example.json").write_text(
            '{"columns": ["user age", "n"], "data": [[NaN, 1]]}'
        )
        with martlet.load(folder) as model:
            columns = {"user age": rows[:, 0], "n": rows[:, 1]}
            found = model.predict(columns)["predict"]
            assert model.predict(columns, "leaf_columns")["leaf"].shape == (100, 3)
            assert model.predict({"X": rows})["predict"].tolist() == found.tolist()
            (example,) = model._servable.examples
            assert np.isnan(example["user age"][0])
        np.testing.assert_allclose(found, booster.predict(rows))

    def test_a_tensor_may_come_as_the_columns_of_the_folder(self, tmp_path: Path):
        from onnx import TensorProto, helper, numpy_helper

        weights = RNG.normal(size=(2, 3)).astype(np.float32)
        folder = self.folder(
            tmp_path / "m",
            "  onnx: {data: model.onnx}\n",
            self.signed(age="double", seen="long"),
        )
        onnx_model(
            folder / "model.onnx",
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
            [numpy_helper.from_array(weights, "w")],
        )
        with martlet.load(folder) as model:
            assert list(model.signatures["serving_default"].inputs) == ["x"]
            found = model.predict({"age": [0.5, 1.5], "seen": [3, 4]})["y"]
            rows = np.array([[0.5, 3], [1.5, 4]], np.float32)
            assert model.predict({"x": rows})["y"].tolist() == found.tolist()
            with pytest.raises(InvalidInput, match="length"):
                model.predict({"age": [0.5, 1.5], "seen": [3, 4, 5]})
        np.testing.assert_allclose(found, rows @ weights, rtol=1e-6)

    def test_the_method_that_mlflow_calls_is_the_default_one(self, tmp_path: Path):
        pytest.importorskip("skops")
        import skops.io
        from sklearn.linear_model import LogisticRegression

        rows = RNG.normal(size=(60, 2))
        fitted = LogisticRegression().fit(rows, rows[:, 0] > 0)
        folder = self.folder(
            tmp_path / "m",
            "  sklearn: {pickled_model: model.skops}\n"
            "  python_function: {loader_module: mlflow.sklearn, predict_fn: predict_log_proba}\n",
            self.signed(a="double", b="double"),
        )
        skops.io.dump(fitted, folder / "model.skops")
        with martlet.load(folder) as model:
            found = model.predict({"a": rows[:, 0], "b": rows[:, 1]})
            assert model.predict({"X": rows}).keys() == {"predict_log_proba"}
            assert model.predict({"X": rows}, "predict").keys() == {"predict"}
        np.testing.assert_allclose(found["predict_log_proba"], fitted.predict_log_proba(rows))

    def test_a_linear_xgboost_estimator_takes_its_columns(self, tmp_path: Path):
        import pandas
        import xgboost

        rows = pandas.DataFrame(RNG.normal(size=(60, 2)), columns=["a", "b"])
        fitted = xgboost.XGBClassifier(booster="gblinear", n_estimators=3).fit(rows, rows["a"] > 0)
        folder = self.folder(
            tmp_path / "m",
            "  xgboost: {data: model.ubj, model_class: xgboost.sklearn.XGBClassifier}\n",
            self.signed(a="double", b="double"),
        )
        fitted.save_model(folder / "model.ubj")
        with martlet.load(folder) as model:
            found = model.predict({name: rows[name].to_numpy() for name in rows})
        np.testing.assert_allclose(found["predict_proba"], fitted.predict_proba(rows), rtol=1e-6)

    def test_an_example_of_any_layout_is_read(self, tmp_path: Path):
        plain = {"type": "json_object"}
        named, unnamed = self.signature_of("string", "q"), self.signature_of("string")
        listed = self.signature_of({"type": "array", "items": {"type": "string"}}, "q")
        for written, info, signature, wanted in [
            ({"columns": ["a"], "data": [[1], [2]]}, {}, "[]", {"a": [1, 2]}),
            ({"data": [[1, 2]]}, {"type": "dataframe"}, "[]", [[1, 2]]),
            ({"inputs": [[1, 2]]}, {"type": "ndarray"}, "[]", [[1, 2]]),
            ({"inputs": {"a": [1]}}, {"type": "ndarray"}, "[]", {"a": [1]}),
            ({"inputs": {"inputs": [3]}, "params": {"k": 1}}, {"params": "true"}, "[]", [3]),
            (["a", "b"], plain, unnamed, ["a", "b"]),
            ("a", plain, unnamed, ["a"]),
            ({"q": "a"}, plain, named, {"q": ["a"]}),
            ({"q": ["a", "b"]}, plain, named, {"q": ["a", "b"]}),
            ({"q": ["a", "b"]}, plain, listed, {"q": [["a", "b"]]}),
            ([{"q": "a"}, {"q": "b"}], plain, named, {"q": ["a", "b"]}),
            ([{"q": "a"}], plain, unnamed, [{"q": "a"}]),
            (
                {"data": [5, 6], "indices": [1, 0], "indptr": [0, 1, 2], "shape": [2, 3]},
                {"type": "sparse_matrix_csr"},
                "[]",
                [[0, 5, 0], [6, 0, 0]],
            ),
            ({"columns": ["a"], "data": [[1], []]}, {}, "[]", None),
        ]:
            (tmp_path / "input_example.json").write_text(json.dumps(written))
            told = {"saved_input_example_info": info, "signature": {"inputs": signature}}
            found = example.example(tmp_path, told)
            found = found.tolist() if isinstance(found, np.ndarray) else found
            assert found == wanted

    @staticmethod
    def signature_of(kind: object, name: str | None = None) -> str:
        told = kind if isinstance(kind, dict) else {"type": kind}
        return json.dumps([told | ({"name": name} if name else {})])

    def test_rows_without_names_are_an_example_of_columns(self):
        from martlet.tensors import DType, Signature, Spec

        columns = Signature.of([Spec(name, DType.FLOAT64, (-1,)) for name in "ab"], [])
        matrix = Signature.of([Spec("X", DType.FLOAT64, (-1, 2))], [])
        rows = [[1.0, 2.0], [3.0, 4.0]]
        (found,) = example.given_by(rows, columns)
        assert {name: values.tolist() for name, values in found.items()} == {
            "a": [1, 3],
            "b": [2, 4],
        }
        (found,) = example.given_by(rows, matrix)
        assert found["X"].tolist() == rows
        (found,) = example.given_by({"a": [1, 3], "b": [2, 4]}, matrix)
        assert found["X"].tolist() == rows
        assert example.given_by([[1.0]], matrix) == []
