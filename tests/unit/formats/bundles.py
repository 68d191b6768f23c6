"""Writes MLeap bundles, JSON or protobuf, as MLeap does: for tests alone."""

from __future__ import annotations

import json
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Tensor:
    """Values in the order of the file, and their sizes."""

    values: list[float]
    sizes: list[int]


@dataclass
class Node:
    """A node; *trees* are files of nodes beside it, by folder."""

    name: str
    op: str
    attributes: dict[str, Any]
    inputs: dict[str, str]
    outputs: dict[str, str]
    trees: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    models: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)


# -- JSON --------------------------------------------------------------------------------------


def _base(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return {int: "long", float: "double", str: "string"}[type(value)]


def _json_value(value: Any) -> dict[str, Any]:
    if isinstance(value, Tensor):
        sizes = [{"size": size, "name": ""} for size in value.sizes]
        return {"type": "tensor", "double": value.values, "shape": {"dimensions": sizes}}
    if isinstance(value, list):
        if value and isinstance(value[0], Tensor):
            return {"type": "list", "tensor": [_json_value(each) for each in value]}
        return {"type": "list", _base(value[0]) if value else "string": value}
    return {_base(value): value}


# -- protobuf ----------------------------------------------------------------------------------


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, data: bytes | str) -> bytes:
    raw = data.encode() if isinstance(data, str) else data
    return _varint(number << 3 | 2) + _varint(len(raw)) + raw


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _double(number: int, value: float) -> bytes:
    return _varint(number << 3 | 1) + struct.pack("<d", value)


def _pb_tensor(value: Tensor) -> bytes:
    sizes = b"".join(_field(1, _number(1, size)) for size in value.sizes)
    raw = struct.pack(f">{len(value.values)}d", *value.values)
    return _number(1, 7) + _field(2, sizes) + _field(3, raw)


def _pb_value(value: Any) -> bytes:
    if isinstance(value, Tensor):
        return _field(3, _pb_tensor(value))
    if isinstance(value, list):
        if value and isinstance(value[0], Tensor):
            return _field(2, b"".join(_field(8, _pb_tensor(each)) for each in value))
        if value and isinstance(value[0], float):
            return _field(2, _field(6, struct.pack(f"<{len(value)}d", *value)))
        if value and isinstance(value[0], int):
            return _field(2, _field(4, b"".join(map(_varint, value))))
        return _field(2, b"".join(_field(2, each) for each in value))
    if isinstance(value, bool):
        return _field(1, _number(1, value))
    if isinstance(value, int):
        return _field(1, _number(4, value))
    return _field(1, _double(6, value) if isinstance(value, float) else _field(2, value))


def _pb_model(op: str, attributes: dict[str, Any]) -> bytes:
    pairs = b"".join(
        _field(1, _field(1, name) + _field(2, _pb_value(value)))
        for name, value in attributes.items()
    )
    return _field(1, op) + _field(2, pairs)


def _pb_tree_node(node: dict[str, Any]) -> bytes:
    if node["type"] == "leaf":
        values = node["values"]
        return _field(2, _field(1, struct.pack(f"<{len(values)}d", *values)))
    split = node["split"]
    if split["type"] == "continuous":
        body = _field(2, _number(1, split["featureIndex"]) + _double(2, split["threshold"]))
    else:
        categories = split["categories"]
        body = _field(
            1,
            _number(1, split["featureIndex"])
            + _number(2, split["isLeft"])
            + _number(3, split["numCategories"])
            + _field(4, struct.pack(f"<{len(categories)}d", *categories)),
        )
    return _field(1, _field(1, body))


# -- the files ---------------------------------------------------------------------------------


def files(nodes: list[Node], form: str) -> dict[str, bytes]:
    """Return the files of a bundle whose root is a pipeline of *nodes*."""
    info = {"uid": "u", "name": "b", "format": form, "version": "0.23.0", "timestamp": "t"}
    found = {"bundle.json": json.dumps(info).encode()}
    names: dict[str, Any] = {"nodes": [node.name for node in nodes]}
    _add(found, "root", Node("b", "pipeline", names, {}, {}), form)
    for node in nodes:
        _add(found, f"root/{node.name}.node", node, form)
    return found


def _add(found: dict[str, bytes], folder: str, node: Node, form: str) -> None:
    pb = form == "protobuf"
    ending = "pb" if pb else "json"
    if pb:
        inputs = b"".join(_field(1, _field(1, p) + _field(2, n)) for p, n in node.inputs.items())
        outputs = b"".join(_field(2, _field(1, p) + _field(2, n)) for p, n in node.outputs.items())
        found[f"{folder}/node.pb"] = _field(1, node.name) + _field(2, inputs + outputs)
    else:
        shape = {
            side: [{"port": port, "name": name} for port, name in sockets.items()]
            for side, sockets in (("inputs", node.inputs), ("outputs", node.outputs))
        }
        found[f"{folder}/node.json"] = json.dumps({"name": node.name, "shape": shape}).encode()
    models = {"": (node.op, node.attributes), **node.models}
    for below, (op, attributes) in models.items():
        path = "/".join(filter(None, [folder, below, f"model.{ending}"]))
        if pb:
            found[path] = _pb_model(op, attributes)
        else:
            values = {name: _json_value(value) for name, value in attributes.items()}
            found[path] = json.dumps({"op": op, "attributes": values}).encode()
    for below, tree in node.trees.items():
        path = "/".join(filter(None, [folder, below, f"tree.{ending}"]))
        if pb:
            parts = [_pb_tree_node(each) for each in tree]
            found[path] = b"".join(struct.pack(">i", len(part)) + part for part in parts)
        else:
            found[path] = "".join(json.dumps(each) + "\n" for each in tree).encode()


def write_folder(path: Path, parts: dict[str, bytes]) -> Path:
    """Write the files below *path*."""
    for name, data in parts.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return path


def write_zip(path: Path, parts: dict[str, bytes]) -> Path:
    """Write the files into a zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path
