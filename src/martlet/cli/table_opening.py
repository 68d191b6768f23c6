"""Which table a command's NAME means."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from martlet.errors import InvalidInput, ModelNotFound

if TYPE_CHECKING:
    from martlet.registry import Version
    from martlet.stores import Embeddings


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
        raise InvalidInput(f"{text!r} is no whole number, as the keys of this table are")
    return int(text)


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
