"""ONNX, run by onnxruntime."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats import LoadOptions
from martlet.formats.onnx.errors import refused, translated
from martlet.formats.onnx.file import (
    ELEMENT_TYPES,
    Node,
    OnnxFile,
    ends_on_nothing,
    is_ort,
    node_of,
    value_info,
)
from martlet.formats.onnx.narrow import narrow, widened
from martlet.formats.onnx.values import End
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import DType, Signature, Spec, Tensor, Tensors

_TENSOR = re.compile(r"tensor\((\w+)\)")


class OnnxServable:
    """
    One onnxruntime session.

    A ``ZipMap`` at the end (scikit-learn's converters put a dictionary a row there) gives the
    tensor that it would have wrapped; its classes stand in the output's description. Sequences,
    maps and optionals are tensors as `End` says. A graph whose inputs and outputs are all fixed at
    one row takes any number of rows: in one run where that was found to change no answer, else a
    run a row.
    """

    def __init__(self, path: Path, options: LoadOptions) -> None:
        path = path / "model.onnx" if path.is_dir() else path
        file = None if is_ort(path) else OnnxFile.read(path)
        open_ = Opener(path, options)
        content: bytes | None = None
        zip_maps = _zip_maps(file) if file is not None else {}
        if file is not None and zip_maps:
            content = _without(zip_maps, file)
            file = OnnxFile.of(content)
        self._session = open_(content)
        told = {each.name: narrow(each) for each in _ends(self._session)}
        renamed: dict[str, str] = {}
        if file is not None and any(told.values()):
            content, renamed = widened(file, self._session)
            self._session = open_(content)
        told |= {name: _classes(node) for name, node in zip_maps.items()}

        def end(node: Any, **more: bool) -> End:
            inner: str = node.name
            name = renamed.get(inner, inner)
            return End.read(path, node, name=name, told=told.get(name, ""), **more)

        asked = {node.name: end(node, given=True) for node in self._session.get_inputs()}
        optional = self._session.get_overridable_initializers()
        asked |= {node.name: end(node, given=True, required=False) for node in optional}
        self._told = [end(node, given=False) for node in self._session.get_outputs()]
        unranked = file.unranked if file is not None else set()
        inputs = [_as_told(s, unranked) for each in asked.values() for s in each.specs]
        specs = [_as_told(s, unranked) for each in self._told for s in each.specs]
        self._prepared = [
            (inner, each)
            for inner, each in asked.items()
            if inner != each.name or not each.kind.plain or each.kind.dtype is DType.STRING
        ]
        specs = self._rows_freed(inputs, specs)
        # A ZipMap's output is a list, of no said length, whatever the rows.
        sized = [*inputs, *(s for s in specs if s.name not in zip_maps)]
        self._one_row = not optional and all((s.shape or ())[:1] == (1,) for s in sized)
        if self._one_row:
            inputs, specs = _free_rows(inputs), _free_rows(specs)
        self._outputs = specs
        self._call = self._session.run
        self._fetch: list[str] = [node.name for node in self._session.get_outputs()]
        if self._one_row and file is not None and not renamed:
            self._serve_batches(open_, file, inputs)
        # Most models: tensors in, tensors out, nothing to prepare; or one tensor out, too.
        self._plain = all(each.kind.plain for each in self._told)
        straight = self._plain and not (self._prepared or self._one_row)
        self._only = self._told[0].name if straight and len(self._told) == 1 else None
        # The session's own ``run`` checks names that the signature has checked, and asks for
        # settings that are not set: a third of a small model's call. What it wraps is private,
        # so a version that has no such thing is called the long way.
        wrapped = getattr(self._session, "_sess", self._session)
        ends = ends_on_nothing(path)
        self._call = _never_empty(wrapped.run, ends) if ends else wrapped.run
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
        for inner, end in self._prepared:
            for spec in end.specs:
                feed.pop(spec.name, None)
            if end.name in inputs or end.kind.optional:
                feed[inner] = end.value(inputs)
        found = self._run_rows(feed) if self._one_row else self._run(feed)
        if self._plain:
            return {end.name: each for end, each in zip(self._told, found, strict=True)}
        told = zip(self._told, found, strict=True)
        return {name: each for end, value in told for name, each in end.tensors(value)}

    def _run(self, feed: Mapping[str, Any]) -> list[Any]:
        try:
            found: list[Any] = self._call(self._fetch, feed, None)
        except Exception as exc:  # onnxruntime's errors share no base class
            return self._failed(feed, exc)
        return found

    def _failed(self, feed: Mapping[str, Any], exc: Exception) -> list[Tensor]:
        """Raise what *exc* is in our tree; or answer no rows with none, where that was it."""
        none = all(isinstance(v, np.ndarray) and v.shape[:1] == (0,) for v in feed.values())
        if not none or not feed:
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

    def _rows_freed(self, inputs: list[Spec], outputs: list[Spec]) -> list[Spec]:
        """Return *outputs*; of any rows where the file says one and gives what came in."""
        said = [(s.shape or ())[:1] == (1,) for s in outputs]
        free = all((s.shape or ())[:1] == (-1,) for s in inputs)
        # onnxmltools says so of the labels of LightGBM.
        if not (any(said) and free and inputs) or self._prepared:
            return outputs
        try:
            found = self._session.run(None, _sample(inputs, 2, 1))
        except Exception:  # a graph that refuses the sample is as it says
            return outputs
        if len(found) != len(outputs):
            return outputs
        wrong = [one and np.shape(v)[:1] == (2,) for one, v in zip(said, found, strict=True)]
        each = zip(outputs, wrong, strict=True)
        return [_free_rows([s])[0] if rows else s for s, rows in each]

    def _serve_batches(self, open_: Opener, file: OnnxFile, inputs: list[Spec]) -> None:
        """Free the graph's first axis if a run over several rows answers as runs of one do."""
        if self._prepared:
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
        # What a file is, its bytes say, not its name.
        told = "ORT" if is_ort(path) else "ONNX"
        self._settings.add_session_config_entry("session.load_model_format", told)
        self._settings.log_severity_level = 4

    def __call__(self, content: bytes | None) -> Any:
        source = str(self._path) if content is None else content
        try:
            found = self._session(source, self._settings, providers=["CPUExecutionProvider"])
            for node in _ends(found):
                _ = node.shape  # text that is no UTF-8 is found when it is asked for
            return found
        except Exception as exc:  # onnxruntime's errors share no base class
            raise refused(self._path, exc) from exc


def _never_empty(run: Callable[..., list[Any]], operator: str) -> Callable[..., list[Any]]:
    """Return *run*, which refuses an empty tensor before onnxruntime sees it."""

    def guarded(fetch: list[str], feed: Mapping[str, Any], settings: Any) -> list[Any]:
        for name, value in feed.items():
            if isinstance(value, np.ndarray) and not value.size:
                raise InvalidInput(
                    f"input {name!r} has shape {list(value.shape)}, and {operator}, which the "
                    "model uses, takes nothing that is empty"
                )
        return run(fetch, feed, settings)

    return guarded


def _ends(session: Any) -> list[Any]:
    return [*session.get_inputs(), *session.get_outputs()]


def _zip_maps(file: OnnxFile) -> dict[str, Node]:
    """Return the ZipMaps that give an output of the graph and nothing else, by its name."""
    taken = {name for node in file.nodes for name in node.inputs}
    return {
        node.outputs[0]: node
        for node in file.nodes
        if node.op_type == "ZipMap"
        and node.outputs[:1] != node.inputs
        and node.outputs[0] in file.outputs.keys() - taken
    }


def _classes(node: Node) -> str:
    return "columns are the classes " + ", ".join(_labels(node))


def _labels(node: Node) -> list[str]:
    return node.values("classlabels_int64s") or node.values("classlabels_strings")


def _without(zip_maps: Mapping[str, Node], file: OnnxFile) -> bytes:
    """Return the graph with the tensors that its ZipMaps would wrap, under their names."""
    outputs = {
        name: value_info(name, 1, [f"{name}_rows", len(_labels(zip_maps[name]))])
        if name in zip_maps
        else told
        for name, told in file.outputs.items()
    }
    tensors = [node_of("Identity", node.inputs, node.outputs, {}) for node in zip_maps.values()]
    return file.edited(drop=zip_maps.values(), outputs=outputs.values(), after=tensors)


def _value_infos(nodes: Sequence[Any]) -> list[bytes]:
    """Return what the graph is to say of *nodes*, all tensors, whose first axis is any size."""
    found = []
    for node in nodes:
        match = _TENSOR.fullmatch(node.type)
        if match is None:
            raise UnsupportedModel(f"{node.name!r} is a {node.type}, which has no rows")
        sizes = [d if isinstance(d, int) else d or f"{node.name}_{i}" for i, d in _each(node)]
        sizes[0] = "martlet_rows"
        found.append(value_info(node.name, ELEMENT_TYPES[match[1]], sizes))
    return found


def _each(node: Any) -> Any:
    return enumerate(node.shape)


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
