"""Pipelines of Spark as ONNX: the answers that Spark itself gave, and no stage passed over."""

from __future__ import annotations

import json
import math
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from martlet import formats
from martlet.certificate import Limits
from martlet.convert.parity.converted import Renamed, converted
from martlet.convert.parity.judge import judging
from martlet.errors import InvalidInput, UnsupportedModel
from martlet.tensors import DType

pytest.importorskip("pyarrow", reason="the extra martlet[spark] is not installed")
onnx = pytest.importorskip("onnx", reason="the extra martlet[convert] is not installed")

from martlet.convert.to_onnx.pipeline import from_pipeline  # noqa: E402
from martlet.convert.to_onnx.task import Task  # noqa: E402

MODELS = Path(__file__).resolve().parents[2] / "fixtures" / "spark"
CASES = sorted(path.parent.name for path in MODELS.glob("*/expected.json"))
REFUSED = {
    "buckets": "may be a number, or a vector",
    "isotonic": "may be a number, or a vector",
    "bisecting": "BisectingKMeansModel",
    "by_name": "may be a number, or a vector",
    "crossed_vectors": "VectorIndexerModel",
    "glm_binomial_probit": "probit",
    "hasher": "FeatureHasher",
    "kmeans_cosine": "may be a number, or a vector",
    "lsh": "BucketedRandomProjectionLSHModel",
    "minhash": "may be a number, or a vector",
    "mixture": "GaussianMixtureModel",
    "rformula": "Interaction",
    "sql": "SQLTransformer",
    "sql_spelling": "SQLTransformer",
    "survival": "formula",
    "target_encoder": "TargetEncoderModel",
    "text_counts": "Tokenizer",
    "text_hash": "RegexTokenizer",
    "vector_shapes": "may be a number, or a vector",
}
"""What has no exact counterpart in ONNX, and the word by which it is refused."""


def made(case: str, target: Path) -> Path:
    with judging(MODELS / case / "model", strict=True) as judge:
        task = Task(judge.path, judge.domain.name, judge.domain.signature, {})
        onnx.save(from_pipeline(task), target)
        candidate = Renamed(formats.load(target), "serving_default", judge.domain.name)
        found = judge.certify("convert", candidate, target, Limits())
    assert found.passed, found.faults
    return target


def rows_for(model) -> dict[str, Any]:
    rows = json.loads((MODELS / "rows.json").read_text(encoding="utf-8"))
    inputs = model.signatures["serving_default"].inputs
    return {
        name: np.array([str(each) for each in rows[name]], object)
        if spec.dtype is DType.STRING
        else spec.check(np.array(rows[name]))
        for name, spec in inputs.items()
    }


def numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [numbers(each) for each in value]
    special = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    return special.get(value, value) if isinstance(value, str) else value


@pytest.mark.parametrize("case", [each for each in CASES if each not in REFUSED])
def test_as_onnx_it_answers_what_spark_did(case, tmp_path):
    with closing(formats.load(made(case, tmp_path / "made.onnx"))) as model:
        found = model.predict(rows_for(model))
    wanted = json.loads((MODELS / case / "expected.json").read_text(encoding="utf-8"))
    compared = [name for name in found if name in wanted]
    assert compared
    for name in compared:
        if found[name].dtype == object:
            assert found[name].tolist() == wanted[name]
            continue
        np.testing.assert_allclose(
            found[name], np.array(numbers(wanted[name])), rtol=1e-6, atol=1e-9
        )


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_what_has_no_exact_counterpart_is_refused_by_name(case, tmp_path):
    with pytest.raises(UnsupportedModel, match=REFUSED[case]):
        made(case, tmp_path / "made.onnx")


def test_a_value_that_a_stage_refuses_fails_the_graph_and_is_named(tmp_path):
    with closing(formats.load(made("kmeans", tmp_path / "made.onnx"))) as model:
        rows = {name: value[:2].copy() for name, value in rows_for(model).items()}
        rows["x"][1] = np.nan
        with pytest.raises(InvalidInput, match="refused: a vector is near to nothing"):
            model.predict(rows)


def test_by_the_command_line_it_comes_with_a_certificate(tmp_path):
    found = converted(MODELS / "forest_class" / "model", None, tmp_path / "forest.onnx")
    assert found.passed, found.faults
    assert {"random", "each id", "jump"} <= {each.kind for each in found.comparisons}
