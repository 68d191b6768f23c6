"""Writing a package: the folder that serves a model brought online (see formats/package)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto

from martlet.convert.rewriting.extract import Tables, extract
from martlet.convert.rewriting.lookups import Lookup
from martlet.convert.splitting.split import ItemPart, UserPart
from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats import LoadOptions
from martlet.formats.onnx.file import OnnxFile
from martlet.formats.package.cross import Cross
from martlet.formats.package.manifest import Items, Known, Manifest, Part
from martlet.formats.package.part import OpenPart
from martlet.servable import DEFAULT_SIGNATURE
from martlet.stores.embeddings import Embeddings
from martlet.stores.features import write_features
from martlet.tensors import Signature, Spec, Tensor, Tensors

_BATCH = 4096
_ITEMS = "tables/items.table"


@dataclass(frozen=True, slots=True)
class Written:
    """
    What ``write_package`` made.

    Args:
        folder: The package.
        files: The files that a certificate must cover.
        kept: For each large table that stayed in a graph, a sentence that says why.
    """

    folder: Path
    files: tuple[str, ...]
    kept: tuple[str, ...] = field(default=())


def write_package(
    folder: Path,
    main: ModelProto,
    signature: Signature,
    source: Path,
    *,
    lookups: Sequence[Lookup] = (),
    user: UserPart | None = None,
    item: ItemPart | None = None,
    cross: Cross | None = None,
    catalogue: Tensors | None = None,
    signature_name: str = DEFAULT_SIGNATURE,
    aliases: Sequence[str] = (),
    beside: int | None = None,
    made_from: Mapping[str, str] | None = None,
    threshold_bytes: int | None = None,
    generation: str = "",
) -> Written:
    """
    Write a package that has no certificate yet: only ``PackageServable`` opens it.

    Args:
        folder: Where to write it; must be empty, or not exist.
        main: The graph that runs for every request.
        signature: The original's; inputs that no graph needs stay in it.
        source: The original's file or folder, which is copied into ``model/``.
        lookups: The lookups in the graphs.
        user, item: The other parts, if the graph was split.
        cross: Runs instead of *main*, over what *user* and *item* give (`crossing`).
        catalogue: The item inputs of every item, by name, one row each: the items' part is computed
            for them now. Without it, an item is computed when it is asked for.
        signature_name: The signature's name.
        aliases: Its other names.
        beside: In a pair, the number of rows from which on the graph answers; None: no pair.
        made_from: The original's format, digest and source.
        threshold_bytes: Tables of so many bytes leave the graphs; None: the usual threshold.
        generation: The id shared by all that was trained together.

    Raises:
        InvalidInput: *folder* holds something already.
        UnsupportedModel: the graphs do not go with the signature.
        NotAvailable: the disk is full, or refuses.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InvalidInput(f"{folder} is not empty: a package is written into a folder of its own")
    folder.mkdir(parents=True, exist_ok=True)
    tables = Tables(folder, generation)
    kept: list[str] = []

    def write(name: str, model: ModelProto) -> Part:
        found = extract(model, lookups, tables, threshold_bytes=threshold_bytes)
        kept.extend(found.kept)
        onnx.save(found.model, folder / name)
        fed = {each.feeds for each in found.gathers}
        names = [each.name for each in found.model.graph.input if each.name not in fed]
        inputs = tuple(each for each in names if each in signature.inputs)
        outputs = tuple(each.name for each in found.model.graph.output)
        return Part(name, inputs, found.gathers, outputs)

    manifest = Manifest(
        signature=_enforced(signature),
        main=write("dense.onnx", main) if cross is None else _cross_part(folder, cross, signature),
        cross=cross is not None,
        user=None if user is None else write("user.onnx", user.model),
        user_inputs=() if user is None else user.inputs,
        known=_known(lookups),
        signature_name=signature_name,
        aliases=tuple(aliases),
        beside=beside,
        made_from=dict(made_from or {}),
    )
    if set(manifest.main.outputs) != set(signature.outputs):
        raise UnsupportedModel(
            f"the graph gives {sorted(manifest.main.outputs)}, where the original gives "
            f"{sorted(signature.outputs)}"
        )
    if item is not None:
        items = Items(write("item.onnx", item.model), item.shapes, _ITEMS, item.key)
        items = _computed(folder, items, item.inputs, manifest, catalogue, generation)
        manifest = _with_optional(replace(manifest, items=items))
    manifest.write(folder)
    copy_original(source, folder / "model")
    return Written(folder, tuple(manifest.files), tuple(kept))


