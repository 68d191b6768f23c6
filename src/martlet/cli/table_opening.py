"""Which table a command's NAME means, and how its rows are set: here, or on all machines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from martlet.errors import InvalidInput, ModelNotFound

if TYPE_CHECKING:
    from martlet.registry import Version
    from martlet.stores import Embeddings
    from martlet.stores.shared import SharedRows
    from martlet.stores.updates import Applied, Update


def open_table(name: str, root: Path) -> Embeddings:
    """
    Open the table that *name* means.

    Raises:
        ModelNotFound: there is none.
        UnsupportedModel: it holds something else.
    """
    path = Path(name)
    if path.is_file():
        return open_file(path)
    from martlet.registry import Registry

    with Registry.open(root, create=False) as registry:
        model, _, within = name.partition("/")
        version = registry.get(model)
        path = registry.path_of(version)
        if path.is_dir():
            path = _within(path, within, version)
        return open_file(path)


def key_of(found: Embeddings, text: str) -> int | str:
    """
    Return the key that *text* means in the table *found*.

    Raises:
        InvalidInput: its keys are whole numbers, and *text* is none.
    """
    if found.text_keys:
        return text
    if not re.fullmatch(r"-?[0-9]{1,19}", text):
        raise InvalidInput(f"{text!r} is not a whole number, as the keys of this table are")
    return int(text)


def shared_rows(name: str, found: Embeddings, redis: str) -> SharedRows:
    """
    Return the rows of *found* that machines share under the name it is registered by.

    Raises:
        MissingExtra, InvalidInput: as of ``SharedRows``.
    """
    from martlet.stores.shared import SharedRows

    model, slash, within = name.partition("/")
    called = re.split("[@]", model)[0] + slash + within
    return SharedRows(redis, Path(name).stem if Path(name).is_file() else called, found)


def apply(name: str, found: Embeddings, updates: Sequence[Update], redis: str) -> Applied:
    """
    Apply *updates* to the table called *name*, by way of *redis* if it is not ""; then to disk.

    Raises:
        MartletError: as of ``updates.apply`` and ``SharedRows.publish``.
    """
    from martlet.stores import updates as here

    if redis:
        shared = shared_rows(name, found, redis)
        shared.reach(shared.publish(updates))
        removed = sum(update.vector is None for update in updates)
        applied = here.Applied(len(updates) - removed, removed)
    else:
        applied = here.apply(found, updates)
    found.sync()
    return applied


def open_file(path: Path) -> Embeddings:
    """Return the table in the file *path*. Raises what ``Embeddings`` does."""
    from martlet.stores import Embeddings

    return Embeddings(path)


def _within(folder: Path, name: str, version: Version) -> Path:
    found = {path.stem: path for path in sorted(folder.rglob("*.table"))}
    if name not in found:
        known = ", ".join(found) or "none"
        raise ModelNotFound(
            f"{version} is a folder: name one of its tables as {version.name}/TABLE; "
            f"it has: {known}"
        )
    return found[name]
