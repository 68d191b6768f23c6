"""TFLite, run by LiteRT."""

from __future__ import annotations

import re
import struct
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from martlet.errors import InvalidInput, ServableFailed, UnsupportedModel
from martlet.formats import Format, LoadOptions
from martlet.formats.tensorflow.tflite_file import Outline, outline_of
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
        outline = _outline(path, content)
        if outline.flex:  # LiteRT itself may find out as late as a loop's body runs
            raise UnsupportedModel(
                f"{path} is not a TFLite model that loads: it uses TensorFlow's own operators "
                f"{', '.join(outline.flex)} (SELECT_TF_OPS), which LiteRT does not have: serve "
                "the SavedModel, or convert it with TFLITE_BUILTINS alone"
            )
        try:
            # It is kept for the file's content that it holds: weights are read from there.
            self._interpreter = Interpreter(model_content=content, num_threads=options.threads)
            self._interpreter.allocate_tensors()
            self._graphs = dict(_graphs(self._interpreter, outline))
        except (ValueError, RuntimeError) as exc:
            raise UnsupportedModel(
                f"{path} is not a TFLite model that loads: {_sentence(exc)}"
            ) from exc
        self._lock = threading.Lock()
        own = {n: g.signature for n, g in self._graphs.items()}
        if DEFAULT_SIGNATURE not in own:
            first = next(iter(own))
            own = {DEFAULT_SIGNATURE: own[first], **own}
            self._graphs[DEFAULT_SIGNATURE] = self._graphs[first]
        default = own[DEFAULT_SIGNATURE]
        if TENSORS in own and own[TENSORS].inputs.keys() != default.inputs.keys():
            own[DEFAULT_SIGNATURE] = Signature(default.inputs, default.outputs, also=TENSORS)
        self.signatures: Mapping[str, Signature] = own

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """Run one graph. Shapes and dtypes as the file declares them."""
        graph = self._graphs[signature_name]
        try:
            with self._lock:
                return graph.run(inputs)
        except (ValueError, RuntimeError) as exc:
            text = _sentence(exc)
            # An id outside a table is found by the operator: the caller's, not the model's.
            if "out of bounds" in text or "out of range" in text or "out of table" in text:
                raise InvalidInput(f"the model refuses these values: {text}") from exc
            raise ServableFailed(f"LiteRT failed: {text}") from exc

    def close(self) -> None:
        """Free the interpreter."""
        del self._graphs, self._interpreter


def _graphs(model: Any, outline: Outline) -> Iterator[tuple[str, _Graph]]:
    """Yield the main graph and the file's signatures, by name."""
    # The interpreter's own methods reach the main graph alone; its signatures' runner asks what is
    # within for the others, and so do we, without sizing every tensor anew for each call.
    within = model._interpreter
    parts = [_Subgraph(within, n, outline.remembers) for n in range(within.NumSubgraphs())]
    told = within.GetSignatureDefs()
    if len(told) < 2:  # several have no graph that is the main one
        inputs = _named(model.get_input_details())
        yield TENSORS, _Graph(parts[0], inputs, _named(model.get_output_details()), outline)
    for name, signature in told.items():
        part = parts[within.GetSubgraphIndexFromSignature(name)]
        inputs, outputs = (
            {key: model._get_tensor_details(at, part.number) for key, at in signature[side].items()}
            for side in ("inputs", "outputs")
        )
        yield name, _Graph(part, inputs, outputs, outline)


