"""A format whose models misbehave as their file, or the request, tells them to."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from martlet.errors import UnsupportedModel
from martlet.formats import Format, LoadOptions
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import DType, Signature, Spec, Tensors

NAME, WEIGHTS = "model.faulty", "weights.bin"
RAISE, LOOP, HOLD_GIL, CRASH, SLOW, HANG, BUSY = -1, -2, -3, -4, -5, -6, -7
"""Values of ``x`` that make one call misbehave."""


class Faulty:
    """``score = x + 1000 * version``: an answer tells which version gave it."""

    def __init__(self, told: dict[str, Any], weights: Any = None) -> None:
        self._offset = np.float32(1000 * told["version"])
        self._wait_s = told.get("wait_ms", 0) / 1000
        self._begun = told.get("begun")
        self._wrong_rows = told.get("wrong_rows", False)
        self._ballast = np.ones(told.get("megabytes", 0) << 17)
        self._weights = weights
        self.signatures = {
            DEFAULT_SIGNATURE: Signature.of(
                [Spec("x", DType.FLOAT32, (-1,))], [Spec("score", DType.FLOAT32, (-1,))]
            )
        }

    def predict(self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE) -> dict[str, Any]:
        x = inputs["x"]
        if self._begun:
            with Path(self._begun).open("a") as file:
                file.write(f"{x.tolist()}\n")
        for value in set(x.tolist()):
            if value < 0:
                misbehave(int(value))
        if self._wait_s:
            time.sleep(self._wait_s)
        return {"score": x + self._offset}

    def close(self) -> None:
        self._ballast = self._weights = np.empty(0)


def misbehave(how: int) -> None:
    if how == RAISE:
        raise RuntimeError("this model raises when asked to")
    if how == LOOP:
        while True:
            pass
    if how == HOLD_GIL:
        # PyDLL keeps the interpreter's lock for the whole call.
        ctypes.PyDLL(None).sleep(3600)
    if how == CRASH:
        ctypes.string_at(0)
    if how == SLOW:
        time.sleep(0.5)
    if how == HANG:
        time.sleep(3600)
    if how == BUSY:
        # For half a second, and at least as long on a core as makes it unusual: three times, since
        # who watches begins late on a busy machine.
        end, worked = time.monotonic() + 0.5, time.thread_time() + 0.3
        while time.monotonic() < end or time.thread_time() < worked:
            pass


def load(path: Path, options: LoadOptions) -> Faulty:
    path = path / NAME if path.is_dir() else path
    try:
        told = json.loads(path.read_text())
    except ValueError as exc:
        raise UnsupportedModel(f"{path} is damaged: {exc}") from exc
    match told.get("load"):
        case "raise":
            raise ValueError("this file cannot be read")
        case "missing":
            import a_library_that_is_not_there  # noqa: F401
        case "crash":
            misbehave(CRASH)
        case "loop":
            misbehave(LOOP)
        case "hold_gil":
            misbehave(HOLD_GIL)
    weights = path.with_name(WEIGHTS)
    with journal(told, path):
        time.sleep(told.get("open_ms", 0) / 1000)
        return Faulty(told, np.fromfile(weights, np.uint8) if weights.exists() else None)


@contextlib.contextmanager
def journal(told: dict[str, Any], path: Path) -> Iterator[None]:
    """Write down when an opening begins and ends, for who counts how many there are at once."""

    def note(what: str) -> None:
        if "journal" in told:
            version = "/".join(path.parent.parts[-2:])
            line = f"{what} {os.getpid()} {version}\n"
            with Path(told["journal"]).open("ab", buffering=0) as file:
                file.write(line.encode())

    note("begin")
    try:
        yield
    finally:
        note("end")


def sniff(path: Path) -> bool:
    return path.name.endswith(".faulty") or (path / NAME).exists()


FORMAT = Format("faulty", (".faulty",), sniff, load)
