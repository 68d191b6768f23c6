"""Spark ML folders: Spark's own answers on models that it trained, and files that are broken."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from spark_cases import given, missing, numbers, same

import martlet
from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats.stages.categories import label_table
from martlet.formats.stages.plan import Plan
from martlet.formats.stages.sql import select
from martlet.formats.stages.stage import Kind, Port
from martlet.formats.stages.vectors import kept_sparse
from martlet.tensors import DType
from martlet.wire.tfserving.requests import PredictDecoder

pytest.importorskip("pyarrow", reason="the extra martlet[spark] is not installed")

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "spark"
# `make spark-parity` trains them anew and points here.
MODELS = Path(os.environ.get("MARTLET_SPARK_MODELS", FIXTURES)).absolute()
CASES = sorted(path.parent.name for path in MODELS.glob("*/expected.json"))


def rows_for(model: martlet.Checked, signature: str, some: slice = slice(None)) -> dict[str, Any]:
    rows = json.loads((MODELS / "rows.json").read_text(encoding="utf-8"))
    return {
        name: (rows[name] if spec.dtype is DType.STRING else numbers(rows[name]))[some]
        for name, spec in model.signatures[signature].inputs.items()
    }


def _text(values: list[Any]) -> bool:
    return isinstance(values[0], str)


class TestModelsThatSparkTrained:
    def test_there_are_some(self) -> None:
        assert len(CASES) > 50

    @pytest.mark.parametrize("case", CASES)
    def test_answer_as_spark_does(self, case: str) -> None:
        with martlet.load(MODELS / case / "model") as model:
            found = model.predict(rows_for(model, "columns"), "columns")
        wanted = json.loads((MODELS / case / "expected.json").read_text(encoding="utf-8"))
        assert set(wanted) <= set(found)
        wrong = [name for name in wanted if not same(found[name], wanted[name])]
        assert not wrong, f"{wrong[0]}: {found[wrong[0]]} is not {wanted[wrong[0]]}"

    @pytest.mark.parametrize("case", CASES)
    def test_a_row_alone_and_no_row_answer_as_in_a_batch(self, case: str) -> None:
        with martlet.load(MODELS / case / "model") as model:
            for signature in model.signatures:
                whole = model.predict(rows_for(model, signature), signature)
                alone = model.predict(rows_for(model, signature, slice(2, 3)), signature)
                for name in whole:
                    if whole[name].dtype == object:
                        width = alone[name].shape[1:]
                        first = whole[name][2:3, : width[0]] if width else whole[name][2:3]
                        assert alone[name].tolist() == first.tolist()
                        continue
                    np.testing.assert_allclose(
                        alone[name], whole[name][2:3], rtol=1e-12, atol=1e-13
                    )
                nothing = {
                    name: np.array(value, dtype=object if _text(value) else None)[:0]
                    for name, value in rows_for(model, signature).items()
                }
                none = model.predict(nothing, signature)
                assert all(len(each) == 0 for each in none.values())


class TestOddRows:
    """What Spark made of rows that many stages refuse; recorded by ``make spark-parity`` alone."""

    @pytest.mark.skipif(not (MODELS / "odd_rows.json").is_file(), reason="see make spark-parity")
    @pytest.mark.parametrize("case", CASES)
    def test_are_answered_or_refused_as_by_spark(self, case: str) -> None:
        rows = json.loads((MODELS / "odd_rows.json").read_text(encoding="utf-8"))
        wanted = json.loads((MODELS / case / "odd.json").read_text(encoding="utf-8"))
        wrong = []
        with martlet.load(MODELS / case / "model") as model:
            inputs = model.signatures["columns"].inputs
            for i, expected in enumerate(wanted):
                if (case, i) in NULL_IS_NAN | IN_ANOTHER_ORDER:
                    continue
                asked = {name: [given(rows[name][i], spec)] for name, spec in inputs.items()}
                try:
                    found = model.predict(asked, "columns")
                except InvalidInput as exc:
                    if expected is not None:
                        wrong.append(f"row {i} is refused: {exc}")
                    continue
                if expected is None:
                    # What Spark drops, or fails on, may answer missing values, and nothing else.
                    lost = [n for n, v in found.items() if missing(v)]
                    if not lost:
                        wrong.append(f"row {i} is answered, where Spark refuses it")
                    continue
                wrong += [
                    f"row {i}: {name} is {found[name].tolist()}, not {value}"
                    for name, value in expected.items()
                    if not same(found[name], [value])
                ]
        assert not wrong


# A tensor does not tell a null from NaN: both are missing here.
NULL_IS_NAN = {("buckets", 4), ("buckets", 5), ("hasher", 4), ("isotonic", 4)}
# Where sums of infinities of both signs end depends on the order that a transform adds them in.
IN_ANOTHER_ORDER = {("vector_shapes", 9)}


class TestSql:
    """Three-valued logic, as the SQL standard and Spark's reference on NULL have it."""

    @pytest.mark.parametrize(
        ("expression", "expected"),
        [
            ("a NOT IN (1, 2)", [0.0, 1.0, math.nan]),
            ("a NOT BETWEEN 2 AND 5", [1.0, 0.0, math.nan]),
            ("NOT NOT (a > 1)", [0.0, 1.0, math.nan]),
            ("a IS NOT NULL", [1.0, 1.0, 0.0]),
            ("CAST(a > 1 AS boolean)", [0.0, 1.0, math.nan]),
            ("a > 1 AND a IS NULL", [0.0, 0.0, math.nan]),
            ("a > 1 OR a IS NULL", [0.0, 1.0, 1.0]),
            ("a <=> NULL", [0.0, 0.0, 1.0]),
        ],
    )
    def test_null_is_neither(self, expression: str, expected: list[float]) -> None:
        statement = f"SELECT {expression} AS found FROM __THIS__"
        stages = select("sql", statement, lambda name: Port(name, Kind.NUMBER)).stages
        rows = {"a": np.array([1.0, 3.0, math.nan])}
        np.testing.assert_array_equal(Plan("sql", stages).predict(rows)["found"], expected)

    @pytest.mark.parametrize(
        ("kind", "expected"),
        [
            ("int", [2147483647.0, -2147483648.0, 3.0, math.nan]),
            ("bigint", [2.0**63, -(2.0**63), 3.0, math.nan]),
            ("tinyint", [-1.0, 0.0, 3.0, math.nan]),
            ("float", [math.inf, -1e12, float(np.float32(3.7)), math.nan]),
        ],
    )
    def test_casts_hold_what_the_jvm_holds(self, kind: str, expected: list[float]) -> None:
        statement = f"SELECT CAST(a AS {kind}) AS found FROM __THIS__"
        stages = select("sql", statement, lambda name: Port(name, Kind.NUMBER)).stages
        rows = {"a": np.array([math.inf, -math.inf if kind != "float" else -1e12, 3.7, math.nan])}
        found = Plan("sql", stages).predict(rows)["found"]
        np.testing.assert_allclose(found, expected, rtol=1e-7 if kind == "float" else 0)


