"""CatBoost's models (``.cbm``, JSON), run by CatBoost."""

from __future__ import annotations

import re
from pathlib import Path

from martlet.formats import Format, LoadOptions
from martlet.formats.catboost.file import MAGIC
from martlet.servable import Servable

_JSON = re.compile(
    rb'\s*\{\s*"(ctr_data|features_info|model_info|oblivious_trees|scale_and_bias|trees)"\s*:'
)


def _load(path: Path, options: LoadOptions) -> Servable:
    from martlet.formats.catboost.servable import CatBoostServable

    return CatBoostServable(path, options)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(256)


def _sniff(path: Path) -> bool:
    if not path.is_file():
        return False
    head = _head(path)
    return head.startswith(MAGIC) or _JSON.match(head) is not None


FORMAT = Format(name="catboost", suffixes=(".cbm",), sniff=_sniff, load=_load, extra="catboost")
