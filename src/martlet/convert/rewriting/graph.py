"""An ONNX model as nodes and tensors: what depends on what, parts cut out, parts replaced."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import (
    AttributeProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from martlet.errors import UnsupportedModel

Array = NDArray[Any]

# The oldest operator set whose forms the steps of this room write.
OPSET = 13
_SIZES = ("Shape", "Size")
_NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Sources:
    """
    What one tensor is computed from.

    Args:
        inputs: The graph's inputs whose values it depends on.
        sizes: The graph's inputs of which it asks no more than the shape.
        constants: The initialisers.
    """

    inputs: frozenset[str] = _NOTHING
    sizes: frozenset[str] = _NOTHING
    constants: frozenset[str] = _NOTHING

    @property
    def fed(self) -> frozenset[str]:
        """All inputs that must be given to compute it."""
        return self.inputs | self.sizes

    def __or__(self, other: Sources) -> Sources:
        return Sources(
            self.inputs | other.inputs,
            self.sizes | other.sizes,
            self.constants | other.constants,
        )


class Graph:
    """
    A model's top graph, to read and to edit. The model it is made from is not changed.

    Constants are initialisers whichever way the file had them, and no input is an initialiser
    (what a file before IR version 4 had to declare twice). Functions are written out.

    Args:
        model: Its tensors within it, or loaded with it.

    Raises:
        UnsupportedModel: its operator set is too old to be brought to 13.
    """

    def __init__(self, model: ModelProto) -> None:
        model = _modern(model)
        self._model = model
        graph = model.graph
        self.constants: dict[str, TensorProto] = {each.name: each for each in graph.initializer}
        self.nodes: list[NodeProto] = []
        aliases: dict[str, str] = {}  # exporters share a table by Identity
        for node in graph.node:
            for i, name in enumerate(node.input):
                node.input[i] = aliases.get(name, name)
            constant = _constant(node)
            if constant is not None:
                self.constants[node.output[0]] = constant
                continue
            if node.op_type == "Identity" and node.input[0] in self.constants:
                aliases[node.output[0]] = node.input[0]
            self.nodes.append(node)
        self.inputs: dict[str, ValueInfoProto] = {
            each.name: each for each in graph.input if each.name not in self.constants
        }
        self.outputs: dict[str, ValueInfoProto] = {each.name: each for each in graph.output}
        self._arrays: dict[str, Array] = {}
        self._fresh = 0

    def copy(self) -> Graph:
        """Return a graph to edit without changing this one."""
        found = copy(self)
        found.nodes, found.constants = list(self.nodes), dict(self.constants)
        found._arrays = dict(self._arrays)
        return found

    def array(self, name: str) -> Array:
        """Return a constant's value; read-only, and parsed once."""
        if name not in self._arrays:
            self._arrays[name] = numpy_helper.to_array(self.constants[name])
        return self._arrays[name]

    def constant(self, value: Any, name: str = "constant") -> str:
        """Add a constant and return its name."""
        name = self.fresh(name)
        self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def fresh(self, name: str) -> str:
        """Return a name that no tensor of the graph has."""
        # A part that was cut out holds names that the whole was given here.
        taken = {*self.constants, *self.inputs, *(o for node in self.nodes for o in node.output)}
        while (found := f"martlet/{name}_{self._fresh}") in taken:
            self._fresh += 1
        self._fresh += 1
        return found

    def sources(self) -> dict[str, Sources]:
        """Return what each tensor is computed from, in the order in which they are computed."""
        found: dict[str, Sources] = {name: Sources(frozenset({name})) for name in self.inputs}
        found |= {name: Sources(constants=frozenset({name})) for name in self.constants}
        for node in self.nodes:
            one = Sources()
            for name in needed(node):
                one |= found.get(name, Sources())
            if node.op_type in _SIZES:
                one = Sources(sizes=one.fed)
            found.update((name, one) for name in node.output if name)
        return found

    def live(self, outputs: Iterable[str] | None = None, given: Collection[str] = ()) -> set[str]:
        """Return the tensors that *outputs* (the graph's own) need where *given* are given."""
        wanted = set(self.outputs if outputs is None else outputs)
        for node in reversed(self.nodes):
            if any(name in wanted and name not in given for name in node.output):
                wanted.update(needed(node))
        return wanted

    def cut(self, inputs: Mapping[str, ValueInfoProto], outputs: Sequence[str]) -> ModelProto:
        """
        Return the part that computes *outputs* from *inputs* and constants.

        Args:
            inputs: Tensors of this graph, and what they are; those not needed are left out.
            outputs: Tensors of this graph; what they are is inferred by who runs it.
        """
        live = self.live(outputs, inputs)
        nodes = [
            node
            for node in self.nodes
            if any(name in live and name not in inputs for name in node.output)
        ]
        graph = helper.make_graph(
            nodes,
            self._model.graph.name or "graph",
            [info for name, info in inputs.items() if name in live],
            [
                self.outputs.get(name) or helper.make_empty_tensor_value_info(name)
                for name in outputs
            ],
        )
        for name, tensor in self.constants.items():
            if name in live and name not in inputs:
                kept = graph.initializer.add()
                kept.CopyFrom(tensor)
                kept.name = name
        model = helper.make_model(
            graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version
        )
        model.producer_name = self._model.producer_name
        return model

    def model(self) -> ModelProto:
        """Return the whole graph as a model, without what no output needs; inputs all stay."""
        model = self.cut(self.inputs, list(self.outputs))
        kept = {each.name for each in model.graph.input}
        model.graph.input.extend(info for name, info in self.inputs.items() if name not in kept)
        return model

    def replace(self, name: str, nodes: Sequence[NodeProto]) -> None:
        """Let *nodes*, whose last one gives *name*, compute it instead of the node that does."""
        at = next(i for i, node in enumerate(self.nodes) if name in node.output)
        old = self.nodes[at]
        rest = NodeProto()
        rest.CopyFrom(old)
        del rest.output[:]
        rest.output.extend("" if each == name else each for each in old.output)
        kept = [rest] if any(rest.output) else []
        self.nodes[at : at + 1] = [*kept, *nodes]

    @property
    def opset(self) -> int:
        """The version of ONNX's own operators."""
        return opset_of(self._model)

    def use(self, domain: str, version: int) -> None:
        """Let there be operators of *domain*, of this version at least."""
        for each in self._model.opset_import:
            if each.domain == domain:
                each.version = max(each.version, version)
                return
        self._model.opset_import.append(helper.make_opsetid(domain, version))


