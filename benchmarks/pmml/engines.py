"""One engine, one model: load, score a batch and single records, print the figures as JSON.

python benchmarks/pmml/engines.py ENGINE FOLDER MODEL    (each run is a process of its own)
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from machine import fastest

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd

Call = Callable[[Any], Any]


class Engine:
    """How a model answers: *batch* a prepared batch, *single* a prepared record."""

    def __init__(
        self, batch: Call, single: Call, prepare: Call, record: Call, probability: Call
    ) -> None:
        self.batch, self.single = batch, single
        self.prepare, self.record, self.probability = prepare, record, probability


def frame_of(x: Any) -> pd.DataFrame:
    return x.to_frame() if isinstance(x, pd.Series) else x


def of_martlet(place: Path) -> Engine:
    from martlet.formats import load

    servable = load(place.with_suffix(".pmml"))

    signature = next(iter(servable.signatures.values()))

    def tensors(x: Any) -> dict[str, Any]:
        frame = frame_of(x)
        return {
            name: np.ascontiguousarray(frame[name].to_numpy(spec.dtype.numpy))
            for name, spec in signature.inputs.items()
            if name in frame
        }

    specs = signature.outputs
    column = next(name for name in specs if name in ("probability(1)", "probability_1"))
    return Engine(servable.predict, servable.predict, tensors, tensors, lambda out: out[column])


def of_jpmml(place: Path, *, transpile: bool = False) -> Engine:
    from jpmml_evaluator import make_evaluator
    from jpmml_evaluator.jpype import JPypeBackend

    evaluator = make_evaluator(
        str(place.with_suffix(".pmml")), backend=JPypeBackend(), transpile=transpile
    )
    return Engine(
        evaluator.evaluateAll,
        evaluator.evaluate,
        frame_of,
        lambda x: frame_of(x).iloc[0].to_dict(),
        lambda out: np.asarray(out["probability(1)"], float),
    )


def of_pypmml(place: Path) -> Engine:
    from pypmml import Model

    model = Model.load(str(place.with_suffix(".pmml")))
    return Engine(
        model.predict,
        model.predict,
        frame_of,
        lambda x: frame_of(x).iloc[0].to_dict(),
        lambda out: np.asarray(out["probability(1)"], float),
    )


def of_native(place: Path) -> Engine:
    pipeline, _ = pickle.loads(place.with_suffix(".pkl").read_bytes())

    def predict(x: Any) -> Any:
        return pipeline.predict_proba(x)

    return Engine(predict, predict, lambda x: x, lambda x: x, lambda out: out[:, 1])


def of_onnxruntime(place: Path) -> Engine:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(place.with_suffix(".onnx")), options)

    def predict(x: Any) -> Any:
        return session.run(None, {"x": x})

    def floats(x: Any) -> Any:
        return x.to_numpy(np.float32)

    return Engine(predict, predict, floats, floats, lambda out: out[1][:, 1])


ENGINES: dict[str, Callable[[Path], Engine]] = {
    "martlet": of_martlet,
    "jpmml transpiled": lambda place: of_jpmml(place, transpile=True),
    "jpmml": of_jpmml,
    "pypmml": of_pypmml,
    "native library": of_native,
    "onnxruntime": of_onnxruntime,
}


def measure(engine: Engine, x: Any, expected: Any, seconds: float) -> dict[str, float]:
    rows = engine.prepare(x)
    answer = engine.probability(engine.batch(rows))
    records = [engine.record(x.iloc[i : i + 1]) for i in range(200)]

    def singles() -> None:
        for each in records:
            engine.single(each)

    warm = time.perf_counter() + 2 * seconds  # a JVM compiles what it runs often
    while time.perf_counter() < warm:
        singles()
        engine.batch(rows)
    return {
        "rows_per_s": len(x) / fastest(lambda: engine.batch(rows), seconds),
        "record_us": fastest(singles, seconds) / len(records) * 1e6,
        "off": float(np.nanmax(np.abs(np.asarray(answer, float) - expected))),
        "unanswered": float(np.isnan(np.asarray(answer, float)).mean()),
    }


def main() -> None:
    name, folder, model = sys.argv[1:4]
    seconds = float(sys.argv[4]) if len(sys.argv) > 4 else 3.0
    place = Path(folder) / model
    native, x = pickle.loads(place.with_suffix(".pkl").read_bytes())
    expected = native.predict_proba(x)[:, 1]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    engine = ENGINES[name](place)
    found: dict[str, float] = {"load_s": time.perf_counter() - begun}
    found["load_mb"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    found |= measure(engine, x, expected, seconds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
