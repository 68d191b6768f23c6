"""TFLite, run by LiteRT."""

from __future__ import annotations

import struct
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from martlet.errors import InvalidInput, ServableFailed, UnsupportedModel
from martlet.formats import Format, LoadOptions
from martlet.formats.flatbuffers import Table
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import DType, Signature, Spec, Tensor, Tensors

TENSORS = "tensors"


class TFLiteServable:
    """
    One interpreter; one call at a time.

    The file's own signatures, under their names, their inputs bound by name. ``tensors`` is the
    main graph by the names of its tensors, and the default where the file has no signature; the
    default takes its names too. Where the file was converted with a free first axis it is free
    here; where it is fixed at 1, rows are run one by one. Quantised tensors stay as they are,
    scale and zero point in their description. What a recurrent layer remembers is forgotten
    before each run: one request's answer does not hang on another's.
    """

    def __init__(self, path: Path, options: LoadOptions) -> None:
        from ai_edge_litert.interpreter import Interpreter

        content = path.read_bytes()
        _check(path, content)
        try:
            self._remembers = _remembers(content)
            self._interpreter = Interpreter(model_content=content, num_threads=options.threads)
            self._interpreter.allocate_tensors()
            self._graphs = self._read()
        except (ValueError, RuntimeError, struct.error) as exc:
            raise UnsupportedModel(f"{path} is not a TFLite model that loads: {exc}") from exc
        self._lock = threading.Lock()
        self._shapes: dict[str, tuple[int, ...]] = {}
        own = {n: g.signature for n, g in self._graphs.items()}
        if DEFAULT_SIGNATURE not in own:
            first = next(iter(own))
            own = {DEFAULT_SIGNATURE: own[first], **own}
            self._graphs[DEFAULT_SIGNATURE] = self._graphs[first]
        default = own[DEFAULT_SIGNATURE]
        if TENSORS in own and own[TENSORS].inputs.keys() != default.inputs.keys():
            own[DEFAULT_SIGNATURE] = Signature(default.inputs, default.outputs, also=TENSORS)
        self.signatures: Mapping[str, Signature] = own

    def _read(self) -> dict[str, _Graph]:
        model = self._interpreter
        names = list(model.get_signature_list())
        if len(names) > 1:  # each its own subgraph
            graphs = {}
            for name in names:
                run = model.get_signature_runner(name)
                details = run.get_input_details(), run.get_output_details()
                graphs[name] = _Graph(*details, partial(self._call, run))
            return graphs
        self._inputs = {each["name"]: each for each in model.get_input_details()}
        self._outputs = {each["name"]: each for each in model.get_output_details()}
        graphs = {TENSORS: _Graph(self._inputs, self._outputs, self._run)}
        for name in names:
            # The runner is dropped at once: while it lives the interpreter cannot be resized.
            run = model.get_signature_runner(name)
            inputs, outputs = run.get_input_details(), run.get_output_details()
            del run
            given = {n: each["name"] for n, each in inputs.items()}
            told = {n: each["name"] for n, each in outputs.items()}
            graphs[name] = _Graph(inputs, outputs, partial(self._renamed, given, told))
        return graphs

    def _call(self, run: Any, feed: Tensors) -> dict[str, Tensor]:
        if self._remembers:
            self._interpreter.reset_all_variables()
        found: dict[str, Tensor] = run(**feed)
        return found

    def _renamed(
        self, given: Mapping[str, str], told: Mapping[str, str], feed: Tensors
    ) -> dict[str, Tensor]:
        found = self._run({given[name]: value for name, value in feed.items()})
        return {name: found[tensor] for name, tensor in told.items()}

    def _run(self, feed: Tensors) -> dict[str, Tensor]:
        model = self._interpreter
        shapes = {name: value.shape for name, value in feed.items()}
        if shapes != self._shapes:
            for name, shape in shapes.items():
                model.resize_tensor_input(self._inputs[name]["index"], shape)
            model.allocate_tensors()
            self._shapes = shapes
        if self._remembers:
            model.reset_all_variables()
        for name, value in feed.items():
            model.set_tensor(self._inputs[name]["index"], value)
        model.invoke()
        return {name: model.get_tensor(each["index"]) for name, each in self._outputs.items()}

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """Run one graph. Shapes and dtypes as the file declares them."""
        graph = self._graphs[signature_name]
        try:
            with self._lock:
                return graph.run(inputs)
        except (ValueError, RuntimeError) as exc:
            text = str(exc)
            # An id outside a table is found by the operator: the caller's, not the model's.
            if "out of bounds" in text or "out of range" in text or "out of table" in text:
                raise InvalidInput(f"the model refuses these values: {text}") from exc
            raise ServableFailed(f"LiteRT failed: {text}") from exc

    def close(self) -> None:
        """Free the interpreter."""
        del self._graphs, self._interpreter


