"""Keras models (``.keras``, ``.h5``), rebuilt by Keras and run by TensorFlow."""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from martlet.errors import UnsupportedModel
from martlet.formats import Format, LoadOptions, archives
from martlet.formats.isolated.servable import Isolated
from martlet.formats.tensorflow import keras_file
from martlet.servable import DEFAULT_SIGNATURE, Servable


def load(path: Path, options: LoadOptions) -> Servable:
    """
    Open a Keras 3 or Keras 2 model.

    A config that names code (a Lambda, a class outside Keras) is opened only when trusted, and
    then in a process of its own.

    Raises:
        UnsupportedModel: weights without a model, code without trust, damage.
    """
    config, version = keras_file.read(path)
    reason = next(keras_file.code(config), "")
    if not reason:
        return _open(path, options, version, safe=True)
    _demand_trust(path, reason, options.trusted)
    return Isolated("martlet.formats.tensorflow.keras:open_trusted", path, options)


def open_trusted(path: Path, options: LoadOptions) -> Servable:
    """Open the model at *path* with the code in it: in the isolated process alone."""
    _, version = keras_file.read(path)
    return _open(path, options, version, safe=False)


def export(path: Path, folder: Path, trusted: bool) -> None:
    """
    Write the Keras model at *path* as a SavedModel; call it in a process that may be lost.

    Raises:
        UnsupportedModel: as ``load``.
    """
    config, version = keras_file.read(path)
    reason = next(keras_file.code(config), "")
    if reason:
        _demand_trust(path, reason, trusted)
    _rebuild(path, version, folder, safe=not reason)


def _demand_trust(path: Path, reason: str, trusted: bool) -> None:
    if not trusted:
        raise UnsupportedModel(
            f"{path} holds code ({reason}), which opening it would run: export it to SavedModel "
            "or ONNX, or load it with trusted=True (--trusted) if you made it"
        )


def _open(path: Path, options: LoadOptions, version: str, *, safe: bool) -> Servable:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with tempfile.TemporaryDirectory(prefix="martlet-") as folder:
        # Keras rebuilds the layers; TensorFlow runs their graph some ten times faster alone.
        _rebuild(path, version, Path(folder), safe=safe)
        from martlet.formats.tensorflow.savedmodel import SavedModelServable

        return SavedModelServable(Path(folder), options)


def _rebuild(path: Path, version: str, folder: Path, *, safe: bool) -> None:
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    keras: Any = importlib.import_module("tf_keras" if version.startswith(("1", "2")) else "keras")
    with tempfile.TemporaryDirectory(prefix="martlet-") as room:
        try:
            named = _named(path, Path(room))
            model = keras.models.load_model(str(named), compile=False, safe_mode=safe)
        except Exception as exc:  # of keras, h5py and tensorflow, on what they do not know
            reason = str(exc).replace(room, str(path.parent))
            raise UnsupportedModel(f"{path} is not a Keras model that loads: {reason}") from exc
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


def _layers(model: Any) -> Iterator[Any]:
    for each in getattr(model, "layers", []):
        yield each
        yield from _layers(each)


def _shapes(model: Any) -> list[tuple[int | None, ...]]:
    """
    Return what the model takes, with any number of rows.

    A Sequential that was built by its first call names the rows of that call, and Keras takes
    others all the same. A stateful layer alone remembers as many rows as it names.
    """
    shapes = [tuple(each.shape) for each in model.inputs]
    if any(getattr(each, "stateful", False) for each in _layers(model)):
        return shapes
    return [(None, *shape[1:]) if shape else shape for shape in shapes]


def _named(path: Path, room: Path) -> Path:
    """Return the file by a name that Keras reads it under: it goes by the suffix alone."""
    if path.is_dir():
        return path
    named = room / ("model.keras" if archives.is_archive(path) else "model.h5")
    named.symlink_to(path.resolve())
    return named


def _export(keras: Any, model: Any, folder: Path) -> None:
    import tensorflow as tf

    names = _input_names(model)
    # TensorFlow writes other characters as it likes: such inputs get their names afterwards.
    given = [n if n.isascii() and n.isidentifier() else f"input__{i}" for i, n in enumerate(names)]
    specs = [
        tf.TensorSpec(shape, each.dtype, name=name)
        for name, shape, each in zip(given, _shapes(model), model.inputs, strict=True)
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


FORMAT = Format(
    name="keras",
    suffixes=(".keras", ".h5", ".hdf5"),
    sniff=keras_file.is_keras,
    load=load,
    extra="tensorflow",
)