def needed(node: NodeProto) -> list[str]:
    """Return the tensors that *node* reads, those that its inner graphs read from outside too."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            own = {each.name for each in (*inner.input, *inner.initializer)}
            own |= {name for each in inner.node for name in each.output}
            read = [name for each in inner.node for name in needed(each)]
            read += [each.name for each in inner.output]
            names += [name for name in read if name not in own]
    return names


def session(model: ModelProto) -> Any:
    """
    Open *model* in onnxruntime, with one thread.

    Raises:
        UnsupportedModel: onnxruntime does not take it.
    """
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 4
    try:
        content = model.SerializeToString()  # raises beyond 2 GiB
        return ort.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    except Exception as exc:  # onnxruntime's errors share no base class
        raise UnsupportedModel(f"this part of the graph does not load: {exc}") from exc


def answer(opened: Any, feed: Mapping[str, Array]) -> list[Array] | None:
    """Return every output of an opened part for *feed*; None where it refuses."""
    wanted = {each.name for each in opened.get_inputs()}
    try:
        return list(opened.run(None, {name: feed[name] for name in wanted}))
    except Exception:  # onnxruntime's errors share no base class
        return None


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """Return the value of an attribute, or *default* where the node has none of that name."""
    for each in node.attribute:
        if each.name == name:
            return helper.get_attribute_value(each)
    return default


def opset_of(model: ModelProto) -> int:
    """Return the version of ONNX's own operators that *model* is written in."""
    return max(int(each.version) for each in model.opset_import if each.domain in ("", "ai.onnx"))


def _modern(model: ModelProto) -> ModelProto:
    found = ModelProto()
    found.CopyFrom(model)
    if found.functions:
        import onnx.inliner

        found = onnx.inliner.inline_local_functions(found)
    version = opset_of(found)
    if version < OPSET:
        import onnx.version_converter

        found.ir_version = max(found.ir_version, 4)
        try:
            found = onnx.version_converter.convert_version(found, OPSET)
        except Exception as exc:  # of the converter's C++, and RuntimeError
            raise UnsupportedModel(
                f"operator set {version} cannot be brought to {OPSET}, which is needed: {exc}"
            ) from exc
    found.ir_version = max(found.ir_version, 4)
    return found


def _constant(node: NodeProto) -> TensorProto | None:
    if node.op_type != "Constant":
        return None
    (given,) = node.attribute
    if given.type == AttributeProto.TENSOR:
        found: TensorProto = given.t
        return found
    if given.name in ("value_float", "value_floats"):
        return numpy_helper.from_array(np.array(helper.get_attribute_value(given), np.float32))
    if given.name in ("value_int", "value_ints"):
        return numpy_helper.from_array(np.array(helper.get_attribute_value(given), np.int64))
    if given.name in ("value_string", "value_strings"):
        return numpy_helper.from_array(np.array(helper.get_attribute_value(given), object))
    return None
