"""The words that a model's file knows: its vocabularies, for text inputs worth probing with."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

_MOST = 2000
_LONGEST = 64


def can_read(format: str) -> bool:
    """Whether the words of a model of this format are found in its file, if it has any."""
    return format in _READERS


def words_of(path: Path, format: str) -> list[str]:
    """
    Return words that the model at *path* may know, each once; empty where none are found.

    They are hints: a word that is none costs a probe, and a missed one is made up for by logged
    rows. What the file's hash tables, vocabularies and category lists hold is found.
    """
    read = _READERS.get(format)
    if read is None:
        return []
    found: dict[str, None] = {}
    with suppress(Exception):  # whatever a parser raises: no words then
        for word in read(path):
            if 0 < len(word) <= _LONGEST and word.isprintable():
                found[word] = None
    words = list(found)
    return words[:: max(1, -(-len(words) // _MOST))]


def _savedmodel(path: Path) -> Iterator[str]:
    from tensorflow.core.protobuf import saved_model_pb2  # type: ignore[import-untyped,unused-ignore]

    folder = path if path.is_dir() else path.parent
    model: Any = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    for meta in model.meta_graphs:
        nodes = list(meta.graph_def.node)
        for function in meta.graph_def.library.function:
            nodes += function.node_def
        for node in nodes:
            value = node.attr["value"].tensor if node.op == "Const" else None
            # A word alone is a separator, a file's name, a message: two are a vocabulary.
            if value is not None and len(value.string_val) > 1 and _is_words(node.name):
                yield from (each.decode(errors="ignore") for each in value.string_val)
    for file in sorted((folder / "assets").glob("*")):
        yield from file.read_text(encoding="utf-8", errors="ignore").splitlines()


def _is_words(name: str) -> bool:
    """Whether a constant so named may be words: checkpoints list the names of variables."""
    return not name.endswith(("tensor_names", "shape_and_slices", "shard"))


def _onnx(path: Path) -> Iterator[str]:
    import onnx

    file = path / "model.onnx" if path.is_dir() else path
    graph = onnx.load(str(file), load_external_data=False).graph
    for node in graph.node:
        for attribute in node.attribute:
            yield from (each.decode(errors="ignore") for each in attribute.strings)
            yield from (each.decode(errors="ignore") for each in attribute.t.string_data)
    for tensor in graph.initializer:
        yield from (each.decode(errors="ignore") for each in tensor.string_data)


def _keras(path: Path) -> Iterator[str]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".json"):
                yield from _texts(json.loads(archive.read(name)))
            elif "assets" in name and name.endswith(".txt"):
                yield from archive.read(name).decode(errors="ignore").splitlines()


def _texts(value: object) -> Iterator[str]:
    """The members of every list of text in a JSON document."""
    if isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        yield from (each for each in value if isinstance(each, str))
        for each in value:
            yield from _texts(each)


def _quoted(path: Path) -> Iterable[str]:
    """Quoted words of a text format (PMML, PFA), whatever they name."""
    return re.findall(r'"([^"<>\n]{1,64})"', path.read_text(encoding="utf-8", errors="ignore"))


_READERS: dict[str, Callable[[Path], Iterable[str]]] = {
    "savedmodel": _savedmodel,
    "onnx": _onnx,
    "keras": _keras,
    "pmml": _quoted,
    "pfa": _quoted,
}
