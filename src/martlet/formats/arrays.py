"""A light model as plain arrays: an ``.npz`` of dense layers over a unit's and an item's vector.

``inputs`` names what the first layer sees, in order: ``user``, ``item``, ``product`` (element by
element) or ``dot``. ``w0, b0, w1, b1, ...`` are the layers: ``x @ w + b``, with ReLU between them
and the logistic function at the end; ``w`` has shape [in, out]. So one layer is logistic
regression, more are a multi-layer perceptron.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats import Format, LoadOptions, archives
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import DType, Signature, Spec, Tensor, Tensors

PARTS = ("user", "item", "product", "dot")
Layer = tuple[NDArray[np.float32], NDArray[np.float32]]


class ArraysServable:
    """
    Dense layers in numpy.

    Inputs ``user`` and ``item``: float32 ``[-1, dim]``; of one of them a single row is shared by
    all rows of the other. Output ``score``: float32 ``[-1]`` (``[-1, out]`` for several).
    """

    def __init__(self, path: Path, options: LoadOptions) -> None:
        archives.check(path)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in arrays.files}
        except (ValueError, OSError, zipfile.BadZipFile, EOFError) as exc:
            raise UnsupportedModel(f"{path} is not an .npz that can be read: {exc}") from exc
        self._parts = [str(part) for part in found.get("inputs", np.array(["user", "item"]))]
        unknown = [part for part in self._parts if part not in PARTS]
        if unknown or not self._parts:
            raise UnsupportedModel(
                f"{path}: 'inputs' is {self._parts}; it may hold {', '.join(PARTS)}"
            )
        self._layers = _layers(path, found)
        if not self._layers:
            raise UnsupportedModel(f"{path} has no layer: w0 [in, out] and b0 [out] are wanted")
        dim = self._dim(path)
        score = (-1,) if self._layers[-1][0].shape[1] == 1 else (-1, self._layers[-1][0].shape[1])
        signature = Signature.of(
            [Spec(name, DType.FLOAT32, (-1, dim)) for name in ("user", "item")],
            [Spec("score", DType.FLOAT32, score)],
        )
        self.signatures: Mapping[str, Signature] = {DEFAULT_SIGNATURE: signature}

    def _dim(self, path: Path) -> int:
        width = self._layers[0][0].shape[0] - self._parts.count("dot")
        vectors = len(self._parts) - self._parts.count("dot")
        if vectors == 0 and width == 0:
            return -1
        if vectors == 0 or width <= 0 or width % vectors:
            raise UnsupportedModel(
                f"{path}: w0 has {width} rows for vectors; {self._parts} cannot share them"
            )
        return int(width // vectors)

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """Score the rows."""
        user, item = inputs["user"], inputs["item"]
        if 1 not in (len(user), len(item)) and len(user) != len(item):
            raise InvalidInput(
                f"'user' has {len(user)} rows and 'item' {len(item)}; as many, or one, is wanted"
            )
        if user.shape[1] != item.shape[1]:
            raise InvalidInput(
                f"'user' has vectors of {user.shape[1]} and 'item' of {item.shape[1]}"
            )
        rows = max(len(user), len(item)) if min(len(user), len(item)) else 0
        seen = {"user": user, "item": item}
        columns = []
        for part in self._parts:
            if part in seen:
                value = np.broadcast_to(seen[part], (rows, seen[part].shape[1]))
            else:
                value = user * item
                if part == "dot":
                    value = value.sum(axis=1, keepdims=True)
            columns.append(value)
        x: Tensor = np.concatenate(columns, axis=1)
        for weights, bias in self._layers[:-1]:
            x = np.maximum(x @ weights + bias, 0)
        weights, bias = self._layers[-1]
        with np.errstate(over="ignore"):
            # Far below zero the exponential is infinite, and the score 0, as it should be.
            score = 1 / (1 + np.exp(-(x @ weights + bias)))
        return {"score": score[:, 0] if score.shape[1] == 1 else score}

    def close(self) -> None:
        """Free the arrays."""
        self._layers = []


def _layers(path: Path, found: Mapping[str, Tensor]) -> list[Layer]:
    layers: list[Layer] = []
    while f"w{len(layers)}" in found:
        n = len(layers)
        weights, bias = found[f"w{n}"], found.get(f"b{n}")
        before = layers[-1][0].shape[1] if layers else weights.shape[0]
        shapes = bias is not None and weights.ndim == 2 and bias.shape == (weights.shape[1],)
        if bias is None or not shapes or not {weights.dtype.kind, bias.dtype.kind} <= set("fiu"):
            raise UnsupportedModel(f"{path}: layer {n} needs w{n} [in, out] and b{n} [out]")
        if weights.shape[0] != before:
            raise UnsupportedModel(
                f"{path}: w{n} takes {weights.shape[0]} values; the layer before gives {before}"
            )
        layers.append((weights.astype(np.float32), bias.astype(np.float32)))
    return layers


def _sniff(path: Path) -> bool:
    if not archives.is_archive(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except zipfile.BadZipFile:
        return False
    return {"w0.npy", "b0.npy"} <= names


FORMAT = Format(name="arrays", suffixes=(), sniff=_sniff, load=ArraysServable)
