"""XGBoost's models (``.json``, ``.ubj``, the old binary), run by XGBoost's C library."""

from __future__ import annotations

import re
from pathlib import Path

from martlet.formats import Format, LoadOptions
from martlet.formats.xgboost.binary import is_binary
from martlet.formats.xgboost.file import is_text_dump
from martlet.servable import Servable

_TEXT = re.compile(rb'\s*\{\s*("version"\s*:\s*\[[\d,\s]*\]\s*,\s*)?"learner"\s*:')
_DUMP = re.compile(rb'\s*\[\s*\{\s*"nodeid"\s*:')
_UBJ = re.compile(rb"\{(L\0{7}|[iU])\x07(learner|version)", re.DOTALL)


def _load(path: Path, options: LoadOptions) -> Servable:
    from martlet.formats.xgboost.servable import XGBoostServable

    return XGBoostServable(path, options)


def _sniff(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(512)
    known = any(mark.match(head) for mark in (_TEXT, _DUMP, _UBJ))
    return known or is_text_dump(head) or is_binary(head)


FORMAT = Format(name="xgboost", suffixes=(".ubj",), sniff=_sniff, load=_load, extra="xgboost")