class TestTheSignature:
    def test_asks_for_raw_columns_and_answers_what_the_model_and_its_indexers_give(self) -> None:
        model = martlet.load(FIXTURES / "ctr" / "model")
        default, lean = model.signatures["serving_default"], model.signatures["prediction"]
        assert {name: str(spec) for name, spec in default.inputs.items()} == {
            "city": "string [-1]",
            "device": "string [-1]",
            "zone": "string [-1]",
            "age": "float64 [-1]",
            "price": "float64 [-1]",
            "count": "float64 [-1]",
        }
        assert list(lean.outputs) == ["rawPrediction", "probability", "prediction"]
        assert list(default.outputs) == [*lean.outputs, "city_i", "device_i", "zone_i"]

    def test_a_category_learnt_from_numbers_is_found_by_number_and_by_text(self) -> None:
        model = martlet.load(FIXTURES / "index_and_back" / "model")
        rows = rows_for(model, "columns", slice(0, 2))
        found = [
            model.predict({**rows, "zone": zone}, "columns")["zone_i"].tolist()
            for zone in ([1005, 12], ["1005", "12"], np.array([1005.0, 12.0]), [b"1005", b"12"])
        ]
        assert found[0] == found[1] == found[2] == found[3]

    def test_numbers_of_an_assembler_are_told_from_vectors_by_the_width_the_model_wants(
        self,
    ) -> None:
        model = martlet.load(FIXTURES / "minhash" / "model")
        assert str(model.signatures["serving_default"].inputs["bits"]) == "float64 of any shape"


class TestValuesThatAModelHasNotSeen:
    def test_are_kept_apart_refused_or_dropped_as_the_stage_says(self, tmp_path: Path) -> None:
        rows = {"city": ["oslo", "atlantis"], "age": [30.0, 40.0]}
        for way, second in (("keep", 4.0), ("skip", math.nan)):
            model = martlet.load(_with_invalid(tmp_path / way, way))
            index = model.predict({"city": rows["city"]})["city_i"]
            assert index[0] == 0.0
            assert index[1] == second or (math.isnan(second) and math.isnan(index[1]))
        model = martlet.load(_with_invalid(tmp_path / "error", "error"))
        with pytest.raises(InvalidInput, match=r"StringIndexerModel .*'city' holds 'atlantis'"):
            model.predict({"city": rows["city"]})

    def test_an_id_that_als_did_not_train_answers_nan(self) -> None:
        model = martlet.load(FIXTURES / "als_drop" / "model")
        found = model.predict({"user": [0, 10_000], "item": [0, 0]})["prediction"]
        assert not math.isnan(found[0])
        assert math.isnan(found[1])


