"""ONNX, run by onnxruntime."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from martlet.errors import InvalidInput, ServableFailed, UnsupportedModel
from martlet.formats import Format, LoadOptions
from martlet.formats.onnx_file import ELEMENT_TYPES, Node, OnnxFile, value_info
from martlet.formats.onnx_narrow import narrow, widened
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import DType, Signature, Spec, Tensor, Tensors

_DTYPES = {"float": DType.FLOAT32, "double": DType.FLOAT64} | {
    each.value: each for each in DType if each not in (DType.FLOAT32, DType.FLOAT64)
}
_TYPE = re.compile(r"(seq\()?tensor\((\w+)\)\)?")
_ORT_MAGIC = b"ORTM"


class OnnxServable:
    """
    One onnxruntime session.

    A ``ZipMap`` at the end (scikit-learn's converters put a dictionary a row there) gives the
    tensor that it would have wrapped; its classes stand in the output's description. A sequence
    of tensors is one tensor, its elements stacked. A graph whose inputs and outputs are all
    fixed at one row takes any number of rows: in one run where that was found to change no
    answer, else a run a row.
    """

    def __init__(self, path: Path, options: LoadOptions) -> None:
        path = path / "model.onnx" if path.is_dir() else path
        file = None if _is_ort(path) else OnnxFile.read(path)
        open_ = Opener(path, options)
        zip_maps = _zip_maps(file) if file is not None else {}
        self._session = open_(None)
        renamed: dict[str, str] = {node.inputs[0]: name for name, node in zip_maps.items()}
        types = {each.name: narrow(each) for each in _ends(self._session)}
        if file is not None and zip_maps:
            outputs = _outputs_without(self._session, zip_maps)
            self._session = open_(file.edited(drop=zip_maps.values(), outputs=outputs))
        elif file is not None and any(types.values()):
            content, renamed = widened(file, self._session)
            self._session = open_(content)
        self._call = self._session.run
        self._fetch: list[str] = [node.name for node in self._session.get_outputs()]
        self._names = [renamed.get(name, name) for name in self._fetch]
        optional = self._session.get_overridable_initializers()
        unranked = file.unranked if file is not None else set()
        asked = {str(node.name): node for node in self._session.get_inputs()}
        own = {renamed.get(inner, inner): node for inner, node in asked.items()}
        inputs = [
            _spec(path, node, name=name, told=types.get(name, "")) for name, node in own.items()
        ]
        self._inner = {renamed[inner]: inner for inner in asked if inner in renamed}
        inputs += [_spec(path, node, required=False) for node in optional]
        specs = [
            _spec(path, node, name=name, told=types.get(name) or _classes(zip_maps.get(name)))
            for node, name in zip(self._session.get_outputs(), self._names, strict=True)
        ]
        inputs, specs = ([_as_told(s, unranked) for s in each] for each in (inputs, specs))
        self._sequences = {n.name for n in self._session.get_inputs() if n.type[:4] == "seq("}
        self._strings = [spec.name for spec in inputs if spec.dtype is DType.STRING]
        self._one_row = not optional and all(
            spec.shape is not None and spec.shape[:1] == (1,) for spec in [*inputs, *specs]
        )
        if self._one_row:
            inputs, specs = _free_rows(inputs), _free_rows(specs)
        self._outputs = specs
        if self._one_row and file is not None and not renamed:
            self._serve_batches(open_, file, inputs)
        # Most models: tensors in, one tensor out, nothing to prepare.
        plain = not (self._strings or self._sequences or self._one_row or self._inner)
        plain = plain and self._session.get_outputs()[0].type.startswith("tensor")
        self._only = self._names[0] if plain and len(self._names) == 1 else None
        # The session's own ``run`` checks names that the signature has checked, and asks for
        # settings that are not set: a third of a small model's call. What it wraps is private,
        # so a version that has no such thing is called the long way.
        wrapped = getattr(self._session, "_sess", self._session)
        self._call = wrapped.run
        self.signatures: Mapping[str, Signature] = {DEFAULT_SIGNATURE: Signature.of(inputs, specs)}

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """Run the graph. Shapes and dtypes as the file declares them."""
        if self._only is not None:
            try:
                return {self._only: self._call(self._fetch, inputs, None)[0]}
            except Exception as exc:  # onnxruntime's errors share no base class
                return {self._only: self._failed(inputs, exc)[0]}
        feed: dict[str, Any] = dict(inputs)
        for name in self._strings:
            if name in inputs:
                feed[name] = text_for(name, inputs[name])
        for name in self._sequences:
            feed[name] = list(inputs[name])
        for name, inner in self._inner.items():
            feed[inner] = feed.pop(name)
        found = self._run_rows(feed) if self._one_row else self._run(feed)
        return dict(zip(self._names, found, strict=True))

    def _run(self, feed: Mapping[str, Any]) -> list[Tensor]:
        try:
            found = self._call(self._fetch, feed, None)
        except Exception as exc:  # onnxruntime's errors share no base class
            return self._failed(feed, exc)
        return [_stacked(each) if isinstance(each, list) else each for each in found]

    def _failed(self, feed: Mapping[str, Any], exc: Exception) -> list[Tensor]:
        """Raise what *exc* is in our tree; or answer no rows with none, where that was it."""
        none = all(isinstance(v, np.ndarray) and v.shape[:1] == (0,) for v in feed.values())
        if not none or not feed or self._sequences:
            raise translated(exc) from exc
        # Some operators take no empty tensor: one row tells what the answers look like.
        one = {
            n: np.full((1, *v.shape[1:]), "" if v.dtype == object else 0, v.dtype)
            for n, v in feed.items()
        }
        try:
            found = self._call(self._fetch, one, None)
        except Exception:  # not a row of zeros either
            raise translated(exc) from exc
        if any(not isinstance(each, np.ndarray) or each.shape[:1] != (1,) for each in found):
            raise translated(exc) from exc
        return [each[:0] for each in found]

    def _run_rows(self, feed: dict[str, Tensor]) -> list[Tensor]:
        counts = set(map(len, feed.values()))
        if len(counts) != 1:
            found = ", ".join(f"{name!r} {len(value)}" for name, value in feed.items())
            raise InvalidInput(f"the inputs differ in rows: {found}")
        (count,) = counts
        if count == 1:
            return self._run(feed)
        if not count:
            shapes = [[max(d, 0) for d in spec.shape or ()] for spec in self._outputs]
            return [
                np.empty([0, *shape[1:]], spec.dtype.numpy)
                for shape, spec in zip(shapes, self._outputs, strict=True)
            ]
        rows = [self._run({n: v[i : i + 1] for n, v in feed.items()}) for i in range(count)]
        return [np.concatenate(each) for each in zip(*rows, strict=True)]

    def _serve_batches(self, open_: Opener, file: OnnxFile, inputs: list[Spec]) -> None:
        """Free the graph's first axis if a run over several rows answers as runs of one do."""
        if self._strings:
            return  # no text is sure to be in the model's vocabulary: nothing to try it with
        content = file.edited(
            inputs=_value_infos(self._session.get_inputs()),
            outputs=_value_infos(self._session.get_outputs()),
            by_row=True,
        )
        try:
            batched = open_(content)
            for seed, count in ((1, 2), (2, 7)):
                feed = _sample(inputs, count, seed)
                expected = self._run_rows(feed)
                found = batched.run(self._fetch, feed)
                if not all(map(_same, found, expected)):
                    return
        except Exception:  # a graph that needs its one row: the loop serves it
            return
        self._session = batched
        self._one_row = False

    def close(self) -> None:
        """Free the session and its weights."""
        del self._call, self._session


def freed(path: Path) -> bytes:
    """
    Return the graph at *path*, which declares one row, with its first axes free.

    Whether it then answers several rows as it answers each is for the caller to find out.
    """
    session = Opener(path, LoadOptions())(None)
    return OnnxFile.read(path).edited(
        inputs=_value_infos(session.get_inputs()),
        outputs=_value_infos(session.get_outputs()),
        by_row=True,
    )


class Opener:
    """Opens sessions over one file, or over an edited copy of its graph (None: as it is)."""

    def __init__(self, path: Path, options: LoadOptions) -> None:
        import onnxruntime as ort

        self._path = path
        self._session = ort.InferenceSession
        self._settings = ort.SessionOptions()
        self._settings.intra_op_num_threads = options.threads
        self._settings.inter_op_num_threads = 1
        # A worker shares its core with the socket loop: a spinning pool would take it away.
        self._settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._settings.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(path.parent)
        )
        self._settings.log_severity_level = 4

    def __call__(self, content: bytes | None) -> Any:
        source = str(self._path) if content is None else content
        try:
            found = self._session(source, self._settings, providers=["CPUExecutionProvider"])
            for node in _ends(found):
                _ = node.shape  # text that is no UTF-8 is found when it is asked for
            return found
        except Exception as exc:  # onnxruntime's errors share no base class
            raise UnsupportedModel(f"{self._path} is not an ONNX model that loads: {exc}") from exc