def _named(details: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return tensors by name; one without a name of its own is called by its number too."""
    found: dict[str, dict[str, Any]] = {}
    for each in details:
        name, number = each["name"], each["index"]
        taken = not name or (name in found and found[name]["index"] != number)
        found[f"{name}#{number}" if taken else name] = each
    return found


class _Subgraph:
    """One subgraph of an interpreter, called by the numbers of its tensors."""

    def __init__(self, interpreter: Any, number: int, remembers: bool) -> None:
        self._interpreter = interpreter
        self.number = number
        self._remembers = remembers
        self._shapes: list[tuple[int, tuple[int, ...]]] | None = None

    def run(self, given: list[tuple[int, Tensor]], wanted: list[int]) -> list[Tensor]:
        """
        Return the tensors *wanted* for those *given*.

        Raises:
            InvalidInput: it cannot be run with tensors of these shapes.
            ValueError, RuntimeError: the run itself failed.
        """
        model, number = self._interpreter, self.number
        shapes = [(at, value.shape) for at, value in given]
        if shapes != self._shapes:
            self._shapes = None  # refused half-way, they are neither the old nor the new
            try:
                for at, shape in shapes:
                    model.ResizeInputTensor(at, np.array(shape, np.int32), False, number)
                model.AllocateTensors(number)
            except (ValueError, RuntimeError) as exc:
                asked = ", ".join(str(list(shape)) for _, shape in shapes)
                raise InvalidInput(
                    f"the model cannot be run with inputs of shape {asked}: {_sentence(exc)}"
                ) from exc
            self._shapes = shapes
        if self._remembers:
            model.ResetVariableTensors()
        for at, value in given:
            model.SetTensor(at, value, number)
        model.Invoke(number)
        return [model.GetTensor(at, number) for at in wanted]


class _Graph:
    """A subgraph by names: what it takes and gives."""

    def __init__(
        self,
        part: _Subgraph,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any],
        outline: Outline,
    ) -> None:
        given, told = (
            [_spec(name, each, each["index"] in outline.unranked[part.number]) for name, each in s]
            for s in (inputs.items(), outputs.items())
        )
        self._one_row = all((s.shape or ())[:1] == (1,) for s in [*given, *told])
        if self._one_row:
            given, told = [_rows(s) for s in given], [_rows(s) for s in told]
        self._part = part
        self._numbers = {name: each["index"] for name, each in inputs.items()}
        self._wanted = [each["index"] for each in outputs.values()]
        self._outputs = told
        self.signature = Signature.of(given, told)

    def run(self, inputs: Tensors) -> dict[str, Tensor]:
        rows = {len(value) for value in inputs.values() if value.ndim}
        if rows == {0} and all((s.shape or ())[:1] == (-1,) for s in self._outputs):
            return {
                s.name: np.empty((0, *(max(d, 0) for d in (s.shape or ())[1:])), s.dtype.numpy)
                for s in self._outputs
            }
        if not self._one_row or rows == {1}:
            return self._run(inputs)
        if len(rows) != 1:
            raise InvalidInput(f"the inputs differ in rows: {sorted(rows)}")
        found = [self._run({n: v[i : i + 1] for n, v in inputs.items()}) for i in range(*rows)]
        return {name: np.concatenate([each[name] for each in found]) for name in found[0]}

    def _run(self, inputs: Tensors) -> dict[str, Tensor]:
        numbers = self._numbers
        found = self._part.run([(numbers[n], v) for n, v in inputs.items()], self._wanted)
        return {spec.name: value for spec, value in zip(self._outputs, found, strict=True)}


def _spec(name: str, details: Mapping[str, Any], unranked: bool) -> Spec:
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
        None if unranked else tuple(int(size) for size in shape),
        description=f"real = {scale:.9g} * (stored - {zero})" if scale else "",
    )


def _rows(spec: Spec) -> Spec:
    return Spec(spec.name, spec.dtype, (-1, *(spec.shape or ())[1:]), description=spec.description)


def _outline(path: Path, content: bytes) -> Outline:
    try:
        return outline_of(content)
    except (ValueError, struct.error) as exc:
        raise UnsupportedModel(f"{path} is not a TFLite model: it is damaged: {exc}") from exc


def _sentence(exc: Exception) -> str:
    # LiteRT strings its reports together without a space.
    return re.sub(r"(?<=[^\s])(?=Node number \d)", ": ", str(exc)).strip()


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
