"""What a call through martlet costs beside the format's own library, in one run, one thread each.

python benchmarks/formats/hosted.py [--only lightgbm,onnx] [--seconds 0.6]

Each pair of calls takes turns, and the best round of each counts: other work on the machine
disturbs both alike. martlet's figure includes the check of the inputs.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from machine import machine, turns

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
warnings.simplefilter("ignore")

import numpy as np  # noqa: E402

import martlet  # noqa: E402

FEATURES, TREES = 30, 100
COUNTS = (1, 200, 10_000)
DICE = np.random.default_rng(0)
X = DICE.normal(size=(10_000, FEATURES))
LABEL = (X[:, 0] + X[:, 1] * X[:, 2] > 0).astype(int)

Call = Callable[[np.ndarray], Any]
Pair = tuple[Path, Call, Callable[[np.ndarray], dict[str, np.ndarray]], bool]


def matrix(rows: np.ndarray) -> dict[str, np.ndarray]:
    return {"X": rows}


def lightgbm(folder: Path) -> Pair:
    import lightgbm

    parameters = {"objective": "binary", "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(parameters, lightgbm.Dataset(X, LABEL), TREES)
    booster.save_model(folder / "m.txt")
    own = lightgbm.Booster(model_file=folder / "m.txt")
    return folder / "m.txt", lambda rows: own.predict(rows, num_threads=1), matrix, False


def xgboost(folder: Path) -> Pair:
    import xgboost

    booster = xgboost.train(
        {"objective": "binary:logistic", "nthread": 1}, xgboost.DMatrix(X, LABEL), TREES
    )
    booster.save_model(folder / "m.ubj")
    own = xgboost.Booster({"nthread": 1}, model_file=folder / "m.ubj")
    return folder / "m.ubj", own.inplace_predict, matrix, False


def catboost(folder: Path) -> Pair:
    import catboost

    model = catboost.CatBoostClassifier(
        iterations=TREES, verbose=False, allow_writing_files=False, thread_count=1
    ).fit(X, LABEL)
    model.save_model(str(folder / "m.cbm"))
    return (
        folder / "m.cbm",
        lambda rows: model.predict(rows, prediction_type="Probability", thread_count=1),
        matrix,
        False,
    )


def categories(folder: Path) -> Pair:
    """CatBoost, a third of the features categories; its rows are ready as it likes them."""
    import catboost

    chosen = DICE.integers(0, 50, size=(len(X), FEATURES // 3))
    table = X.astype(object)
    table[:, -chosen.shape[1] :] = np.array([f"word {n}" for n in range(50)], object)[chosen]
    words = list(range(FEATURES - chosen.shape[1], FEATURES))
    model = catboost.CatBoostClassifier(
        iterations=TREES, verbose=False, allow_writing_files=False, thread_count=1
    ).fit(catboost.Pool(table, LABEL ^ (chosen[:, 0] > 40), words))
    model.save_model(str(folder / "m.cbm"))
    ready = {count: table[:count].copy() for count in COUNTS}

    def columns(rows: np.ndarray) -> dict[str, np.ndarray]:
        numbers = {str(at): rows[:, at].copy() for at in range(words[0])}
        return numbers | {str(at): table[: len(rows), at].copy() for at in words}

    return (
        folder / "m.cbm",
        lambda column: model.predict(
            ready[len(column)], prediction_type="Probability", thread_count=1
        ),
        columns,
        False,
    )


def _boosted() -> Any:
    from sklearn.ensemble import GradientBoostingClassifier

    return GradientBoostingClassifier(n_estimators=TREES)


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression())


def _machine() -> Any:
    from sklearn.svm import SVC

    return SVC(probability=True)


def _regression() -> Any:
    from sklearn.svm import SVR

    return SVR()


def _vote() -> Any:
    from sklearn.ensemble import VotingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB

    pair = [("linear", LogisticRegression()), ("bayes", GaussianNB())]
    return VotingClassifier(pair, voting="soft")


def _bayes() -> Any:
    from sklearn.naive_bayes import GaussianNB

    return GaussianNB()


def _sklearn(
    kind: str, unfitted: Callable[[], Any] = _boosted, both: bool = False
) -> Callable[[Path], Pair]:
    """
    One call of scikit-learn's beside martlet's, which predicts and scores.

    Args:
        both: Two of scikit-learn's, where its scores do not say what it predicts.
    """

    def make(folder: Path) -> Pair:
        model = unfitted().fit(X[:2000], LABEL[:2000])
        scores = getattr(model, "predict_proba", model.predict)
        own = (lambda rows: (model.predict(rows), scores(rows))) if both else scores
        return _saved(model, folder, kind), own, matrix, kind != "skops"

    return make


def _saved(model: Any, folder: Path, kind: str) -> Path:
    import joblib
    import skops.io

    path = folder / f"m.{kind}"
    (skops.io if kind == "skops" else joblib).dump(model, path)
    return path


def _columns(kind: str) -> Callable[[Path], Pair]:
    """Named columns, numbers and text; scikit-learn's data frames are ready."""

    def make(folder: Path) -> Pair:
        import pandas
        from sklearn.compose import make_column_transformer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        words = np.array(["north", "south", "west"], object)[DICE.integers(0, 3, size=len(X))]
        numbers = {f"x{at}": X[:, at] for at in range(6)}
        table = pandas.DataFrame(numbers | {"region": words})
        columns = make_column_transformer(
            (StandardScaler(), list(numbers)), (OneHotEncoder(), ["region"])
        )
        model = make_pipeline(columns, LogisticRegression()).fit(table[:2000], LABEL[:2000])
        ready = {count: table[:count].copy() for count in COUNTS}

        def given(rows: np.ndarray) -> dict[str, np.ndarray]:
            found = {name: column[: len(rows)].copy() for name, column in numbers.items()}
            return found | {"region": words[: len(rows)].copy()}

        path = _saved(model, folder, kind)
        return path, lambda rows: model.predict_proba(ready[len(rows)]), given, kind != "skops"

    return make


