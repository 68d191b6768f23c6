"""MLflow's ``python_function``: what it takes and gives, by the folder's signature."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hosting import RNG

import martlet
from martlet.errors import InvalidInput
from martlet.formats.mlflow.pyfunc import PyfuncServable

pytestmark = pytest.mark.filterwarnings("ignore")


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

    @pytest.mark.parametrize(
        ("body", "inputs", "given", "wanted"),
        [
            (
                "table[0] + table[1]",
                [{"type": "double"}, {"type": "double"}],
                {"0": [1.0, 2.0], "1": [3.0, 4.0]},
                [4, 6],
            ),
            (
                "table[7] * 2",
                [{"type": "double", "name": 7}],
                {"7": [1.0, 2.0]},
                [2, 4],
            ),
            (
                "numpy.char.upper(table)[:, 0]",
                [{"type": "tensor", "tensor-spec": {"dtype": "str", "shape": [-1, 1]}}],
                {"X": np.array([["é"], ["b"]], object)},
                ["É", "B"],
            ),
            (
                "pandas.to_timedelta(table['s'], unit='s')",
                [{"type": "double", "name": "s"}],
                {"s": [1.5, 60.0]},
                ["P0DT0H0M1.5S", "P0DT0H1M0S"],
            ),
        ],
        ids=["without names", "numbers for names", "numpy's text", "durations"],
    )
    def test_what_it_takes_and_gives(self, tmp_path: Path, body, inputs, given, wanted):
        folder = self.saved(tmp_path, body)
        with (folder / "MLmodel").open("a") as file:
            file.write(f"signature:\n  inputs: '{json.dumps(inputs)}'\n")
        model = martlet.Checked(PyfuncServable(folder))
        assert model.predict(given)["predict"].tolist() == wanted

    def saved(self, path: Path, body: str) -> Path:
        """Return a folder without a signature; opened in this process, for the code is our own."""
        mlflow = pytest.importorskip("mlflow")
        code = path / "code.py"
        code.write_text(
            "import mlflow, numpy, pandas\n"
            "class Model(mlflow.pyfunc.PythonModel):\n"
            f"    def predict(self, context, table, params=None):\n        return {body}\n"
            "mlflow.models.set_model(Model())\n"
        )
        mlflow.pyfunc.save_model(path / "m", python_model=str(code), pip_requirements=[])
        return path / "m"

    def test_outputs_that_nothing_tells_of_are_given_as_they_come(self, tmp_path: Path):
        folder = self.saved(tmp_path, "pandas.DataFrame({'sum': table.to_numpy() @ [1.0, 2.0]})")
        model = martlet.Checked(PyfuncServable(folder))
        assert model.predict({"X": [[1.0, 2.0], [3.0, 4.0]]})["sum"].tolist() == [5, 11]

    def test_it_stands_in_for_an_estimator_that_does_not_tell_its_columns(self, tmp_path: Path):
        mlflow = pytest.importorskip("mlflow")
        from sklearn.base import BaseEstimator

        rows = RNG.normal(size=(20, 2))
        told = {"__module__": "__main__", "predict": lambda _, table: np.asarray(table).sum(axis=1)}
        fitted = type("Sum", (BaseEstimator,), told)()
        types = mlflow.types
        columns = [types.ColSpec("double", name) for name in "ab"]
        mlflow.sklearn.save_model(
            fitted,
            tmp_path / "m",
            serialization_format="cloudpickle",
            signature=mlflow.models.ModelSignature(types.Schema(columns)),
            pip_requirements=[],
        )
        with martlet.load(tmp_path / "m", trusted=True) as model:
            found = model.predict({"a": rows[:, 0], "b": rows[:, 1]})["predict"]
        np.testing.assert_allclose(found, rows.sum(axis=1))
