"""Keras models (``.keras``, ``.h5``), rebuilt by Keras and run by TensorFlow."""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from martlet.errors import UnsupportedModel
from martlet.formats import Format, LoadOptions, archives
from martlet.formats.isolated import Isolated
from martlet.servable import DEFAULT_SIGNATURE, Servable

_HDF5 = b"\x89HDF\r\n\x1a\n"
_PARTS = {"config.json", "metadata.json", "model.weights.h5"}

# What a config may name: Keras' own parts. Keras imports whatever module a config names.
_MODULE = re.compile(
    r"(tf_)?keras(\.src)?\.(activations|constraints|dtype_policies|engine|initializers|layers|legacy"
    r"|losses|metrics|mixed_precision|models|ops|optimizers|quantizers|random|regularizers)(\.\w+)*"
)
_UTILS = {("keras.utils", "FeatureSpace")}
_CODE = frozenset(
    {
        *("Lambda", "__lambda__", "function", "TorchModuleWrapper", "TFSMLayer", "JaxLayer"),
        "FlaxLayer",
    }
)
_TF_FUNCTION = re.compile(
    r"(math|nn|linalg|__operators__|compat\.v1\.(math|nn))\.\w+(\.\w+)?|cast|concat|expand_dims"
    r"|reshape|squeeze|stack|transpose|split|tile|identity|shape|where|gather|one_hot|reduce_\w+"
    r"|zeros_like|ones_like|clip_by_value|unstack|broadcast_to|convert_to_tensor|slice"
)


def load(path: Path, options: LoadOptions) -> Servable:
    """
    Open a Keras 3 or Keras 2 model.

    A config that names code (a Lambda, a class outside Keras) is opened only when trusted, and
    then in a process of its own.

    Raises:
        UnsupportedModel: weights without a model, code without trust, damage.
    """
    config, version = _read(path)
    reason = next(_code(config), "")
    if not reason:
        return _open(path, options, version, safe=True)
    _demand_trust(path, reason, options.trusted)
    return Isolated("martlet.formats.keras:open_trusted", path, options)


def open_trusted(path: Path, options: LoadOptions) -> Servable:
    """Open the model at *path* with the code in it: in the isolated process alone."""
    _, version = _read(path)
    return _open(path, options, version, safe=False)


def export(path: Path, folder: Path, trusted: bool) -> None:
    """
    Write the Keras model at *path* as a SavedModel; call it in a process that may be lost.

    Raises:
        UnsupportedModel: as ``load``.
    """
    config, version = _read(path)
    reason = next(_code(config), "")
    if reason:
        _demand_trust(path, reason, trusted)
    _rebuild(path, version, folder, safe=not reason)


def _demand_trust(path: Path, reason: str, trusted: bool) -> None:
    if not trusted:
        raise UnsupportedModel(
            f"{path} holds code ({reason}), which opening it would run: export it to SavedModel "
            "or ONNX, or load it with trusted=True (--trusted) if you made it"
        )


def _read(path: Path) -> tuple[Any, str]:
    """Return the model's config and the version of Keras that wrote it."""
    try:
        if path.is_dir():
            return _read_parts(lambda name: (path / name).read_bytes())
        if archives.is_archive(path):
            archives.check(path)
            with zipfile.ZipFile(path) as archive:
                return _read_parts(archive.read)
        return _read_hdf5(path)
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as exc:
        raise UnsupportedModel(f"{path} is not a whole Keras model: {exc}") from exc


def _read_parts(read: Callable[[str], bytes]) -> tuple[Any, str]:
    told, config = (orjson.loads(read(name)) for name in ("metadata.json", "config.json"))
    _check_hdf5(io.BytesIO(read("model.weights.h5")))
    # How it was trained (a loss of the user's own) is in the file, and is not built.
    config.pop("compile_config", None)
    return config, str(told.get("keras_version", "3"))


def _read_hdf5(path: Path) -> tuple[Any, str]:
    import h5py

    _check_hdf5(path)
    with h5py.File(path, "r") as file:
        config = file.attrs.get("model_config")
        version = file.attrs.get("keras_version", "2")
    if config is None:
        raise UnsupportedModel(
            f"{path} holds weights without a model: save it whole, with model.save('model.keras')"
        )
    return orjson.loads(config), version.decode() if isinstance(version, bytes) else str(version)


def _check_hdf5(source: Any) -> None:
    """Refuse links and datasets that lie in other files."""
    import h5py

    seen = set()  # by many links to the same groups there are more paths than could be walked

    def visit(group: Any, depth: int) -> None:
        if depth > 64:
            raise ValueError("its groups are nested too deep")
        place = h5py.h5o.get_info(group.id).addr
        if place in seen:
            return
        seen.add(place)
        for name in group:
            if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
                raise ValueError(f"{name!r} is a link to another file")
            item = group[name]
            if isinstance(item, h5py.Group):
                visit(item, depth + 1)
            elif getattr(item, "external", None) or getattr(item, "is_virtual", False):
                raise ValueError(f"{name!r} lies in another file")

    with h5py.File(source, "r") as file:
        visit(file, 0)


def _code(config: Any) -> Iterator[str]:
    """Yield what in *config* would run, or read, something that is not Keras' own."""
    if isinstance(config, list):
        for each in config:
            yield from _code(each)
    if not isinstance(config, dict):
        return
    name, module = config.get("class_name"), config.get("module")
    if isinstance(name, str):
        if name.split(">")[-1] in _CODE:
            yield f"a {name} layer"
        elif isinstance(module, str) and not _known(module, name):
            yield f"{module}.{name}"
        elif name in ("TFOpLambda", "SlicingOpLambda"):
            function = str((config.get("config") or {}).get("function"))
            if not _TF_FUNCTION.fullmatch(function):
                yield f"a call of tf.{function}"
    if isinstance(config.get("vocabulary"), str):
        yield f"a vocabulary in the file {config['vocabulary']!r}"
    for each in config.values():
        yield from _code(each)


