"""The process that converts: ``python -m martlet.convert.to_onnx.child TASK.json``."""

from __future__ import annotations

import importlib
import json
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np

from martlet.convert.to_onnx.task import Task
from martlet.errors import MartletError
from martlet.tensors import Signature, Spec


def main(told: Path) -> None:
    """Do the task in the file *told*, and say in it how that went."""
    task = json.loads(told.read_text(encoding="utf-8"))
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    if most == resource.RLIM_INFINITY or task["cpu_s"] < most:
        resource.setrlimit(resource.RLIMIT_CPU, (task["cpu_s"], most))
    try:
        module, _, function = task["converter"].partition(":")
        convert = getattr(importlib.import_module(module), function)
        inputs, outputs = (list(map(Spec.from_json, task[side])) for side in ("inputs", "outputs"))
        signature = Signature.of(inputs, outputs)
        made = Path(task["made"])
        with np.load(made.with_suffix(".npz")) as arrays:
            sample = dict(arrays)
        path = Path(task["path"])
        _save(convert(Task(path, task["name"], signature, sample, task["trusted"])), made)
        answer: dict[str, object] = {"done": True}
    except ModuleNotFoundError as exc:
        answer = {"error": str(exc), "extra": "convert"}
    except BaseException as exc:  # whatever a converter raises is a reason not to use it
        first = str(exc).strip().partition("\n")[0]
        ours = isinstance(exc, MartletError)  # says what is wrong, not only what went wrong
        answer = {"error": first if ours else f"{type(exc).__name__}: {first}"[:500]}
    told.write_text(json.dumps(answer), encoding="utf-8")


def _save(model: Any, made: Path) -> None:
    import onnx

    # A protobuf holds 2 GiB: what is larger keeps its tables in a file beside it.
    large = model.ByteSize() > 1 << 30
    onnx.save(model, str(made), save_as_external_data=large, location=f"{made.name}.data")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