def _ends(session: Any) -> list[Any]:
    return [*session.get_inputs(), *session.get_outputs()]


def _zip_maps(file: OnnxFile) -> dict[str, Node]:
    return {node.outputs[0]: node for node in file.nodes if node.op_type == "ZipMap"}


def _classes(node: Node | None) -> str:
    if node is None:
        return ""
    found = node.values("classlabels_int64s") or node.values("classlabels_strings")
    return "columns are the classes " + ", ".join(found)


def _outputs_without(session: Any, zip_maps: Mapping[str, Node]) -> list[bytes]:
    found = []
    for node in session.get_outputs():
        if node.name in zip_maps:
            classes = len(_classes(zip_maps[node.name]).split(", "))
            found.append(value_info(zip_maps[node.name].inputs[0], 1, ["rows", classes]))
        else:
            found += _value_infos([node], free=False)
    return found


def _value_infos(nodes: Sequence[Any], free: bool = True) -> list[bytes]:
    found = []
    for node in nodes:
        match = _TYPE.fullmatch(node.type)
        if match is None or match[1]:
            raise UnsupportedModel(f"{node.name!r} is a {node.type}, which is not supported here")
        sizes = [d if isinstance(d, int) else d or f"{node.name}_{i}" for i, d in _each(node)]
        if free:
            sizes[0] = "martlet_rows"
        found.append(value_info(node.name, ELEMENT_TYPES[match[2]], sizes))
    return found


