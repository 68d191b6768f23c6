"""Writing an ONNX graph by formulas: values that add and compare, and rows that are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from martlet.convert.to_onnx.fit import ELEMENTS, fitted
from martlet.tensors import DType, Signature

OPSETS = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 5)]
ML = "ai.onnx.ml"


class Value:
    """One tensor of a graph that is being written."""

    __array_ufunc__ = None  # an array beside it leaves the operation to it

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph = graph
        self.name = name

    def __add__(self, other: Any) -> Value:
        return self.graph.call("Add", self, other)

    def __radd__(self, other: Any) -> Value:
        return self.graph.call("Add", other, self)

    def __sub__(self, other: Any) -> Value:
        return self.graph.call("Sub", self, other)

    def __rsub__(self, other: Any) -> Value:
        return self.graph.call("Sub", other, self)

    def __mul__(self, other: Any) -> Value:
        return self.graph.call("Mul", self, other)

    def __rmul__(self, other: Any) -> Value:
        return self.graph.call("Mul", other, self)

    def __truediv__(self, other: Any) -> Value:
        return self.graph.call("Div", self, other)

    def __rtruediv__(self, other: Any) -> Value:
        return self.graph.call("Div", other, self)

    def __neg__(self) -> Value:
        return self.graph.call("Neg", self)

    def __matmul__(self, other: Any) -> Value:
        return self.graph.call("MatMul", self, other)

    def __lt__(self, other: Any) -> Value:
        return self.graph.call("Less", self, other)

    def __le__(self, other: Any) -> Value:
        return self.graph.call("LessOrEqual", self, other)

    def __gt__(self, other: Any) -> Value:
        return self.graph.call("Greater", self, other)

    def __ge__(self, other: Any) -> Value:
        return self.graph.call("GreaterOrEqual", self, other)

    def __or__(self, other: Value) -> Value:
        return self.graph.call("Or", self, other)

    def __and__(self, other: Value) -> Value:
        return self.graph.call("And", self, other)

    def __invert__(self) -> Value:
        return self.graph.call("Not", self)

    def equals(self, other: Any) -> Value:
        """Whether the elements are equal."""
        return self.graph.call("Equal", self, other)

    def is_nan(self) -> Value:
        """Whether the elements are NaN."""
        return self.graph.call("IsNaN", self)

    def cast(self, dtype: DType) -> Value:
        """The elements as *dtype*."""
        return self.graph.call("Cast", self, to=ELEMENTS[dtype])

    def float64(self) -> Value:
        """The elements as float64."""
        return self.cast(DType.FLOAT64)

    def column(self, place: int) -> Value:
        """Column *place* of a matrix. Shape [rows]."""
        return self.graph.call("Gather", self, np.array(place), axis=1)

    def as_column(self) -> Value:
        """A vector as a matrix of one column. Shape [rows, 1]."""
        return self.graph.call("Unsqueeze", self, np.array([1]))

    def reduce(self, operator: str, keepdims: bool = False) -> Value:
        """Each row reduced by ``ReduceSum``, ``ReduceMax`` ... Shape [rows], or [rows, 1]."""
        return self.graph.call(operator, self, np.array([1]), keepdims=int(keepdims))


class Graph:
    """
    An ONNX graph while it is written.

    Numbers are float64, columns [rows] or matrices [rows, width]; text is a column of strings.
    """

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []
        self._names: dict[str, str] = {}
        self._count = 0

    def input(self, name: str, dtype: DType, width: int | None = None) -> Value:
        """Declare the input *name*: a column, or a matrix *width* wide (-1: any)."""
        shape: list[Any] = ["rows"] if width is None else ["rows", None if width < 0 else width]
        own = f"in_{len(self._inputs)}"
        self._inputs.append(helper.make_tensor_value_info(own, ELEMENTS[dtype], shape))
        self._names[name] = own
        return Value(self, own)

    def constant(self, value: Any) -> Value:
        """Return *value* as a constant: float64, int64 and bool arrays, or text."""
        array = np.asarray(value)
        if array.dtype.kind == "U":
            array = array.astype(object)
        self._count += 1
        name = f"c{self._count}"
        if array.dtype.kind == "O":
            texts: Any = [str(each).encode() for each in array.reshape(-1)]
            made = helper.make_tensor(name, TensorProto.STRING, array.shape, texts)
        else:
            made = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        self._constants.append(made)
        return Value(self, name)

    def call(
        self, operator: str, *inputs: Any, domain: str = "", title: str = "", **attributes: Any
    ) -> Value:
        """
        Add a node and return its output; arrays and numbers among *inputs* become constants.

        Args:
            title: The node's name, which onnxruntime tells where it fails.
        """
        given = []
        for each in inputs:
            if isinstance(each, float | int) and not isinstance(each, bool):
                each = np.float64(each)
            given.append(each.name if isinstance(each, Value) else self.constant(each).name)
        self._count += 1
        name = f"v{self._count}"
        self._nodes.append(
            helper.make_node(
                operator, given, [name], name=f"{title or operator} [{name}]", domain=domain,
                **attributes,
            )
        )  # fmt: skip
        return Value(self, name)

    def where(self, mask: Value, yes: Any, no: Any) -> Value:
        """Return *yes* where *mask* is, else *no*."""
        return self.call("Where", mask, yes, no)

    def side_by_side(self, *parts: Value) -> Value:
        """Return matrices as one matrix."""
        return parts[0] if len(parts) == 1 else self.call("Concat", *parts, axis=1)

    def filled(self, like: Value, value: float) -> Value:
        """Return a column as long as the column *like*, all *value*."""
        size = self.call("Shape", like, start=0, end=1)
        tensor = numpy_helper.from_array(np.array([value], np.float64))
        return self.call("ConstantOfShape", size, value=tensor)

    def refused(self, column: Value, mask: Value, why: str, *, rank: int = 1) -> Value:
        """
        Return *column* (or matrix), of a graph that fails where *mask* holds in any row.

        ONNX has no operator that refuses a value: an index beyond a table of one shape does.
        """
        count = self.call("ReduceSum", self.call("Cast", mask, to=TensorProto.INT64), keepdims=0)
        index = self.call("Min", count, np.array(1))
        shapes = np.zeros((1, rank), np.int64)  # 0: as it was
        shape = self.call("Gather", shapes, index, title=f"refused: {why}")
        return self.call("Reshape", column, shape)

    def model(self, signature: Signature, outputs: Mapping[str, Value]) -> ModelProto:
        """
        Return the graph with the inputs and outputs of *signature*.

        Raises:
            UnsupportedModel: an output of the signature is not among *outputs*.
        """
        infos, names = [], {}
        for name, spec in signature.outputs.items():
            if name not in outputs:
                continue
            value = outputs[name]
            if spec.shape is not None and -1 not in spec.shape[1:]:
                value = self.call("Reshape", value, np.array([-1, *spec.shape[1:]], np.int64))
            names[name] = value.name
            # What is declared here is the rank alone: fitted() casts whatever it is.
            shape = [None] * len(spec.shape or (-1,))
            element = ELEMENTS[spec.dtype]
            infos.append(helper.make_tensor_value_info(value.name, element, shape))
        graph = helper.make_graph(self._nodes, "martlet", self._inputs, infos, self._constants)
        model = helper.make_model(graph, opset_imports=OPSETS, ir_version=10)
        return fitted(model, signature, self._names, names)
