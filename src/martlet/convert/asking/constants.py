"""What a model's file names: the words and numbers that its inputs may be compared with."""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MOST = 2000
_LONGEST = 64
_LARGE = 10
_MOST_KEYS = 1 << 16
_MOST_THRESHOLDS = 1 << 10
_MOST_MEANS = 64
"""Longest array of floats that may be means or deviations of features; others are weights."""

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?(?![\w.])")

Found = str | int | float


@dataclass(frozen=True, slots=True)
class Constants:
    """
    Hints of what to ask. A wrong hint costs a probe; for a missed one there are logged rows.

    Args:
        words: The entries of hash tables, vocabularies and category lists, each once.
        numbers: Keys of vocabularies, thresholds, ids that are treated specially, means that are
            subtracted from features, lengths of sequences; each once, ascending.
    """

    words: tuple[str, ...] = ()
    numbers: tuple[int | float, ...] = ()


def can_read(format: str) -> bool:
    """Whether the words of a model of this format are found in its file, if it has any."""
    return format in _READERS


def constants_of(path: Path, format: str) -> Constants:
    """Return the words and numbers in the file of the model at *path*, at most some thousands."""
    words: dict[str, None] = {}
    numbers: set[int | float] = set()
    with suppress(Exception):  # whatever a parser raises: as far as it came
        for each in _READERS[format](path) if format in _READERS else ():
            if isinstance(each, str):
                if 0 < len(each) <= _LONGEST and each.isprintable():
                    words[each] = None
                number = _number(each)
            else:
                number = each
            if number is not None and _may_be_meant(number):
                numbers.add(number)
    return Constants(tuple(_some(list(words))), tuple(_some(sorted(numbers))))


def _some(values: list[Any]) -> list[Any]:
    return values[:: max(1, -(-len(values) // _MOST))]


def _may_be_meant(number: float) -> bool:
    """Whether it may be a key or threshold: a layer's weights are neither whole nor large."""
    return math.isfinite(number) and (abs(number) >= _LARGE or number == int(number))


def _number(text: str) -> int | float | None:
    if not _NUMBER.fullmatch(text):
        return None
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _array(values: Any) -> Iterator[Found]:
    """The numbers of an array that may be keys or thresholds."""
    most = {"i": _MOST_KEYS, "f": _MOST_THRESHOLDS}.get(values.dtype.kind, 0)
    if values.size <= most:
        yield from values.ravel().tolist()


def _savedmodel(path: Path) -> Iterator[Found]:
    from tensorflow import make_ndarray  # type: ignore[import-untyped,unused-ignore]
    from tensorflow.core.protobuf import saved_model_pb2  # type: ignore[import-untyped,unused-ignore]

    folder = path if path.is_dir() else path.parent
    model: Any = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    for meta in model.meta_graphs:
        nodes = list(meta.graph_def.node)
        for function in meta.graph_def.library.function:
            nodes += function.node_def
        for node in nodes:
            yield from node.attr["boundaries"].list.f
            value = node.attr["value"].tensor if node.op == "Const" else None
            if value is None or not _is_data(node.name):
                continue
            # One word is a separator, a file name or a message; two or more are a vocabulary.
            if len(value.string_val) > 1:
                yield from (each.decode(errors="ignore") for each in value.string_val)
            elif not value.string_val:
                yield from _array(make_ndarray(value))
    for file in sorted((folder / "assets").glob("*")):
        yield from file.read_text(encoding="utf-8", errors="ignore").splitlines()
    yield from _checkpoint(folder / "variables" / "variables")


def _is_data(name: str) -> bool:
    """Whether a constant so named may be words: checkpoints list the names of variables."""
    return not name.endswith(("tensor_names", "shape_and_slices", "shard"))


def _checkpoint(prefix: Path) -> Iterator[Found]:
    """The keys of tables that were learnt, and the means that features are taken from."""
    from tensorflow import train

    reader: Any = train.load_checkpoint(str(prefix))
    kinds = reader.get_variable_to_dtype_map()
    for name, shape in reader.get_variable_to_shape_map().items():
        size, kind = math.prod(shape), kinds[name]
        if name.startswith("_CHECKPOINTABLE") or "OPTIMIZER" in name.upper():
            continue
        if kind.name in ("string", "int32", "int64") and 1 < size <= _MOST_KEYS:
            values = reader.get_tensor(name)
            if kind.name == "string":
                yield from (each.decode(errors="ignore") for each in values.ravel())
            else:
                yield from _array(values)
        elif kind.is_floating and size <= _MOST_MEANS:
            yield from reader.get_tensor(name).ravel().tolist()


def _onnx(path: Path) -> Iterator[Found]:
    import onnx

    file = path / "model.onnx" if path.is_dir() else path
    graph = onnx.load(str(file), load_external_data=False).graph
    tensors = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (each.decode(errors="ignore") for each in attribute.strings)
            yield from attribute.ints
            yield from attribute.floats
            tensors.append(attribute.t)
    for tensor in tensors:
        yield from (each.decode(errors="ignore") for each in tensor.string_data)
        if math.prod(tensor.dims) <= _MOST_KEYS and not tensor.external_data and tensor.data_type:
            yield from _array(onnx.numpy_helper.to_array(tensor))


def _keras(path: Path) -> Iterator[Found]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".json"):
                yield from _members(json.loads(archive.read(name)))
            elif "assets" in name and name.endswith(".txt"):
                yield from archive.read(name).decode(errors="ignore").splitlines()
        with archive.open("model.weights.h5") as weights:
            yield from _hdf5(weights)


def _members(value: object) -> Iterator[Found]:
    """The texts and numbers of every list in a JSON document."""
    if isinstance(value, dict):
        for each in value.values():
            yield from _members(each)
    elif isinstance(value, list):
        for each in value:
            if isinstance(each, str | int | float) and not isinstance(each, bool):
                yield each
            else:
                yield from _members(each)


def _hdf5(file: Any) -> Iterator[Found]:
    """The means that features are taken from."""
    import h5py

    found: list[Any] = []

    def look(name: str, node: Any) -> None:
        small = isinstance(node, h5py.Dataset) and int(node.size or 0) <= _MOST_MEANS
        if small and node.dtype.kind == "f":
            found.extend(node[()].ravel().tolist())

    with h5py.File(file) as opened:
        opened.visititems(look)
    yield from found


def _torchscript(path: Path) -> Iterator[Found]:
    import torch

    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".py"):
                for text in _NUMBER.findall(archive.read(name).decode(errors="ignore")):
                    found = _number(text)
                    if found is not None:
                        yield found
    read: Any = torch.jit.load
    for weight in read(str(path), map_location="cpu").state_dict().values():
        if weight.numel() <= _MOST_MEANS:
            yield from weight.ravel().tolist()


def _quoted(path: Path) -> Iterable[str]:
    """Quoted words of a text format (PMML, PFA), whatever they name."""
    return re.findall(r'"([^"<>\n]{1,64})"', path.read_text(encoding="utf-8", errors="ignore"))


_READERS: dict[str, Callable[[Path], Iterable[Found]]] = {
    "savedmodel": _savedmodel,
    "onnx": _onnx,
    "keras": _keras,
    "torchscript": _torchscript,
    "pmml": _quoted,
    "pfa": _quoted,
}