class _Graph:
    """One subgraph: what it takes and gives, and how it is run."""

    def __init__(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any], run: Any) -> None:
        given = [_spec(name, each) for name, each in inputs.items()]
        told = [_spec(name, each) for name, each in outputs.items()]
        self._one_row = all((s.shape or ())[:1] == (1,) for s in [*given, *told])
        if self._one_row:
            given, told = [_rows(s) for s in given], [_rows(s) for s in told]
        self._outputs = told
        self._run = run
        self.signature = Signature.of(given, told)

    def run(self, inputs: Tensors) -> dict[str, Tensor]:
        rows = {len(value) for value in inputs.values() if value.ndim}
        if rows == {0}:
            return {
                s.name: np.empty((0, *(max(d, 0) for d in (s.shape or ())[1:])), s.dtype.numpy)
                for s in self._outputs
            }
        if not self._one_row or rows == {1}:
            return dict(self._run(inputs))
        if len(rows) != 1:
            raise InvalidInput(f"the inputs differ in rows: {sorted(rows)}")
        found = [
            dict(self._run({n: v[i : i + 1] for n, v in inputs.items()})) for i in range(*rows)
        ]
        return {name: np.concatenate([each[name] for each in found]) for name in found[0]}


def _spec(name: str, details: Mapping[str, Any]) -> Spec:
    dtype = np.dtype(details["dtype"])
    if dtype.kind == "c":
        raise ValueError(f"{name!r} is {dtype}, which is not supported")
    shape = details.get("shape_signature")
    if shape is None or not len(shape):
        shape = details["shape"]
    if any(size < -1 for size in shape):
        raise ValueError(f"{name!r} has the shape {list(map(int, shape))}")
    scale, zero = details["quantization"]
    return Spec(
        name,
        DType.of(dtype),
        tuple(int(size) for size in shape),
        description=f"real = {scale:.9g} * (stored - {zero})" if scale else "",
    )


def _rows(spec: Spec) -> Spec:
    return Spec(spec.name, spec.dtype, (-1, *(spec.shape or ())[1:]), description=spec.description)


# Fields of a Model, a SubGraph and a Tensor, by number, in TensorFlow's
# ``compiler/mlir/lite/schema/schema.fbs``.
_SUBGRAPHS, _TENSORS, _IS_VARIABLE = 2, 0, 5


def _remembers(content: bytes) -> bool:
    """Return whether a run changes what the next one begins with."""
    return any(
        tensor.number(_IS_VARIABLE, "b", 0)
        for graph in Table.root(content).tables(_SUBGRAPHS)
        for tensor in graph.tables(_TENSORS)
    )


def _check(path: Path, content: bytes) -> None:
    # The first word of a flatbuffer is the offset of its root table.
    if content[4:8] != b"TFL3" or not 8 <= int.from_bytes(content[:4], "little") < len(content):
        raise UnsupportedModel(f"{path} is not a TFLite model: its header is damaged")


def _sniff(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(8)[4:] == b"TFL3"


FORMAT = Format(
    name="tflite",
    suffixes=(".tflite",),
    sniff=_sniff,
    load=TFLiteServable,
    extra="tflite",
)
