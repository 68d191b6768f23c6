"""skops files of an older scikit-learn: names that have moved are put right before skops reads."""

from __future__ import annotations

import importlib
import io
import zipfile
from pathlib import Path
from typing import Any

import orjson

from martlet.formats.sklearn.older import GONE

_SCHEMA = "schema.json"
_NOTHING = {
    "__class__": "str",
    "__module__": "builtins",
    "__loader__": "JsonNode",
    "content": "null",
    "is_json": True,
}


def current(path: Path) -> Path | io.BytesIO:
    """
    Return the file at *path*, or one in memory that names what it holds as it is called now.

    Classes of training alone that are gone become None, as the estimators are mended later.

    Raises:
        KeyError, ValueError, zipfile.BadZipFile: it is damaged.
    """
    with zipfile.ZipFile(path) as file:
        schema = orjson.loads(file.read(_SCHEMA))
        renamed = _renamed(schema)
        if renamed == schema:
            return path
        found = io.BytesIO()
        with zipfile.ZipFile(found, "w") as made:
            for each in file.infolist():
                if each.filename != _SCHEMA:
                    made.writestr(each, file.read(each))
            made.writestr(_SCHEMA, orjson.dumps(renamed))
    found.seek(0)
    return found


def _renamed(state: Any) -> Any:
    if isinstance(state, list):
        return [_renamed(each) for each in state]
    if not isinstance(state, dict):
        return state
    module, name = state.get("__module__"), state.get("__class__")
    if module == "_loss":  # what compiled losses of 1.4 to 1.6 say of themselves
        module = "sklearn._loss._loss"
    is_sgd_loss = state.get("__loader__") == "SGDNode"  # skops' own word, until 0.11
    if is_sgd_loss or (module in GONE and not hasattr(_module(module), str(name))):
        return _NOTHING
    if name == "_RemainderColsList" and module == "sklearn.compose._column_transformer":
        return _renamed(state["content"]["content"]["data"])  # of 1.5 and 1.6: a list
    found = {key: _renamed(value) for key, value in state.items()}
    return found | {"__module__": module} if "__module__" in state else found


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None
