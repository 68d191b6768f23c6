"""What a Keras file says of itself: its config, who wrote it, and what in it is not Keras' own."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from martlet.errors import UnsupportedModel
from martlet.formats import archives

_HDF5 = b"\x89HDF\r\n\x1a\n"
_PARTS = {"config.json", "metadata.json", "model.weights.h5"}
_SHARDS = ".weights.json"  # the index of weights that were saved in several files

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
# TensorFlow's functions of tensors alone. Keras writes some by the name of TF 1.
_TF_FUNCTION = re.compile(
    r"(compat\.v1\.)?((math|nn|linalg|strings|__operators__)\.(?!\w+_candidate_sampler)\w+(\.\w+)?"
    r"|cast|concat|expand_dims|reshape|squeeze|stack|unstack|transpose|split|slice|tile|pad|roll"
    r"|identity|stop_gradient|convert_to_tensor|broadcast_to|shape|size|rank|range|fill|meshgrid"
    r"|where|gather|gather_nd|scatter_nd|boolean_mask|sequence_mask|searchsorted|one_hot|unique"
    r"|reduce_\w+|zeros|ones|zeros_like|ones_like|clip_by_\w+|norm|einsum|tensordot|sort|argsort"
    r"|reverse)"
)
_LOOKUPS = ("StringLookup", "IntegerLookup", "TextVectorization")


def is_keras(path: Path) -> bool:
    """Return whether *path* is a file or folder of Keras, of a model or of weights alone."""
    if path.is_dir():
        return {each.name for each in path.iterdir()} >= _PARTS or _index(path) is not None
    if not path.is_file():
        return False
    with path.open("rb") as file:
        if file.read(8) == _HDF5:
            return True
    return path.name.endswith(_SHARDS) or set(archives.members(path)) >= _PARTS


def read(path: Path) -> tuple[Any, str]:
    """
    Return the model's config and the version of Keras that wrote it.

    Raises:
        UnsupportedModel: weights without a model, a class that is not there, damage.
    """
    if path.name.endswith(_SHARDS) or _index(path) is not None:
        raise _without_model(path)
    try:
        config, version = _read(path)
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as exc:
        raise UnsupportedModel(f"{path} is not a whole Keras model: {exc}") from exc
    absent = next(_absent(config), "")
    if absent:
        raise UnsupportedModel(
            f"{path} needs {absent}, a class of its maker's own, which is not in the file: export "
            "it to SavedModel (model.export) or ONNX where that class is"
        )
    return config, version


def _index(path: Path) -> Path | None:
    return next(path.glob(f"*{_SHARDS}"), None) if path.is_dir() else None


def _without_model(path: Path) -> UnsupportedModel:
    return UnsupportedModel(
        f"{path} holds weights without a model: save it whole, with model.save('model.keras')"
    )


def _read(path: Path) -> tuple[Any, str]:
    if path.is_dir():
        return _read_parts(lambda name: (path / name).read_bytes())
    if archives.is_archive(path):
        archives.check(path)
        with zipfile.ZipFile(path) as archive:
            return _read_parts(archive.read)
    return _read_hdf5(path)


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
        text = file.attrs.get("model_config")
        version = file.attrs.get("keras_version", "2")
    if text is None:
        raise _without_model(path)
    config = orjson.loads(text)
    for each in _objects(config):
        name, told = each.get("class_name"), each.get("config")
        if name in _LOOKUPS and isinstance(told, dict) and told.get("vocabulary", ...) is None:
            raise UnsupportedModel(
                f"{path} lacks the vocabulary of its {name} {told.get('name')!r}, which HDF5 does "
                "not keep when it was learnt by adapt(): save it with model.save('model.keras')"
            )
    return config, version.decode() if isinstance(version, bytes) else str(version)


def _check_hdf5(source: Any) -> None:
    """Refuse links and datasets that lie in other files."""
    import h5py

    # Links to the same groups may make more paths than could be walked.
    seen: set[Any] = set()

    def visit(group: Any, depth: int) -> None:
        if depth > 64:
            raise ValueError("its groups are nested too deep")
        if group in seen:
            return
        seen.add(group)
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


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in *config*, at any depth."""
    if isinstance(config, dict):
        yield config
    if isinstance(config, dict | list):
        for each in config.values() if isinstance(config, dict) else config:
            yield from _objects(each)


def _absent(config: Any) -> Iterator[str]:
    """Yield the classes that nothing can find: they lie in no module that could be imported."""
    for each in _objects(config):
        name, module = each.get("class_name"), each.get("module")
        registered = each.get("registered_name") or name
        if isinstance(name, str) and module is None and isinstance(registered, str):
            code = registered.split(">")[-1] in _CODE
            if not code and (">" in registered or each.get("registered_name")):
                yield registered


def code(config: Any) -> Iterator[str]:
    """Yield what in *config* would run, or read, something that is not Keras' own."""
    for each in _objects(config):
        name, module = each.get("class_name"), each.get("module")
        if isinstance(name, str):
            if name.split(">")[-1] in _CODE:
                yield f"a {name} layer"
            elif isinstance(module, str) and not _known(module, name):
                yield f"{module}.{name}"
            elif name in ("TFOpLambda", "SlicingOpLambda"):
                function = str((each.get("config") or {}).get("function"))
                if not _TF_FUNCTION.fullmatch(function):
                    yield f"a call of tf.{function}"
        if isinstance(each.get("vocabulary"), str):
            yield f"a vocabulary in the file {each['vocabulary']!r}"


def _known(module: str, name: str) -> bool:
    if module == "builtins":
        return name in ("slice", "tuple", "dict", "list", "int", "float", "str", "bool")
    return (
        module in ("keras", "tf_keras")
        or (module, name) in _UTILS
        or _MODULE.fullmatch(module) is not None
    )
