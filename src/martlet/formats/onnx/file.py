"""An ONNX file's own bytes: what its graph holds, where its tensors lie, and small edits of it."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from martlet.errors import UnsupportedModel
from martlet.formats.protobuf import Field, encoded, fields, varint

# Field numbers of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_VALUE_INFO = 11, 12, 13
_FUNCTION_NODE = 7
_VALUE_TYPE, _TYPE_TENSOR, _TENSOR_SHAPE = 2, 1, 2
_NOTHING = memoryview(b"")
_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 13, 14
_MAX_DEPTH = 64
ORT_MAGIC = b"ORTM"

ELEMENT_TYPES = {
    "float": 1,
    "uint8": 2,
    "int8": 3,
    "uint16": 4,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "string": 8,
    "bool": 9,
    "float16": 10,
    "double": 11,
    "uint32": 12,
    "uint64": 13,
}
"""onnxruntime's name of an element type, to TensorProto.DataType."""


@dataclass(slots=True)
class Node:
    """One operator of the top graph: its attributes are messages still to be read."""

    name: str = ""
    op_type: str = ""
    domain: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: dict[str, memoryview] = field(default_factory=dict)

    @classmethod
    def read(cls, data: memoryview) -> Node:
        """Read a NodeProto."""
        node = cls()
        for number, _, value in fields(data):
            if not isinstance(value, memoryview):
                continue
            if number in (1, 2):
                (node.inputs if number == 1 else node.outputs).append(_text(value))
            elif number == 3:
                node.name = _text(value)
            elif number == 4:
                node.op_type = _text(value)
            elif number == 7:
                node.domain = _text(value)
            elif number == 5:
                found = [v for n, _, v in fields(value) if n == 1 and isinstance(v, memoryview)]
                node.attributes[_text(found[0]) if found else ""] = value
        return node

    def values(self, attribute: str) -> list[str]:
        """Return the integers or strings of a list *attribute*, as text; empty: it has none."""
        found: list[str] = []
        for number, _, value in fields(self.attributes.get(attribute, memoryview(b""))):
            if number == 8 and isinstance(value, int):
                found.append(str(value - 2**64 if value >= 2**63 else value))
            elif number == 8 and isinstance(value, memoryview):
                at = 0
                while at < len(value):
                    one, at = varint(value, at)
                    found.append(str(one - 2**64 if one >= 2**63 else one))
            elif number == 9 and isinstance(value, memoryview):
                found.append(_text(value))
        return found


