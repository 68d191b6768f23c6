"""Bundle.ML's own objects: nodes, models and their attributes, from JSON or protobuf."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.errors import UnsupportedModel
from martlet.formats.mleap import wire
from martlet.formats.mleap.archive import Archive

_BASES = (
    "boolean", "byte", "short", "int", "long", "float", "double", "string", "byte_string",
    "basic_type", "data_shape", "tensor", "model",
)  # fmt: skip
_MAX_SIZE = 1 << 28


@dataclass(frozen=True, slots=True)
class Tensor:
    """Values in the file's order, and the sizes they are meant to have."""

    values: list[Any]
    dimensions: tuple[int, ...]

    def array(self) -> NDArray[np.float64]:
        """Return the values as one row of float64."""
        return np.array(self.values, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Shape:
    """What an input is: ``scalar``, ``list`` or ``tensor``, and a tensor's sizes."""

    base: str
    dimensions: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """One step: its name, its model, and its columns by port."""

    name: str
    op: str
    attributes: Mapping[str, Any]
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    folder: str
    files: Files

    @property
    def label(self) -> str:
        """For messages: what it is, its name, and where in the bundle it lies."""
        return f"{self.op} {self.name} ({self.folder})"

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute; a tensor's values as an array."""
        return self.attributes.get(name, default)

    def need(self, *names: str) -> Any:
        """Return the first attribute of *names* that is there."""
        for name in names:
            if self.attributes.get(name) is not None:
                return self.attributes[name]
        raise UnsupportedModel(f"{self.label} has no attribute {names[0]!r}")

    def vector(self, *names: str) -> NDArray[np.float64]:
        """Return an attribute that is a vector."""
        found = self.need(*names)
        return found.array() if isinstance(found, Tensor) else np.array(found, dtype=np.float64)

    def matrix(self, *names: str) -> NDArray[np.float64]:
        """Return an attribute that is a matrix; its values are kept column by column."""
        found = self.need(*names)
        if not isinstance(found, Tensor) or len(found.dimensions) != 2:
            raise UnsupportedModel(f"{self.label}: {names[0]!r} is no matrix")
        rows, columns = found.dimensions
        return np.ascontiguousarray(found.array().reshape(columns, rows).T)

    def vectors(self, *names: str) -> list[NDArray[np.float64]]:
        """Return an attribute that is a list of vectors."""
        return [each.array() for each in self.need(*names)]

    def port(self, *names: str, output: bool = False) -> str:
        """Return the column at the first port of *names* that is there, "" if none is."""
        sockets = dict(self.outputs if output else self.inputs)
        return next((sockets[name] for name in names if name in sockets), "")


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a bundle, and the form in which they are written."""

    archive: Archive
    protobuf: bool

    @classmethod
    def of(cls, archive: Archive) -> Files:
        """Read ``bundle.json``, which is JSON in any case."""
        info = _json(archive.read("bundle.json"), "bundle.json")
        kind = str(info.get("format", "")).lower().rsplit(".", 1)[-1]
        if kind not in ("json", "protobuf", "mixed"):
            raise UnsupportedModel(f"the bundle's format is {kind!r}; known are json and protobuf")
        return cls(archive, kind == "protobuf")

    def extension(self, path: str) -> str:
        """Return how a file that may be of either form is written here."""
        for extension in ("pb", "json") if self.protobuf else ("json", "pb"):
            if f"{path}.{extension}" in self.archive:
                return extension
        raise UnsupportedModel(f"the bundle holds no {path}.json and no {path}.pb")

    def node(self, folder: str) -> Node:
        """Return the node in *folder*."""
        if self.extension(f"{folder}/node") == "pb":
            name, inputs, outputs = _pb_node(self.archive.read(f"{folder}/node.pb"))
        else:
            found = _json(self.archive.read(f"{folder}/node.json"), f"{folder}/node.json")
            shape = found.get("shape") or {}
            name = str(found["name"])
            inputs, outputs = _sockets(shape, "inputs"), _sockets(shape, "outputs")
        op, attributes = self.model(folder)
        return Node(name, op, attributes, inputs, outputs, folder, self)

    def model(self, folder: str) -> tuple[str, Mapping[str, Any]]:
        """Return the operation and the attributes of the model in *folder*."""
        path = f"{folder}/model"
        if self.extension(path) == "pb":
            return _pb_model(self.archive.read(f"{path}.pb"))
        found = _json(self.archive.read(f"{path}.json"), f"{path}.json")
        attributes = found.get("attributes") or {}
        # Early bundles keep the attributes one level further down.
        if set(attributes) == {"attributes"}:
            attributes = attributes["attributes"]
        return str(found["op"]), {key: _value(each) for key, each in attributes.items()}

    def lines(self, path: str) -> Iterator[Any]:
        """Yield the parts of a file that is a list of objects, as JSON or message bytes."""
        if self.extension(path) == "json":
            for line in self.archive.read(f"{path}.json").splitlines():
                if line.strip():
                    yield _json(line, path)
            return
        data = self.archive.read(f"{path}.pb")
        at = 0
        while at < len(data):
            if at + 4 > len(data):
                raise UnsupportedModel(f"{path}.pb is cut short")
            (size,) = struct.unpack_from(">i", data, at)
            at += 4
            if size < 0 or at + size > len(data):
                raise UnsupportedModel(f"{path}.pb is cut short")
            yield data[at : at + size]
            at += size


def _json(data: bytes, name: str) -> Any:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise UnsupportedModel(f"{name} is not JSON: {exc}") from None
    if not isinstance(found, dict):
        raise UnsupportedModel(f"{name} is not an object")
    return found


def _sockets(shape: Mapping[str, Any], which: str) -> tuple[tuple[str, str], ...]:
    return tuple((str(each["port"]), str(each["name"])) for each in shape.get(which) or ())


# -- JSON --------------------------------------------------------------------------------------


def _value(source: Any) -> Any:
    """Return an attribute: ``{"double": 1.0}``; before 0.8 ``{"type": ..., "value": ...}``."""
    if not isinstance(source, dict):
        raise UnsupportedModel(f"{str(source)[:60]} is no attribute")
    if "value" in source:
        value = source["value"]
        if isinstance(value, dict) and "values" in value:
            return _tensor(value["values"], value.get("dimensions", ()), value.get("indices"))
        kind = source.get("type")
        base = kind.get("base") if isinstance(kind, dict) else None
        if isinstance(base, dict) and base.get("type") == "tensor" and isinstance(value, list):
            sizes = base.get("dimensions", ())
            return [
                _tensor(each["values"], each.get("dimensions", sizes), None)
                if isinstance(each, dict)
                else _tensor(each, sizes, None)
                for each in value
            ]
        if isinstance(kind, dict) and kind.get("type") == "tensor" and isinstance(value, list):
            return _tensor(value, kind.get("dimensions", ()), None)
        return value
    kind = source.get("type", "scalar")
    for base in _BASES:
        if base not in source:
            continue
        value = source[base]
        if kind == "tensor":
            shape = [each["size"] for each in (source.get("shape") or {}).get("dimensions", ())]
            return _tensor(value, shape, source.get("indices"))
        if base == "tensor":
            return [_value({"type": "tensor", **each}) for each in value]
        if base == "data_shape":
            return [_shape(each) for each in (value if isinstance(value, list) else [value])]
        return value
    # An empty list has no values to tell its base by.
    return [] if kind == "list" else None


def _tensor(values: Any, dimensions: Any, indices: Any) -> Tensor:
    sizes = tuple(int(each) for each in dimensions)
    if not isinstance(values, list):
        raise UnsupportedModel("a tensor's values are not a list")
    if any(each < 0 for each in sizes):
        sizes = (len(values),)
    if indices:
        total = int(np.prod(sizes))
        if not 0 <= total <= _MAX_SIZE:
            raise UnsupportedModel(f"a sparse tensor of {sizes} is too large")
        dense = np.zeros(sizes)
        for place, value in zip(indices, values, strict=True):
            at = tuple(place) if isinstance(place, list) else (place,)
            if len(at) != len(sizes) or any(not 0 <= i < n for i, n in zip(at, sizes, strict=True)):
                raise UnsupportedModel(f"a sparse tensor of {sizes} holds the index {at}")
            dense[at] = value
        return Tensor(dense.ravel().tolist(), sizes)
    if sizes and int(np.prod(sizes)) != len(values):
        raise UnsupportedModel(f"a tensor of {sizes} holds {len(values)} values")
    return Tensor(values, sizes or (len(values),))


def _shape(source: Any) -> Shape:
    if isinstance(source, str):
        return Shape(source)
    if isinstance(source, list):
        return Shape("tensor", tuple(int(each) for each in source))
    tensor = source.get("tensorShape") or source.get("tensor_shape") or {}
    sizes = tuple(int(each.get("size", -1)) for each in tensor.get("dimensions", ()))
    return Shape(str(source.get("base", "scalar")), sizes)


# -- protobuf: ml.bundle of bundle.proto ---------------------------------------------------------


def _pb_node(data: bytes) -> tuple[str, tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    name = ""
    sockets: dict[int, list[tuple[str, str]]] = {1: [], 2: []}
    for number, value in wire.fields(data):
        if number == 1:
            name = wire.text(value)
        elif number == 2:
            for side, socket in wire.fields(wire.message(value)):
                parts = dict(wire.fields(wire.message(socket)))
                if side in sockets:
                    sockets[side].append(
                        (wire.text(parts.get(1, b"")), wire.text(parts.get(2, b"")))
                    )
    return name, tuple(sockets[1]), tuple(sockets[2])


def _pb_model(data: bytes) -> tuple[str, Mapping[str, Any]]:
    op = ""
    attributes: dict[str, Any] = {}
    for number, value in wire.fields(data):
        if number == 1:
            op = wire.text(value)
        elif number == 2:
            for _, pair in wire.fields(wire.message(value)):
                parts = dict(wire.fields(wire.message(pair)))
                attributes[wire.text(parts.get(1, b""))] = _pb_value(
                    wire.message(parts.get(2, b""))
                )
    return op, attributes


def _pb_value(data: bytes) -> Any:
    for number, value in wire.fields(data):
        inner = wire.message(value)
        if number == 1:
            return _pb_scalar(inner)
        if number == 2:
            return _pb_list(inner)
        if number == 3:
            return _pb_tensor(inner)
    return None


def _pb_scalar(data: bytes) -> Any:
    """A scalar that is 0, false or "" writes no field: its reader takes it as 0."""
    found: Any = 0
    for number, value in wire.fields(data):
        found = _pb_one(number, value)
    return found


def _pb_one(number: int, value: wire.Value) -> Any:
    if number == 1:
        return bool(value)
    if number == 2:
        return wire.text(value)
    if number in (3, 4, 9) and isinstance(value, int):
        return wire.signed(value)
    if number == 5:
        return wire.singles(value)[0]
    if number == 6:
        return wire.doubles(value)[0]
    if number == 8:
        return _pb_tensor(wire.message(value))
    if number == 10:
        return [_pb_shape(wire.message(value))]
    return value


def _pb_list(data: bytes) -> list[Any]:
    found: list[Any] = []
    for number, value in wire.fields(data):
        if number == 1:
            found.extend(bool(each) for each in wire.varints(value))
        elif number == 2:
            found.append(wire.text(value))
        elif number in (3, 4, 9):
            found.extend(wire.signed(each) for each in wire.varints(value))
        elif number == 5:
            found.extend(wire.singles(value))
        elif number == 6:
            found.extend(wire.doubles(value))
        elif number == 8:
            found.append(_pb_tensor(wire.message(value)))
        elif number == 10:
            found.append(_pb_shape(wire.message(value)))
        else:
            found.append(value)
    return found


# BasicType: how a tensor's bytes are read, big end first.
_PACKED = {1: "B", 2: "b", 3: "h", 4: "i", 5: "q", 6: "f", 7: "d"}


def _pb_dimensions(data: bytes) -> list[int]:
    sizes = []
    for _, dimension in wire.fields(data):
        parts = dict(wire.fields(wire.message(dimension)))
        size = parts.get(1, 0)
        sizes.append(wire.signed(size) if isinstance(size, int) else 0)
    return sizes


def _pb_tensor(data: bytes) -> Tensor:
    parts = dict(wire.fields(data))
    kind = parts.get(1, 0)
    base = kind if isinstance(kind, int) else 0
    letter = _PACKED.get(base)
    raw = wire.message(parts.get(3, b""))
    if letter is None:
        raise UnsupportedModel(f"a tensor of the type {base} is not supported")
    size = struct.calcsize(f">{letter}")
    if len(raw) % size:
        raise UnsupportedModel("a tensor's bytes are cut short")
    values = list(struct.unpack(f">{len(raw) // size}{letter}", raw))
    return _tensor(values, _pb_dimensions(wire.message(parts.get(2, b""))), None)


def _pb_shape(data: bytes) -> Shape:
    parts = dict(wire.fields(data))
    base = parts.get(1, 0)
    names = ("scalar", "list", "tensor")
    sizes = _pb_dimensions(wire.message(parts.get(3, b"")))
    known = isinstance(base, int) and base < len(names)
    return Shape(names[base] if known and isinstance(base, int) else "tensor", tuple(sizes))