def _cross_part(folder: Path, cross: Cross, signature: Signature) -> Part:
    cross.save(folder / "cross.npz")
    return Part("cross.npz", (), (), tuple(signature.outputs))


def _with_optional(manifest: Manifest) -> Manifest:
    """Make inputs optional that only the items' part takes: there an item's id is enough."""
    assert manifest.items is not None
    elsewhere = {
        name
        for part in (manifest.main, manifest.user)
        if part is not None
        for name in (*part.inputs, *(each.input for each in part.gathers))
    }
    inputs = {
        name: replace(spec, required=name not in manifest.items.columns or name in elsewhere)
        for name, spec in manifest.signature.inputs.items()
    }
    return replace(manifest, signature=replace(manifest.signature, inputs=inputs))


def _computed(
    folder: Path,
    items: Items,
    inputs: Sequence[str],
    manifest: Manifest,
    catalogue: Tensors | None,
    generation: str,
) -> Items:
    """Write the table of *items*, and return them with its columns."""
    others = tuple(name for name in inputs if name != items.key)
    specs = {name: manifest.signature.inputs[name] for name in (items.key, *others)}
    rows: dict[str, Tensor] = {}
    for name, spec in specs.items() if catalogue is not None else ():
        if catalogue is None or name not in catalogue:
            raise InvalidInput(f"the catalogue lacks {name!r}, an input of the items' side")
        rows[name] = _column(spec, catalogue[name])
    part = OpenPart(folder, items.part, lambda name: Embeddings(folder / name), LoadOptions())
    part.cast_from({name: spec.dtype for name, spec in manifest.signature.inputs.items()})
    keys = rows[items.key].reshape(-1).astype(np.int64) if rows else np.empty(0, np.int64)
    columns: dict[str, list[Tensor]] = {
        name: [np.empty((0, prod(shape)), np.float32)]
        for name, shape in zip(items.part.outputs, items.shapes, strict=True)
    }
    for at in range(0, len(keys), _BATCH):
        batch = {name: values[at : at + _BATCH] for name, values in rows.items()}
        for name, values in zip(items.part.outputs, part.run(part.feed(batch)), strict=True):
            columns[name].append(values.reshape(len(values), -1))
    table = {name: np.concatenate(values) for name, values in columns.items()}
    given = {name: rows[name].reshape(len(keys), -1) for name in others if rows}
    (folder / items.table).parent.mkdir(exist_ok=True)
    write_features(folder / items.table, keys, {**table, **given}, generation=generation)
    return replace(items, columns=tuple(given))


def _column(spec: Spec, values: Tensor) -> Tensor:
    """Return a column of a catalogue (flat; int64 or float32) in the input's dtype and shape."""
    array = np.asarray(values)
    if spec.dtype.is_integer and array.dtype.kind in "iu":
        limits = np.iinfo(spec.dtype.numpy)
        if array.size and (array.min() < limits.min or array.max() > limits.max):
            raise InvalidInput(
                f"the catalogue's {spec.name!r} holds a value beyond {spec.dtype.value}"
            )
        array = array.astype(spec.dtype.numpy)
    if spec.shape is not None and array.ndim == len(spec.shape) - 1:
        array = array[:, None]
    return spec.check(array)


def _known(lookups: Sequence[Lookup]) -> tuple[Known, ...]:
    found = {(each.input, each.column, str(each.ids.to_json())): each for each in lookups}
    return tuple(Known(each.input, each.column, each.ids) for each in found.values())


def copy_original(source: Path, folder: Path) -> None:
    """Copy a model's file or folder into *folder*, with the tensors that lie beside it."""
    if source.is_dir():
        shutil.copytree(source, folder)
        return
    folder.mkdir(parents=True)
    shutil.copy2(source, folder / source.name)
    if source.suffix == ".onnx":
        for name in OnnxFile.read(source).external:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source.parent / name, folder / name)


def _enforced(signature: Signature) -> Signature:
    """Return *signature* with shapes enforced, which the original left to its own operators."""
    inputs = {
        name: replace(spec, enforced=spec.shape is not None)
        for name, spec in signature.inputs.items()
    }
    return replace(signature, inputs=inputs)
