"""Train what the PMML benchmark scores, and export each model as PMML and, where it can be, ONNX.

python benchmarks/pmml/models.py FOLDER    (needs Java, for sklearn2pmml's exporters)
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder, StandardScaler
from sklearn2pmml import PMMLPipeline, sklearn2pmml
from sklearn2pmml.feature_extraction.text import Splitter
from sklearn2pmml.preprocessing import ExpressionTransformer
from sklearn2pmml.util import Reshaper
from xgboost import XGBClassifier

ROWS, FIELDS, TREES = 20_000, 40, 200
WORDS = [f"{a}{b}{c}" for a in "bdfklm" for b in ("an", "el", "ir", "os", "um") for c in "aeiouty"]


def numbers(rng: np.random.Generator) -> tuple[pd.DataFrame, Any]:
    x = rng.normal(size=(ROWS, FIELDS)).astype(np.float32).astype(np.float64)
    y = (x[:, :8].sum(1) + np.sin(x[:, 8] * 3) + x[:, 9] * x[:, 10] > 0).astype(int)
    return pd.DataFrame(x, columns=[f"f{i}" for i in range(FIELDS)]), y


def mixed(rng: np.random.Generator) -> tuple[pd.DataFrame, Any]:
    frame, y = numbers(rng)
    for i in range(FIELDS // 2, FIELDS):
        frame[f"f{i}"] = np.array([f"level{k}" for k in range(10)])[rng.integers(0, 10, ROWS)]
    return frame, y


def texts(rng: np.random.Generator) -> tuple[pd.DataFrame, Any]:
    drawn = np.array(WORDS)[rng.zipf(1.3, size=(5000, 40)) % len(WORDS)]
    text = pd.Series([" ".join(row[: rng.integers(8, 40)]) for row in drawn], name="review")
    return text.to_frame(), (text.str.contains("bana") | text.str.contains("kelo")).to_numpy(int)


def lightgbm() -> LGBMClassifier:
    return LGBMClassifier(n_estimators=TREES, num_leaves=63, n_jobs=1, verbose=-1)


def by_column(frame: pd.DataFrame) -> ColumnTransformer:
    kinds = frame.dtypes == np.float64
    return ColumnTransformer(
        [
            ("numbers", StandardScaler(), list(frame.columns[kinds])),
            ("levels", OneHotEncoder(), list(frame.columns[~kinds])),
        ]
    )


def words() -> ColumnTransformer:
    found = TfidfVectorizer(tokenizer=Splitter(), token_pattern=None, norm=None)
    return ColumnTransformer([("review", found, "review")])


def expression(text: str) -> Pipeline:
    column = ExpressionTransformer(text, dtype=np.float64)
    return Pipeline(
        [
            ("fill", SimpleImputer()),
            ("expression", column),
            ("column", Reshaper((-1, 1))),
            ("scale", StandardScaler()),
        ]
    )


def transformed(frame: pd.DataFrame) -> ColumnTransformer:
    names = list(frame.columns)
    steps: list[tuple[str, Any, Any]] = []
    # The exporter names a field by its expression, so each needs one of its own.
    for i, name in enumerate(names[:10], 1):
        steps.append((f"log {name}", expression(f"numpy.log({i} + X[0] * X[0])"), [name]))
    steps.append(("bins", KBinsDiscretizer(6, quantile_method="linear"), names[10:20]))
    for i, (one, two) in enumerate(zip(names[20:30], names[30:40], strict=True), 1):
        ratio = f"X[0] / ({i} + abs(X[1])) if X[1] > 0 else X[0] - X[1]"
        steps.append((f"of {one}", expression(ratio), [one, two]))
    return ColumnTransformer(steps)


MODELS: dict[str, tuple[Callable[..., Any], Callable[..., list[tuple[str, Any]]]]] = {
    "lightgbm": (numbers, lambda _: [("model", lightgbm())]),
    "xgboost": (
        numbers,
        lambda _: [("model", XGBClassifier(n_estimators=TREES, max_depth=6, n_jobs=1))],
    ),
    "random forest": (
        numbers,
        lambda _: [("model", RandomForestClassifier(TREES, max_depth=8, random_state=0))],
    ),
    "extra trees": (
        numbers,
        lambda _: [("model", ExtraTreesClassifier(TREES, max_depth=8, random_state=0))],
    ),
    # Some 50 MB of PMML: what it takes to load.
    "large forest": (
        numbers,
        lambda _: [("model", RandomForestClassifier(TREES, min_samples_leaf=8, random_state=0))],
    ),
    "logistic": (numbers, lambda _: [("model", LogisticRegression(max_iter=500))]),
    "mixed": (
        mixed,
        lambda frame: [("columns", by_column(frame)), ("model", LogisticRegression(max_iter=500))],
    ),
    "transformed": (
        numbers,
        lambda frame: [
            ("columns", transformed(frame)),
            ("model", LogisticRegression(max_iter=500)),
        ],
    ),
    "text": (
        texts,
        lambda _: [
            ("words", words()),
            ("model", LogisticRegression(max_iter=500)),
        ],
    ),
}


def to_onnx(name: str, pipeline: Pipeline) -> bytes | None:
    """Return the model as ONNX; None where its converters have no way."""
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
    from skl2onnx import to_onnx as convert
    from skl2onnx import update_registered_converter
    from skl2onnx.common.data_types import FloatTensorType
    from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes

    if name not in ("lightgbm", "xgboost", "random forest", "extra trees", "logistic"):
        return None
    for kind, converter in ((LGBMClassifier, convert_lightgbm), (XGBClassifier, convert_xgboost)):
        update_registered_converter(
            kind, kind.__name__, calculate_linear_classifier_output_shapes, converter,
            options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
        )  # fmt: skip
    model = pipeline.steps[-1][1]
    made = convert(
        model,
        initial_types=[("x", FloatTensorType([None, FIELDS]))],
        options={id(model): {"zipmap": False}},
        target_opset={"": 17, "ai.onnx.ml": 3},
    )
    content: bytes = made.SerializeToString()
    return content


def make(folder: Path) -> Iterator[str]:
    for name, (data, steps) in MODELS.items():
        if (folder / f"{name.replace(' ', '-')}.pkl").exists():
            continue
        x, y = data(np.random.default_rng(0))
        pipeline = PMMLPipeline(steps(x))
        pipeline.fit(x, y)
        place = folder / name.replace(" ", "-")
        sklearn2pmml(pipeline, f"{place}.pmml")
        Path(f"{place}.pkl").write_bytes(pickle.dumps((pipeline, x.iloc[:10_000])))
        onnx = to_onnx(name, pipeline)
        if onnx is not None:
            Path(f"{place}.onnx").write_bytes(onnx)
        size = Path(f"{place}.pmml").stat().st_size
        yield f"{name}: {size / 1e6:.1f} MB of PMML{', ONNX' if onnx else ''}"


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for line in make(target):
        print(line, flush=True)
