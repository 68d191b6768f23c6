"""Pruning: weights, or whole units, that change little are left out of a net.

Weights go by size (Han et al., 2015): the file shrinks, and the arithmetic stays, since no runtime
here skips zeros. Units go by what they pass on (Hu et al., 2016, judge a unit by its activations):
the layers become smaller matrices, which is faster everywhere. What a unit passes on in the mean is
added to the next layer's bias, so that only its variation is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, SparseTensorProto, numpy_helper

from martlet.convert.rewriting.graph import Graph, attribute, session
from martlet.tensors import Tensors

Floats = NDArray[Any]

# Activations by unit: what they give for a unit depends on that unit alone.
_BY_UNIT = {
    *("Relu", "LeakyRelu", "ThresholdedRelu", "Elu", "Selu", "Celu", "Gelu", "Clip", "Identity"),
    *("Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus", "Softsign", "Erf"),
}
_LEAST_UNITS = 4
# COO costs a value and its place (8 bytes) for each weight that stays.
_PLACE_BYTES = 8


def without_weights(model: ModelProto, share: float) -> ModelProto:
    """
    Return *model* with the smallest *share* of each matrix' weights set to zero.

    A matrix that is smaller so is written as a sparse tensor.
    """
    graph = Graph(model)
    found = ModelProto()
    found.CopyFrom(graph.model())
    for name in {layer.weights for layer in _layers(graph)}:
        weights = graph.array(name).copy()
        size = np.abs(weights)
        weights[size <= np.quantile(size, share)] = 0
        _write(found, name, weights)
    return found


def without_units(model: ModelProto, share: float, calibration: Sequence[Tensors]) -> ModelProto:
    """
    Return *model* without the *share* of each hidden layer's units that pass on least.

    Args:
        calibration: Inputs as they come in practice; what a unit passes on is measured on them.
    """
    graph = Graph(model)
    for below, units, above in _pairs(graph):
        values = _values(graph, units, calibration)
        if values is None:
            continue
        onto = above.matrix(graph)
        passed = values.std(axis=0) * np.linalg.norm(onto, axis=1)
        gone = np.argsort(passed, kind="stable")[: round(share * len(passed))]
        kept = np.setdiff1d(np.arange(len(passed)), gone)
        if not len(gone) or len(kept) < _LEAST_UNITS:
            continue
        above.add_bias(graph, values[:, gone].mean(axis=0) @ onto[gone])
        above.keep(graph, inputs=kept)
        below.keep(graph, outputs=kept)
    return graph.model()


@dataclass(slots=True)
class _Layer:
    """
    A product with a constant matrix.

    Args:
        node: ``Gemm`` or ``MatMul``.
        bias: The node that holds the constant that is added, if any, and which of its inputs.
        output: The sum's name.
    """

    node: NodeProto
    bias: tuple[NodeProto, int] | None
    output: str

    @property
    def weights(self) -> str:
        return str(self.node.input[1])

    @property
    def _transposed(self) -> bool:
        return self.node.op_type == "Gemm" and bool(attribute(self.node, "transB", 0))

    def matrix(self, graph: Graph) -> Floats:
        """The weights, [inputs, outputs]."""
        found = graph.array(self.weights)
        return found.T if self._transposed else found

    def keep(
        self, graph: Graph, inputs: Floats | None = None, outputs: Floats | None = None
    ) -> None:
        """Leave only these inputs, or outputs, in the weights and the bias."""
        found = self.matrix(graph)
        found = found if inputs is None else found[inputs]
        if outputs is not None:
            found = found[:, outputs]
            if self.bias is not None:
                self._set_bias(graph, graph.array(self._bias_name).reshape(-1)[outputs])
        stored = found.T if self._transposed else found
        self.node.input[1] = graph.constant(np.ascontiguousarray(stored), "pruned")

    def add_bias(self, graph: Graph, more: Floats) -> None:
        """Add *more* to what is added."""
        assert self.bias is not None, "_pairs gives layers whose upper one has a bias"
        stored = graph.array(self._bias_name).reshape(-1)
        self._set_bias(graph, (stored + more).astype(stored.dtype))

    @property
    def _bias_name(self) -> str:
        assert self.bias is not None
        node, place = self.bias
        return str(node.input[place])

    def _set_bias(self, graph: Graph, values: Floats) -> None:
        assert self.bias is not None
        node, place = self.bias
        node.input[place] = graph.constant(values, "bias")


def _layers(graph: Graph) -> Iterator[_Layer]:
    users = _users(graph)
    for node in graph.nodes:
        if node.op_type not in ("Gemm", "MatMul") or node.input[1] not in graph.constants:
            continue
        if graph.array(node.input[1]).ndim != 2 or graph.array(node.input[1]).dtype.kind != "f":
            continue
        if node.op_type == "Gemm":
            plain = attribute(node, "alpha", 1.0) == 1.0 == attribute(node, "beta", 1.0)
            if plain and not attribute(node, "transA", 0):
                has_bias = len(node.input) > 2 and node.input[2] in graph.constants
                yield _Layer(node, (node, 2) if has_bias else None, node.output[0])
            continue
        after = users.get(node.output[0], [])
        if len(after) == 1 and after[0].op_type == "Add":
            place = 1 if after[0].input[0] == node.output[0] else 0
            if after[0].input[place] in graph.constants:
                yield _Layer(node, (after[0], place), after[0].output[0])
                continue
        yield _Layer(node, None, node.output[0])


def _pairs(graph: Graph) -> Iterator[tuple[_Layer, str, _Layer]]:
    """Give each hidden layer, the name of its activated units, and the layer above it."""
    users = _users(graph)
    layers = list(_layers(graph))
    above = {layer.node.input[0]: layer for layer in layers}
    shared = [layer.weights for layer in layers]
    for layer in layers:
        at = layer.output
        if layer.bias is None or graph.array(layer._bias_name).size != layer.matrix(graph).shape[1]:
            continue
        while at not in above and at not in graph.outputs:
            after = users.get(at, [])
            if len(after) != 1 or after[0].op_type not in _BY_UNIT or after[0].input[0] != at:
                break
            at = after[0].output[0]
        upper = above.get(at)
        if upper is None or at in graph.outputs or len(users[at]) != 1 or upper.bias is None:
            continue
        if graph.array(upper._bias_name).size != upper.matrix(graph).shape[1]:
            continue
        # Tied weights would be pruned for both places by the figures of one.
        if shared.count(layer.weights) == shared.count(upper.weights) == 1:
            yield layer, at, upper


def _users(graph: Graph) -> dict[str, list[NodeProto]]:
    found: dict[str, list[NodeProto]] = {}
    for node in graph.nodes:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def _values(graph: Graph, name: str, calibration: Sequence[Tensors]) -> Floats | None:
    """Return a tensor's values over all rows of *calibration*, [rows, units]."""
    opened = session(graph.cut(graph.inputs, [name]))
    wanted = [each.name for each in opened.get_inputs()]
    found = [
        opened.run([name], {each: np.ascontiguousarray(feed[each]) for each in wanted})[0]
        for feed in calibration
    ]
    rows = [np.asarray(each, np.float64).reshape(-1, each.shape[-1]) for each in found]
    return np.concatenate(rows) if rows else None


def _write(model: ModelProto, name: str, weights: Floats) -> None:
    (at,) = [i for i, each in enumerate(model.graph.initializer) if each.name == name]
    places = np.flatnonzero(weights)
    if len(places) * (weights.itemsize + _PLACE_BYTES) >= weights.nbytes or not len(places):
        model.graph.initializer[at].CopyFrom(numpy_helper.from_array(weights, name))
        return
    del model.graph.initializer[at]
    sparse = SparseTensorProto(dims=weights.shape)
    sparse.values.CopyFrom(numpy_helper.from_array(weights.reshape(-1)[places], name))
    sparse.indices.CopyFrom(numpy_helper.from_array(places.astype(np.int64), f"{name}_places"))
    model.graph.sparse_initializer.append(sparse)