def _each(node: Any) -> Any:
    return enumerate(node.shape)


def _spec(path: Path, node: Any, *, name: str = "", required: bool = True, told: str = "") -> Spec:
    match = _TYPE.fullmatch(node.type)
    if match is None or match[2] not in _DTYPES:
        raise UnsupportedModel(f"{path}: {node.name!r} is a {node.type}, which is not supported")
    shape = None
    if not match[1]:
        shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    return Spec(name or node.name, _DTYPES[match[2]], shape, required, description=told)


def _as_told(spec: Spec, unranked: set[str]) -> Spec:
    return replace(spec, shape=None) if spec.name in unranked else spec


def _free_rows(specs: list[Spec]) -> list[Spec]:
    return [replace(spec, shape=(-1, *(spec.shape or ())[1:])) for spec in specs]


def _sample(specs: list[Spec], count: int, seed: int) -> dict[str, Tensor]:
    random = np.random.default_rng(seed)
    found: dict[str, Tensor] = {}
    for spec in specs:
        shape = (count, *(max(size, 3) if size == -1 else size for size in (spec.shape or ())[1:]))
        # Integers are ids more often than not, and every table has rows 0 and 1.
        values = random.normal(size=shape) if spec.dtype.is_float else random.integers(0, 2, shape)
        found[spec.name] = values.astype(spec.dtype.numpy)
    return found


def _same(found: Tensor, expected: Tensor) -> bool:
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    if expected.dtype.kind == "f":
        return bool(np.allclose(found, expected, rtol=1e-5, atol=1e-6, equal_nan=True))
    return bool(np.array_equal(found, expected))


def _stacked(sequence: list[Any]) -> Tensor:
    try:
        return np.stack(sequence) if sequence else np.empty((0,))
    except (ValueError, TypeError) as exc:
        raise ServableFailed(
            f"the model gave a sequence whose elements cannot be one tensor: {exc}"
        ) from exc


def text_for(name: str, values: Tensor) -> Tensor:
    """
    Return text as onnxruntime takes it: an array of ``str``.

    Raises:
        InvalidInput: a value is missing, or no UTF-8.
    """
    try:
        flat = [v.decode() if isinstance(v, bytes) else v for v in values.ravel().tolist()]
    except UnicodeDecodeError as exc:
        raise InvalidInput(f"input {name!r} holds bytes that are not UTF-8: {exc}") from None
    if None in flat:
        raise InvalidInput(f"input {name!r} has a missing value, and ONNX has no missing text")
    return np.array(flat, dtype=object).reshape(values.shape)


def translated(exc: Exception) -> InvalidInput | ServableFailed:
    """Return what an error of onnxruntime is in our tree."""
    text = str(exc)
    # onnxruntime says INVALID_ARGUMENT for what the caller sent; an index outside a table
    # is found by the operator, and comes as a failure of the run.
    if type(exc).__name__ == "InvalidArgument" or "out of data bounds" in text:
        return InvalidInput(f"the model refuses these values: {text}")
    return ServableFailed(f"onnxruntime failed: {text}")


def _is_ort(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(8)[4:] == _ORT_MAGIC


def _sniff(path: Path) -> bool:
    # A ModelProto begins with field 1, ir_version (a small varint), then field 2
    # (producer_name), 7 (graph) or 8 (opset_import). https://onnx.ai/onnx/repo-docs/IR.html
    path = path / "model.onnx" if path.is_dir() else path
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(8)
    begins = head[:1] == b"\x08" and 1 <= head[1] <= 32 if len(head) == 8 else False
    return head[4:] == _ORT_MAGIC or (begins and head[2] in b"\x12\x1a\x22\x2a\x32\x3a\x42")


FORMAT = Format(
    name="onnx",
    suffixes=(".onnx", ".ort"),
    sniff=_sniff,
    load=OnnxServable,
)
