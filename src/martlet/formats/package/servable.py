"""An open package: gathers from tables, runs the user's part once, the rest for each candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from martlet.errors import InvalidInput, MartletError, UnsupportedModel
from martlet.formats import LoadOptions
from martlet.formats.package.cross import Cross
from martlet.formats.package.items import OpenItems
from martlet.formats.package.manifest import Manifest
from martlet.formats.package.part import OpenPart
from martlet.formats.package.sides import Sides, UserShare
from martlet.servable import DEFAULT_SIGNATURE
from martlet.stores.embeddings import Embeddings
from martlet.tensors import Signature, Tensor, Tensors


class PackageServable:
    """
    An open package. It answers as the original did, under the same signature.

    ``load`` checks that its files are the certified ones; this does not.

    Args:
        folder: The package.
        options: Threads of each session.

    Raises:
        UnsupportedModel: the manifest, a graph or a table is damaged, or they do not fit.
    """

    def __init__(self, folder: Path, options: LoadOptions) -> None:
        self.manifest = manifest = Manifest.read(folder)
        self.tables: dict[str, Embeddings] = {}

        def table(name: str) -> Embeddings:
            if name not in self.tables:
                self.tables[name] = Embeddings(folder / name)
            return self.tables[name]

        user, items = manifest.user, manifest.items
        try:
            self._main = None if manifest.cross else OpenPart(folder, manifest.main, table, options)
            self._user = None if user is None else OpenPart(folder, user, table, options)
            self._items = (
                None
                if items is None
                else OpenItems(folder, items, table, options, manifest.signature.inputs)
            )
        except UnsupportedModel:
            raise
        except MartletError as exc:
            raise UnsupportedModel(f"the package {folder} does not open: {exc}") from exc
        signature = manifest.signature
        given = {*(user.outputs if user else ()), *(items.part.outputs if items else ())}
        wanted = self._main.fed_otherwise if self._main is not None else set()
        if wanted - given or set(manifest.main.outputs) != set(signature.outputs):
            raise UnsupportedModel(f"the manifest of {folder} does not go with its graphs")
        self._share: UserShare | None = None
        self._sides: Sides | None = None
        self._cross = self._open_cross(folder) if manifest.cross else None
        parts = [self._main, self._user, None if self._items is None else self._items.part]
        self._parts = [each for each in parts if each is not None]
        for part in self._parts:
            part.cast_from({name: spec.dtype for name, spec in signature.inputs.items()})
        if self._cross is not None and self._user is not None and self._items is not None:
            self._share = UserShare.of(self._user, signature.inputs)
            self._sides = Sides.of(self._items, self._share)
        self._outputs = manifest.main.outputs
        self._user_outputs = manifest.user.outputs if manifest.user is not None else ()
        names = (manifest.signature_name, *manifest.aliases)
        self.signatures: Mapping[str, Signature] = dict.fromkeys(names, signature)

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """Score; shapes and dtypes as the original's. Raises InvalidInput for ids it refuses."""
        try:
            if self._cross is not None:
                return self._crossed(inputs, self._cross)
            assert self._main is not None, "a package has a main graph or a cross part"
            feed = self._main.feed(inputs)
            if self._user is not None:
                found = self._user.run(self._user.feed(self._one_user(inputs)))
                feed.update(zip(self._user_outputs, found, strict=True))
            if self._items is not None:
                feed |= self._items(inputs)
            return dict(zip(self._outputs, self._main.run(feed), strict=True))
        except InvalidInput:
            # A graph's own refusal names its nodes; who called wants the input and its range.
            for known in self.manifest.known:
                if known.input not in inputs:
                    continue
                ids = inputs[known.input]
                column = ids if known.column is None else ids[:, known.column]
                known.ids.demand(known.input, column)
            raise

    def _open_cross(self, folder: Path) -> Cross:
        cross, items = Cross.load(folder / self.manifest.main.graph), self.manifest.items
        widths = None if items is None else items.shapes
        fits = widths == ((cross.item_width,),) and self._user is not None
        (output,) = self.manifest.main.outputs
        shape = self.manifest.signature.outputs[output].shape
        if not fits or shape not in (None, (-1,), (-1, cross.outputs)):
            raise UnsupportedModel(f"the manifest of {folder} does not go with its cross part")
        self._flat = shape == (-1,)
        return cross

    def _crossed(self, inputs: Tensors, cross: Cross) -> dict[str, Tensor]:
        assert self._items is not None, "_open_cross has seen it"
        found = None if self._sides is None else self._sides.find(inputs)
        histories: Sequence[Tensor] = ()
        if found is None:
            users, *histories = self._users(inputs)
            items, rows = self._items.located(inputs)
        else:
            items, (users, rows) = self._items.matrix, found
            if not len(users[0]):
                users, *histories = self._users(inputs)
        if not len(rows):
            scores = np.empty((0, cross.outputs), np.float32)
        else:
            of_user = None if len(users) == 1 else np.arange(len(rows))
            scores = cross.score(users, items, rows, of_user, histories)
        return {self._outputs[0]: scores[:, 0] if self._flat else scores}

    def _users(self, inputs: Tensors) -> Sequence[Tensor]:
        """Return the share of the one user, or of each row's; and the histories' rows."""
        assert self._user is not None, "_open_cross has seen it"
        rows = self._one_user(inputs)
        if self._share is not None:
            return (self._share(rows),)
        return self._user.run(self._user.feed(rows))

    def _one_user(self, inputs: Tensors) -> Tensors:
        """Return the user's inputs: one row of them where all rows are the same."""
        names = self.manifest.user_inputs
        first = {name: inputs[name][:1] for name in names}
        count = len(inputs[names[0]])
        for name in names:
            array = inputs[name]
            if len(array) != count:
                raise InvalidInput(
                    f"input {name!r} has {len(array)} rows where {names[0]!r} has {count}"
                )
            # Rows at one place in memory are one row (np.broadcast_to); others are compared.
            if array.strides[0] and count > 1 and not _all_same(array, first[name]):
                return inputs
        return first

    def close(self) -> None:
        """Close the sessions; the tables are unmapped when nothing refers to them."""
        for part in self._parts:
            part.close()
        self.tables.clear()


def _all_same(array: Tensor, first: Tensor) -> bool:
    # The last row tells most batches of several users apart.
    if not np.array_equal(array[-1], first[0]):
        return False
    return bool((array == first).all())