def _known(module: str, name: str) -> bool:
    if module == "builtins":
        return name in ("slice", "tuple", "dict", "list", "int", "float", "str", "bool")
    return (
        module in ("keras", "tf_keras")
        or (module, name) in _UTILS
        or _MODULE.fullmatch(module) is not None
    )


def _open(path: Path, options: LoadOptions, version: str, *, safe: bool) -> Servable:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with tempfile.TemporaryDirectory(prefix="martlet-") as folder:
        # Keras rebuilds the layers; TensorFlow runs their graph some ten times faster alone.
        _rebuild(path, version, Path(folder), safe=safe)
        from martlet.formats.savedmodel import SavedModelServable

        return SavedModelServable(Path(folder), options)


def _rebuild(path: Path, version: str, folder: Path, *, safe: bool) -> None:
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    keras: Any = importlib.import_module("tf_keras" if version.startswith(("1", "2")) else "keras")
    try:
        model = keras.models.load_model(str(path), compile=False, safe_mode=safe)
    except Exception as exc:  # of keras, h5py and tensorflow, on what they do not know
        raise UnsupportedModel(f"{path} is not a Keras model that loads: {exc}") from exc
    if hasattr(model, "get_encoded_features"):  # a FeatureSpace, which is no model by itself
        model = keras.Model(model.get_inputs(), model.get_encoded_features())
    if not getattr(model, "inputs", None):
        raise UnsupportedModel(
            f"{path} is a {type(model).__name__} whose inputs are not known: export it with "
            "model.export(), which says what they are"
        )
    try:
        _export(keras, model, folder)
    except Exception as exc:  # of keras and tensorflow, on what TensorFlow cannot write
        raise UnsupportedModel(f"{path} cannot be written as a graph of TensorFlow: {exc}") from exc


def _export(keras: Any, model: Any, folder: Path) -> None:
    import tensorflow as tf

    names = _input_names(model)
    # TensorFlow writes other characters as it likes: such inputs get their names afterwards.
    given = [n if n.isascii() and n.isidentifier() else f"input__{i}" for i, n in enumerate(names)]
    specs = [
        tf.TensorSpec(each.shape, each.dtype, name=name)
        for name, each in zip(given, model.inputs, strict=True)
    ]
    outputs = list(getattr(model, "output_names", []))

    def call(*given: Any) -> dict[str, Any]:
        found = model(_packed(tf, model, given), training=False)
        # numpy has no bfloat16.
        found = tf.nest.map_structure(
            lambda each: tf.cast(each, tf.float32) if each.dtype == tf.bfloat16 else each, found
        )
        if isinstance(found, dict):
            return dict(_by_path(found))
        flat = tf.nest.flatten(found)
        named = outputs if len(outputs) == len(flat) else [f"output_{i}" for i in range(len(flat))]
        return dict(zip(_distinct(named), flat, strict=True))

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(DEFAULT_SIGNATURE, call, input_signature=specs)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it wrote
        archive.write_out(str(folder))
    if given != names:
        _rename(folder / "saved_model.pb", dict(zip(given, names, strict=True)))


def _input_names(model: Any) -> list[str]:
    """Return the names that the model is called with: of its dict of inputs, or of the layers."""
    structure = getattr(model, "input", None)
    if isinstance(structure, dict):
        return [name for name, _ in _by_path(structure)]
    return _distinct(getattr(model, "input_names", [each.name for each in model.inputs]))


def _by_path(found: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what is nested in *found*, in Keras' own order: the second of ``b`` is ``b.1``."""
    match found:
        case dict():
            for key in sorted(found):
                yield from _by_path(found[key], f"{path}.{key}" if path else str(key))
        case list() | tuple():
            for at, each in enumerate(found):
                yield from _by_path(each, f"{path}.{at}")
        case _:
            yield path, found


def _distinct(names: Sequence[str]) -> list[str]:
    """Return *names* with what comes again numbered: a layer may give several outputs."""
    found: list[str] = []
    for name in names:
        taken = {*names, *found} if name in found else ()
        again = (f"{name}_{n}" for n in itertools.count(1))
        found.append(next(n for n in again if n not in taken) if taken else name)
    return found


def _rename(file: Path, names: dict[str, str]) -> None:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    written = SavedModel.FromString(file.read_bytes())
    for graph in written.meta_graphs:
        inputs = graph.signature_def[DEFAULT_SIGNATURE].inputs
        infos = {name: inputs.pop(given) for given, name in names.items()}
        for name, info in infos.items():
            inputs[name].CopyFrom(info)
    file.write_bytes(written.SerializeToString())


def _packed(tf: Any, model: Any, given: tuple[Any, ...]) -> Any:
    try:
        return tf.nest.pack_sequence_as(model.input, given)
    except AttributeError:  # a Sequential that was never called has no structure to follow
        return given[0] if len(given) == 1 else list(given)


def _sniff(path: Path) -> bool:
    if path.is_dir():
        return all((path / name).is_file() for name in _PARTS)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        if file.read(8) == _HDF5:
            return True
    return set(archives.members(path)) >= _PARTS


FORMAT = Format(
    name="keras",
    suffixes=(".keras", ".h5", ".hdf5"),
    sniff=_sniff,
    load=load,
    extra="tensorflow",
)