def _text(value: memoryview) -> str:
    return bytes(value).decode()


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """
    A ModelProto, its top graph split into fields.

    Args:
        head: The model's fields beside the graph.
        graph: The graph's fields, in order.
        nodes: Its operators.
        external: The files, relative to the model's folder, in which tensors lie.
    """

    head: list[Field]
    graph: list[Field]
    nodes: list[Node]
    external: set[str]

    @classmethod
    def read(cls, path: Path) -> OnnxFile:
        """
        Read the model at *path*; its external files must lie beside it.

        Raises:
            UnsupportedModel: it is damaged, or points to a file outside its folder.
        """
        try:
            found = cls.of(path.read_bytes())
        except (ValueError, IndexError) as exc:
            raise UnsupportedModel(f"{path} is not a whole ONNX model: {exc}") from exc
        for location in sorted(found.external):
            _check_beside(path, location)
        return found

    @classmethod
    def of(cls, content: bytes) -> OnnxFile:
        """
        Split *content*, a ModelProto.

        Raises:
            ValueError, IndexError: it is damaged.
        """
        model = list(fields(memoryview(content)))
        graphs = [v for n, _, v in model if n == _MODEL_GRAPH and isinstance(v, memoryview)]
        if len(graphs) != 1:
            raise ValueError(f"it has {len(graphs)} graphs")
        graph = list(fields(graphs[0]))
        external = set(_external_in_graph(graphs[0], 0))
        for number, _, value in model:
            if number == _MODEL_FUNCTIONS and isinstance(value, memoryview):
                external.update(_external_in_nodes(value, _FUNCTION_NODE, 0))
        nodes = [
            Node.read(v) for n, _, v in graph if n == _GRAPH_NODE and isinstance(v, memoryview)
        ]
        return cls([f for f in model if f[0] != _MODEL_GRAPH], graph, nodes, external)

    @property
    def inputs(self) -> dict[str, bytes]:
        """The ValueInfoProto of each input, by name."""
        return dict(self._ends(_GRAPH_INPUT))

    @property
    def outputs(self) -> dict[str, bytes]:
        """The ValueInfoProto of each output, by name."""
        return dict(self._ends(_GRAPH_OUTPUT))

    def _ends(self, which: int) -> Iterator[tuple[str, bytes]]:
        for number, _, value in self.graph:
            if number == which and isinstance(value, memoryview):
                names = [v for n, _, v in fields(value) if n == 1 and isinstance(v, memoryview)]
                yield _text(names[0]), bytes(value)

    def every_node(self) -> Iterator[tuple[str, Node]]:
        """Yield each operator and its place, those within branches, loops and functions too."""
        whole = b"".join(encoded(*each) for each in self.graph)
        yield from _placed(memoryview(whole), _GRAPH_NODE, "the graph", 0)
        for number, _, value in self.head:
            if number == _MODEL_FUNCTIONS and isinstance(value, memoryview):
                names = [v for n, _, v in fields(value) if n == 1 and isinstance(v, memoryview)]
                of = f"the function {_text(names[0])!r}" if names else "a function"
                yield from _placed(value, _FUNCTION_NODE, of, 0)

    @property
    def unranked(self) -> set[str]:
        """The inputs and outputs of which the file says no shape, which is not the shape []."""
        found: set[str] = set()
        for number, _, value in self.graph:
            if number in (_GRAPH_INPUT, _GRAPH_OUTPUT) and isinstance(value, memoryview):
                parts = {n: v for n, _, v in fields(value) if isinstance(v, memoryview)}
                of = {n: v for n, _, v in fields(parts.get(_VALUE_TYPE, _NOTHING))}
                tensor = of.get(_TYPE_TENSOR)
                told = (
                    {n for n, _, _ in fields(tensor)}
                    if isinstance(tensor, memoryview)
                    else {_TENSOR_SHAPE}
                )
                if _TENSOR_SHAPE not in told:
                    found.add(_text(parts[1]))
        return found

    def edited(
        self,
        drop: Iterable[Node] = (),
        inputs: Iterable[bytes] = (),
        outputs: Iterable[bytes] = (),
        by_row: bool = False,
        before: Iterable[bytes] = (),
        after: Iterable[bytes] = (),
    ) -> bytes:
        """
        Return the model without the nodes *drop*, its inputs or outputs replaced if given.

        The nodes *before* come ahead of its own, those *after* at the end.

        What it says of the shapes between is left out: onnxruntime infers them anew. *by_row*
        flattens each row by itself where all was flattened into one: the same where there is one.
        """
        dropped = {tuple(node.outputs) for node in drop}
        inputs, outputs = list(inputs), list(outputs)
        without = {_GRAPH_VALUE_INFO}
        without |= {_GRAPH_INPUT} if inputs else set()
        without |= {_GRAPH_OUTPUT} if outputs else set()
        kept = [encoded(_GRAPH_NODE, 2, each) for each in before]
        order = iter(self.nodes)
        for number, kind, value in self.graph:
            if number == _GRAPH_NODE and isinstance(value, memoryview):
                node = next(order)
                if tuple(node.outputs) in dropped:
                    continue
                if by_row and node.op_type == "Flatten":
                    value = _flattened_by_row(value)
            if number not in without:
                kept.append(encoded(number, kind, value))
        kept += [encoded(_GRAPH_NODE, 2, each) for each in after]
        kept += [encoded(_GRAPH_INPUT, 2, each) for each in inputs]
        kept += [encoded(_GRAPH_OUTPUT, 2, each) for each in outputs]
        head = b"".join(encoded(*each) for each in self.head)
        return head + encoded(_MODEL_GRAPH, 2, b"".join(kept))


def is_ort(path: Path) -> bool:
    """Whether the file at *path* is of onnxruntime's own format, a flatbuffer."""
    with path.open("rb") as file:
        return file.read(8)[4:] == ORT_MAGIC


