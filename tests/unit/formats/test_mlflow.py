"""MLflow's folders: the flavour within, and what they say of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hosting import RNG

import martlet
from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats import mlflow_schema

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

    def test_an_example_of_any_layout_is_read(self, tmp_path: Path):
        for written, info, wanted in [
            ({"columns": ["a"], "data": [[1], [2]]}, {}, {"a": [1, 2]}),
            ({"inputs": [[1, 2]]}, {"type": "ndarray"}, [[1, 2]]),
            ({"inputs": {"a": [1]}}, {"type": "ndarray"}, {"a": [1]}),
            ({"inputs": {"inputs": [3]}, "params": {"k": 1}}, {"params": "true"}, [3]),
            (["a", "b"], {"type": "json_object"}, ["a", "b"]),
            (
                {"data": [5, 6], "indices": [1, 0], "indptr": [0, 1, 2], "shape": [2, 3]},
                {"type": "sparse_matrix_csr"},
                [[0, 5, 0], [6, 0, 0]],
            ),
            ({"columns": ["a"], "data": [[1], []]}, {}, None),
        ]:
            (tmp_path / "input_example.json").write_text(json.dumps(written))
            found = mlflow_schema.example(tmp_path, {"saved_input_example_info": info})
            found = found.tolist() if isinstance(found, np.ndarray) else found
            assert found == wanted


class TestPythonFunction:
    """MLflow's own wrapper, in a process of its own: one model that shows all of it."""

    CODE = """
import mlflow, numpy, pandas

class Shown(mlflow.pyfunc.PythonModel):
    def predict(self, context, table, params=None):
        return pandas.DataFrame({
            "sum": table["i"] + table["d"] + (params or {}).get("more", 0),
            "day": table["t"].dt.day,
            "next": table["t"] + pandas.Timedelta("1D"),
            "bytes": [value[::-1] + b"\\xff" for value in table["raw"]],
            "mean": [float(numpy.mean(each)) for each in table["xs"]],
            "who": [{"name": each["name"], "upper": each["name"].upper()} for each in table["who"]],
            "left": ["opt" in table] * len(table),
        })

mlflow.models.set_model(Shown())
"""

    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        mlflow = pytest.importorskip("mlflow")
        from mlflow.types.schema import Array, DataType, Object, Property

        path = tmp_path_factory.mktemp("mlflow")
        (path / "code.py").write_text(self.CODE)
        columns = {"i": "integer", "d": "double", "t": "datetime", "raw": "binary"} | {
            "xs": Array(DataType.double),
            "who": Object([Property("name", DataType.string)]),
        }
        types = mlflow.types
        signature = mlflow.models.ModelSignature(
            types.Schema(
                [
                    *[types.ColSpec(kind, name) for name, kind in columns.items()],
                    types.ColSpec("string", "opt", required=False),
                ]
            ),
            params=types.ParamSchema([types.ParamSpec("more", "double", 0.5)]),
        )
        mlflow.pyfunc.save_model(
            path / "m",
            python_model=str(path / "code.py"),
            signature=signature,
            pip_requirements=[],
        )
        return path / "m"

    def test_every_type_of_column_goes_in_and_out(self, folder: Path):
        given = {
            "i": np.array([1, 2], np.int32),
            "d": np.array([0.5, np.nan]),
            "t": np.array(["2020-01-31", "2021-03-04T05:06:07"], object),
            "raw": np.array([b"\xff\x00", "ab"], object),
            "xs": np.array([[1, 2], [3, 5]], float),
            "who": np.array(['{"name": "a"}', '{"name": "é"}'], object),
        }
        with martlet.load(folder, trusted=True) as model:
            inputs = model.signatures["serving_default"].inputs
            assert not inputs["opt"].required
            assert not inputs["more"].required
            found = model.predict(given)
            np.testing.assert_array_equal(found["sum"], [2.0, np.nan])
            assert found["day"].tolist() == [31, 4]
            assert [v[:10] for v in found["next"]] == ["2020-02-01", "2021-03-05"]
            assert found["bytes"].tolist() == [b"\x00\xff\xff", b"ba\xff"]
            assert found["mean"].tolist() == [1.5, 4]
            assert [json.loads(v) for v in found["who"]] == [
                {"name": "a", "upper": "A"},
                {"name": "é", "upper": "É"},
            ]
            assert not found["left"].any()
            assert model.predict(given | {"more": np.array(2.0)})["sum"][0] == 3.5
            for wrong in (
                {"t": np.array(["x", "y"], object)},
                {"who": np.array(["{", "{}"], object)},
                {"d": np.array([0.5])},
            ):
                with pytest.raises(InvalidInput):
                    model.predict(given | wrong)
