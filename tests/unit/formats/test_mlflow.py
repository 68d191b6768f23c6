"""MLflow's folders: the flavour within, and what they say of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hosting import RNG

import martlet
from martlet.errors import UnsupportedModel

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