def ends_on_nothing(path: Path) -> str:
    """
    Return the operator in the file at *path* which ends the process when its input is empty; "".

    Found by running the cases of ONNX' conformance suite, and rankers, with a size of 0. Wherever
    it stands in a model (a branch, a function), a NodeProto's field 4 names it, or, in an .ort
    file, a string.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for name in (b"GRU", b"LSTM", b"DynamicQuantizeLSTM", b"Einsum"):
            field_4, string = bytes([0x22, len(name)]), len(name).to_bytes(4, "little")
            if content.find(field_4 + name) >= 0 or content.find(string + name + b"\0") >= 0:
                return name.decode()
    return ""


def _flattened_by_row(node: memoryview) -> memoryview:
    kept = [encoded(*each) for each in fields(node) if each[0] != 5]  # axis is 1 unless said
    return memoryview(b"".join(kept))


def node_of(
    op_type: str, inputs: Iterable[str], outputs: Iterable[str], integers: Mapping[str, int]
) -> bytes:
    """Return a NodeProto of ai.onnx whose attributes are integers."""
    parts = [encoded(1, 2, each.encode()) for each in inputs]
    parts += [encoded(2, 2, each.encode()) for each in outputs]
    parts.append(encoded(4, 2, op_type.encode()))
    for name, value in integers.items():  # type 2 is INT
        attribute = encoded(1, 2, name.encode()) + encoded(3, 0, value) + encoded(20, 0, 2)
        parts.append(encoded(5, 2, attribute))
    return b"".join(parts)


def value_info(name: str, element_type: int, shape: Iterable[int | str]) -> bytes:
    """Return a ValueInfoProto of a tensor; a size that is text is a free one of that name."""
    sizes = b"".join(
        encoded(1, 2, encoded(1, 0, d) if isinstance(d, int) else encoded(2, 2, d.encode()))
        for d in shape
    )
    tensor = encoded(1, 0, element_type) + encoded(2, 2, sizes)
    return encoded(1, 2, name.encode()) + encoded(2, 2, encoded(1, 2, tensor))


def _placed(
    owner: memoryview, node_field: int, where: str, depth: int
) -> Iterator[tuple[str, Node]]:
    if depth > _MAX_DEPTH:
        raise ValueError(f"its graphs are nested deeper than {_MAX_DEPTH}")
    each = (v for n, _, v in fields(owner) if n == node_field and isinstance(v, memoryview))
    for at, data in enumerate(each):
        node = Node.read(data)
        yield f"node {at} of {where}", node
        for name, attribute in node.attributes.items():
            for number, _, value in fields(attribute):
                if number in (6, 11) and isinstance(value, memoryview):  # g, graphs
                    within = f"{name} of node {at} of {where}"
                    yield from _placed(value, _GRAPH_NODE, within, depth + 1)


def _external_in_graph(graph: memoryview, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise ValueError(f"its graphs are nested deeper than {_MAX_DEPTH}")
    for number, _, value in fields(graph):
        if not isinstance(value, memoryview):
            continue
        if number == _GRAPH_INITIALIZER:
            yield from _external(value)
        elif number == _GRAPH_SPARSE:  # values, indices
            for inner, _, tensor in fields(value):
                if inner in (1, 2) and isinstance(tensor, memoryview):
                    yield from _external(tensor)
    yield from _external_in_nodes(graph, _GRAPH_NODE, depth)


def _external_in_nodes(owner: memoryview, node_field: int, depth: int) -> Iterator[str]:
    for number, _, node in fields(owner):
        if number != node_field or not isinstance(node, memoryview):
            continue
        for inner, _, attribute in fields(node):
            if inner != 5 or not isinstance(attribute, memoryview):
                continue
            for which, _, value in fields(attribute):
                if not isinstance(value, memoryview):
                    continue
                if which in (5, 10):  # t, tensors
                    yield from _external(value)
                elif which in (6, 11):  # g, graphs
                    yield from _external_in_graph(value, depth + 1)


def _external(tensor: memoryview) -> Iterator[str]:
    entries: dict[str, str] = {}
    outside = False
    for number, _, value in fields(tensor):
        if number == _TENSOR_DATA_LOCATION:
            outside = value == 1
        elif number == _TENSOR_EXTERNAL_DATA and isinstance(value, memoryview):
            pair = {n: _text(v) for n, _, v in fields(value) if isinstance(v, memoryview)}
            entries[pair.get(1, "")] = pair.get(2, "")
    if outside or entries:
        yield entries.get("location", "")


def _check_beside(path: Path, location: str) -> None:
    parts = Path(location).parts
    inside = bool(parts) and not Path(location).is_absolute() and ".." not in parts
    folder = path.parent
    for part in parts if inside else ():
        folder = folder / part
        inside = inside and not folder.is_symlink()
    if not inside:
        raise UnsupportedModel(
            f"{path} keeps tensors in {location!r}: they must lie in plain files in its own folder"
        )
    if not folder.is_file():
        raise UnsupportedModel(f"{path} keeps tensors in {location!r}, which is missing")