def _with_invalid(target: Path, way: str) -> Path:
    stage = next((FIXTURES / "target_encoder" / "model" / "stages").glob("0_*"))
    shutil.copytree(stage, target)
    part = next((target / "metadata").iterdir())
    part.write_text(part.read_text().replace('"handleInvalid":"keep"', f'"handleInvalid":"{way}"'))
    return target


def truncate(model: Path) -> None:
    part = next(model.rglob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-40])


def flip(model: Path) -> None:
    part = next(model.rglob("*.parquet"))
    data = bytearray(part.read_bytes())
    for i in range(len(data) // 2, len(data) - 8, 7):
        data[i] ^= 0xA5
    part.write_bytes(bytes(data))


def edit(old: str, new: str) -> Callable[[Path], None]:
    def run(model: Path) -> None:
        for part in model.rglob("metadata/part-*"):
            part.write_text(part.read_text().replace(old, new))

    return run


def nest(model: Path) -> None:
    part = next((model / "metadata").iterdir())
    part.write_text('{"class":"org.apache.spark.ml.PipelineModel","paramMap":' + "[" * 200_000)


def empty_data(model: Path) -> None:
    shutil.rmtree(next(model.glob("stages/*LogisticRegression*/data")))


class TestBrokenFiles:
    @pytest.mark.parametrize(
        ("spoil", "says"),
        [
            (truncate, "Parquet"),
            (flip, "Parquet|does not hold"),
            (nest, "JSON"),
            (empty_data, "missing"),
            (edit("StringIndexerModel", "MagicModel"), "MagicModel is not supported"),
            (edit("org.apache.spark.ml.feature.StringIndexerModel", "com.acme.Stage"), "com.acme"),
            (edit("OneHotEncoder_", "../../etc/"), "no folder for the stage"),
            (edit('"inputCol":', '"inputCool":'), "inputCol"),
            (edit('"handleInvalid":"keep"', '"handleInvalid":"maybe"'), "maybe"),
        ],
        ids=lambda each: getattr(each, "__name__", "") if callable(each) else str(each),
    )
    def test_are_refused_in_a_sentence(
        self, tmp_path: Path, spoil: Callable[[Path], None], says: str
    ) -> None:
        model = tmp_path / "model"
        shutil.copytree(FIXTURES / "ctr" / "model", model)
        spoil(model)
        with pytest.raises(UnsupportedModel, match=says):
            martlet.load(model)

    def test_a_tree_that_points_back_is_refused(self, tmp_path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        model = tmp_path / "model"
        shutil.copytree(FIXTURES / "tree_class" / "model", model)
        part = next(model.glob("stages/3_*/data/part-*"))
        rows = pq.read_table(part).to_pylist()
        for row in rows:
            if row["leftChild"] > 0:
                row["leftChild"] = 0
        pq.write_table(pa.Table.from_pylist(rows), part)
        with pytest.raises(UnsupportedModel, match="point to node 0"):
            martlet.load(model)


class TestWhatSparkKeepsToItself:
    def test_labels_learnt_from_decimals_are_found_by_their_numbers(self) -> None:
        """Spark's text of a DecimalType(10, 2) ends in zeros; text of people's own may too."""
        assert label_table(["7.50", "-0.10"])[7.5] == 0.0
        assert 7.5 not in label_table(["7.50", "other"])

    @pytest.mark.parametrize(
        ("spark", "width", "kept"),
        [((3, 5), 2, "SDD"), ((3, 5), 5, "SSSDDD"), ((4, 1), 2, "DDD"), ((4, 1), 5, "SSDDDD")],
    )
    def test_which_rows_an_assembler_keeps_sparse(
        self, spark: tuple[int, int], width: int, kept: str
    ) -> None:
        """As pyspark 3.5.9 and 4.1.4 do with 0, 1, 2 ... numbers that are not 0."""
        found = kept_sparse(np.arange(width + 1), width, spark)
        assert "".join(np.where(found, "S", "D").tolist()) == kept


class TestNumbersForText:
    """An input that takes categories takes them as text or as numbers, over REST too."""

    DOCUMENT: ClassVar[dict[str, Any]] = {
        "instances": [
            {"city": "oslo", "device": "phone", "zone": zone, "age": 30.0, "price": 9.5, "count": 2}
            for zone in (1005, "1005", 1005.0)
        ]
    }

    def test_answer_alike(self) -> None:
        model = martlet.load(FIXTURES / "ctr" / "model")
        decoder = PredictDecoder(model.signatures["serving_default"], "serving_default")
        inputs, by_row = decoder.decode(self.DOCUMENT)
        assert by_row
        found = model.predict(inputs)["zone_i"].tolist()
        assert found[0] == found[1] == found[2] < 4

    def test_are_refused_where_only_text_is_taken(self) -> None:
        model = martlet.load(FIXTURES / "text_counts" / "model")
        decoder = PredictDecoder(model.signatures["serving_default"], "serving_default")
        with pytest.raises(InvalidInput):
            decoder.decode({"instances": [{"text": 7}]})
