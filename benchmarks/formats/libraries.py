"""Each format's own library, called as its users call it, one thread: the peers of the benchmarks.

A library opens a file; asked with the inputs that martlet gets, it lays them out in the form that
it likes best, and returns the call that is to be timed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Inputs = Mapping[str, NDArray[Any]]
Ready = Callable[[], Any]
Library = Callable[[Inputs], Ready]


def settle() -> None:
    """Have TensorFlow and PyTorch use one thread; TensorFlow must hear it before its first call."""
    with contextlib.suppress(ImportError):
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    with contextlib.suppress(ImportError):
        import torch

        torch.set_num_threads(1)


def matrix(given: Inputs) -> NDArray[Any]:
    """Return the rows as one matrix: of numbers, or of objects where a column is text."""
    values = list(given.values())
    if len(values) == 1 and values[0].ndim == 2:
        return values[0]
    kind = object if any(each.dtype == object for each in values) else np.float64
    return np.column_stack([each.astype(kind) for each in values])


def lightgbm(path: Path) -> Library:
    import lightgbm

    booster = lightgbm.Booster(model_file=path)
    return lambda given: partial(booster.predict, _categorical(given, booster), num_threads=1)


def _categorical(given: Inputs, booster: Any) -> Any:
    if not booster.pandas_categorical:
        return matrix(given)
    import pandas

    known = iter(booster.pandas_categorical)
    frame = pandas.DataFrame(dict(given))
    for name, values in given.items():
        if values.dtype == object:
            frame[name] = pandas.Categorical(frame[name], next(known))
    return frame


def xgboost(path: Path) -> Library:
    import xgboost

    content = bytearray(path.read_bytes())
    booster = xgboost.Booster({"nthread": 1, "verbosity": 0}, model_file=content)
    return lambda given: partial(booster.inplace_predict, matrix(given), validate_features=False)


def catboost(path: Path) -> Library:
    import catboost

    model = catboost.CatBoost()
    model.load_model(str(path), format="json" if path.suffix == ".json" else "cbm")
    return lambda given: partial(model.predict, matrix(given), thread_count=1)


def sklearn(path: Path) -> Library:
    if path.suffix == ".skops":
        import skops.io

        model = skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))
    else:
        import joblib

        model = joblib.load(path)
    return partial(_estimated, model)


def _estimated(model: Any, given: Inputs) -> Ready:
    import pandas

    named = hasattr(model, "feature_names_in_")
    rows = pandas.DataFrame(dict(given)) if named and "X" not in given else matrix(given)
    if not hasattr(model, "predict_proba") and hasattr(model, "decision_function"):
        return lambda: (model.predict(rows), model.decision_function(rows))
    return partial(getattr(model, "predict_proba", model.predict), rows)


def mlflow(path: Path) -> Library:
    import mlflow.pyfunc
    import pandas

    model = mlflow.pyfunc.load_model(str(path))
    return lambda given: partial(model.predict, pandas.DataFrame(dict(given)))


def onnx(path: Path) -> Library:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, settings)
    ends = [*session.get_inputs(), *session.get_outputs()]
    one = all(end.shape[:1] == [1] for end in ends)

    def ready(given: Inputs) -> Ready:
        count = len(next(iter(given.values())))
        if not one or count == 1:
            return lambda: session.run(None, given)
        rows = [{n: v[i : i + 1] for n, v in given.items()} for i in range(count)]
        return lambda: [session.run(None, row) for row in rows]

    return ready


def torchscript(path: Path) -> Library:
    import torch

    # As saved: PyTorch's freezing changes what some modules answer.
    return partial(_module, torch.jit.load(str(path)).eval())


def torch_export(path: Path) -> Library:
    import torch

    return partial(_module, torch.export.load(path).module())


def _module(module: Any, given: Inputs) -> Ready:
    import torch

    values = list(given.values())

    def call() -> Any:
        with torch.inference_mode():
            found = module(*map(torch.from_numpy, values))
        return found.numpy() if isinstance(found, torch.Tensor) else [f.numpy() for f in found]

    return call


def keras(path: Path) -> Library:
    import keras
    import tensorflow as tf

    net = keras.models.load_model(path, compile=False)
    call = tf.function(lambda values: net(values, training=False))

    def ready(given: Inputs) -> Ready:
        values = [given[tensor.name] for tensor in net.inputs]
        if len(values) == 1:
            (values,) = values
        return lambda: tf.nest.map_structure(np.asarray, call(values))

    return ready


def savedmodel(path: Path) -> Library:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    call = loaded.signatures["serving_default"]

    def ready(given: Inputs) -> Ready:
        tensors = {name: tf.constant(value) for name, value in given.items()}
        return lambda: (loaded, {n: v.numpy() for n, v in call(**tensors).items()})[1]

    return ready


def tflite(path: Path) -> Library:
    from ai_edge_litert.interpreter import Interpreter

    content = path.read_bytes()

    def ready(given: Inputs) -> Ready:
        own = Interpreter(model_content=content, num_threads=1)
        places = {each["name"]: each["index"] for each in own.get_input_details()}
        if not places.keys() >= given.keys():
            runner = own.get_signature_runner()
            return lambda: runner(**given)
        for name, value in given.items():
            own.resize_tensor_input(places[name], value.shape)
        own.allocate_tensors()
        outputs = [each["index"] for each in own.get_output_details()]

        def call() -> Any:
            for name, value in given.items():
                own.set_tensor(places[name], value)
            own.invoke()
            return list(map(own.get_tensor, outputs))

        return call

    return ready


LIBRARIES: dict[str, Callable[[Path], Library]] = {
    "lightgbm": lightgbm,
    "xgboost": xgboost,
    "catboost": catboost,
    "sklearn": sklearn,
    "mlflow": mlflow,
    "onnx": onnx,
    "torchscript": torchscript,
    "torch_export": torch_export,
    "keras": keras,
    "savedmodel": savedmodel,
    "tflite": tflite,
}