def onnx(folder: Path) -> Pair:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    sizes = [FEATURES, 128, 64, 1]
    nodes, weights, last = [], [], "x"
    for i, (before, after) in enumerate(pairwise(sizes)):
        weight = DICE.normal(size=(before, after)).astype(np.float32) / before**0.5
        weights.append(numpy_helper.from_array(weight, f"w{i}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{i}"], [f"h{i}"]))
        nodes.append(helper.make_node("Sigmoid" if after == 1 else "Relu", [f"h{i}"], [f"y{i}"]))
        last = f"y{i}"
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["n", 1])],
        weights,
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "m.onnx")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    own = onnxruntime.InferenceSession(folder / "m.onnx", settings)
    return (
        folder / "m.onnx",
        lambda rows: own.run(None, {"x": rows}),
        lambda rows: {"x": rows.astype(np.float32)},
        False,
    )


def _torch(kind: str) -> Callable[[Path], Pair]:
    def make(folder: Path) -> Pair:
        import torch

        torch.set_num_threads(1)
        net = torch.nn.Sequential(
            *(torch.nn.Linear(FEATURES, 128), torch.nn.ReLU()),
            *(torch.nn.Linear(128, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1)),
        ).eval()
        path = folder / f"m.{kind}"
        if kind == "pt2":
            shapes = {"input": {0: torch.export.Dim("rows")}}
            program = torch.export.export(net, (torch.zeros(2, FEATURES),), dynamic_shapes=shapes)
            torch.export.save(program, path)
            own: Any = torch.export.load(path).module()
        else:
            torch.jit.script(net).save(str(path))
            own = torch.jit.load(str(path)).eval()

        def call(rows: np.ndarray) -> Any:
            with torch.inference_mode():
                return own(torch.from_numpy(rows)).numpy()

        return path, call, lambda rows: {"input": rows.astype(np.float32)}, False

    return make


def _network() -> Any:
    import keras

    return keras.Sequential(
        [
            keras.Input((FEATURES,), name="x"),
            *(keras.layers.Dense(128, "relu"), keras.layers.Dense(64, "relu")),
            keras.layers.Dense(1, "sigmoid", name="y"),
        ]
    )


def keras(folder: Path) -> Pair:
    import tensorflow as tf

    net = _network()
    net.save(folder / "m.keras")
    own = tf.function(net, input_signature=[tf.TensorSpec((None, FEATURES))])
    return (
        folder / "m.keras",
        lambda rows: own(rows).numpy(),
        lambda rows: {"x": rows.astype(np.float32)},
        False,
    )


def tflite(folder: Path) -> Pair:
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    path = folder / "m.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(_network()).convert())
    own = Interpreter(model_path=str(path), num_threads=1).get_signature_runner()
    (name,) = own.get_input_details()
    return (
        path,
        lambda rows: own(**{name: rows}),
        lambda rows: {name: rows.astype(np.float32)},
        False,
    )


FORMATS: dict[str, Callable[[Path], Pair]] = {
    "lightgbm": lightgbm,
    "xgboost": xgboost,
    "catboost": catboost,
    "categories of catboost": categories,
    "sklearn skops": _sklearn("skops"),
    "sklearn joblib, isolated": _sklearn("joblib"),
    "logistic skops": _sklearn("skops", _logistic),
    "logistic joblib, isolated": _sklearn("joblib", _logistic),
    "svc joblib, isolated": _sklearn("joblib", _machine, both=True),
    "svr joblib, isolated": _sklearn("joblib", _regression),
    "vote joblib, isolated": _sklearn("joblib", _vote),
    "bayes joblib, isolated": _sklearn("joblib", _bayes),
    "columns skops": _columns("skops"),
    "columns joblib, isolated": _columns("joblib"),
    "onnx": onnx,
    "torchscript": _torch("pt"),
    "torch export": _torch("pt2"),
    "keras": keras,
    "tflite": tflite,
}


def hop(seconds: float) -> float:
    """The least that a byte to another process and one back take, in microseconds."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        while theirs.recv(16):
            theirs.sendall(b"0123456789abcdef")
        os._exit(0)
    theirs.close()

    def there_and_back() -> None:
        ours.sendall(b"0123456789abcdef")
        ours.recv(16)

    (best,) = turns([there_and_back], seconds)
    ours.close()
    os.waitpid(child, 0)
    return best


def lines(names: list[str], seconds: float) -> Iterator[str]:
    yield f"{'format':26}{'rows':>7}{'library us':>12}{'martlet us':>12}{'more':>9}"
    if any("isolated" in name for name in names):
        yield f"{'a hop to a process and back':26}{hop(seconds):19.1f}"
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            path, own, inputs, trusted = FORMATS[name](Path(folder))
            with martlet.load(path, trusted=trusted) as model:
                for count in COUNTS:
                    given = inputs(X[:count].copy())
                    rows = next(iter(given.values()))
                    calls = [partial(own, rows), partial(model.predict, given)]
                    library, ours = turns(calls, seconds)
                    more = ours - library
                    yield f"{name:26}{count:7}{library:12.1f}{ours:12.1f}{more:+9.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(FORMATS))
    parser.add_argument("--seconds", type=float, default=0.6, help="for each pair of calls")
    arguments = parser.parse_args()
    print(machine())
    names = [n for n in FORMATS if any(n.startswith(o) for o in arguments.only.split(","))]
    for line in lines(names, arguments.seconds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
