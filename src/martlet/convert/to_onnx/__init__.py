"""To ONNX, by the field's converters: in a process of its own, and believed only when certified.

What comes out has the inputs and outputs of the original's signature: the same names, dtypes and
ranks. Whether it gives the same answers is for `martlet.convert.parity` to say.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from martlet.errors import MissingExtra, UnsupportedModel
from martlet.tensors import Signature, Tensors

CONVERTERS: dict[str, str] = {
    "savedmodel": "martlet.convert.to_onnx.tensorflow:from_savedmodel",
    "keras": "martlet.convert.to_onnx.tensorflow:from_keras",
    "torchscript": "martlet.convert.to_onnx.pytorch:from_torchscript",
    "torch_export": "martlet.convert.to_onnx.pytorch:from_export",
    "sklearn": "martlet.convert.to_onnx.scikit:from_sklearn",
    **dict.fromkeys(
        ("lightgbm", "xgboost", "catboost"), "martlet.convert.to_onnx.trees:from_trees"
    ),
    "pmml": "martlet.convert.to_onnx.pmml:from_pmml",
    **dict.fromkeys(("spark", "mleap"), "martlet.convert.to_onnx.pipeline:from_pipeline"),
}
"""Who converts each format, from a ``Task``: it runs in the process of ``child.py``."""

_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Bounds:
    """
    What a conversion may take before its process is ended.

    Args:
        cpu_s: Of processor time, so that a busy machine refuses no model that an idle one converts.
        seconds: By the clock, for one that waits for ever.
        bytes: Of memory, resident.
    """

    cpu_s: int = 120
    seconds: float = 1800.0
    bytes: int = 6 << 30


def can_convert(format: str) -> bool:
    """Whether there is a converter for it, installed or not."""
    return format in CONVERTERS


def to_onnx(
    path: Path,
    format: str,
    name: str,
    signature: Signature,
    made: Path,
    *,
    sample: Tensors,
    trusted: bool = False,
    bounds: Bounds = Bounds(),
) -> Path:
    """
    Convert the signature *name* of the model at *path*, and write it to *made*.

    Args:
        sample: Rows that the model answers: some exporters follow a call.
        trusted: The file may run code that it contains.
        bounds: What it may take.

    Returns *made*, which nobody has yet compared with the original.

    Raises:
        MissingExtra: the converters are not installed.
        UnsupportedModel: there is no converter, or it failed, crashed or took too much; says how.
    """
    if format == "onnx":
        return path / "model.onnx" if path.is_dir() else path
    if format not in CONVERTERS:
        raise UnsupportedModel(f"there is no converter from {format} to ONNX")
    if importlib.util.find_spec("onnx") is None:
        raise MissingExtra("converting to ONNX", "convert")
    task = {
        "converter": CONVERTERS[format],
        "path": str(path.absolute()),
        "name": name,
        "inputs": [spec.to_json() for spec in signature.inputs.values()],
        "outputs": [spec.to_json() for spec in signature.outputs.values()],
        "made": str(made.absolute()),
        "trusted": trusted,
        "cpu_s": bounds.cpu_s,
    }
    numeric = {n: v for n, v in sample.items() if v.dtype.kind != "O"}
    np.savez(made.with_suffix(".npz"), **numeric)  # type: ignore[arg-type]
    _run(task, bounds, made)
    return made


def _run(task: dict[str, object], bounds: Bounds, made: Path) -> None:
    told = made.with_suffix(".json")
    told.write_text(json.dumps(task), encoding="utf-8")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    with made.with_suffix(".log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "martlet.convert.to_onnx.child", str(told)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            why = _watched(child, bounds)
        finally:
            child.kill()
            child.wait()
    if why:
        raise UnsupportedModel(f"its conversion {why}")
    answer = json.loads(told.read_text(encoding="utf-8"))
    if "error" in answer:
        if answer.get("extra"):
            raise MissingExtra("converting to ONNX", str(answer["extra"]))
        raise UnsupportedModel(f"it does not convert: {answer['error']}")
    if child.returncode or not made.is_file():
        raise UnsupportedModel(f"its conversion ended with status {child.returncode}")


def _watched(child: subprocess.Popen[bytes], bounds: Bounds) -> str:
    """Wait for *child*; return why it may not go on, or "" once it has ended."""
    until = time.monotonic() + bounds.seconds
    while child.poll() is None:
        if time.monotonic() > until:
            return f"took longer than {bounds.seconds:g} s"
        # What is resident counts, not what is mapped: TensorFlow reserves far more than it uses.
        if _resident(child.pid) > bounds.bytes:
            return f"took more than {bounds.bytes / (1 << 30):g} GiB of memory"
        try:
            child.wait(_LOOK_S)
        except subprocess.TimeoutExpired:
            continue
    if child.returncode == -signal.SIGXCPU:
        return f"took more than {bounds.cpu_s} s of processor time"
    if child.returncode < 0:
        return f"crashed (signal {-child.returncode})"
    return ""


def _resident(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):  # it has just ended, or this is not Linux
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
