"""PMML 3.0 to 4.4, read and scored by martlet itself: no JVM, no library but numpy.

How a file becomes answers:

- ``document`` parses it into elements that know their lines;
- ``compile`` turns the model element into slots of a program, one a field, prediction, output:
  ``dictionary`` and ``mining_schema`` for what comes in, ``expressions``, ``functions`` and
  ``predicates`` for what is computed, ``models`` for the model elements, ``targets`` and
  ``output`` for what goes out;
- ``frame`` runs the program over columns for a batch, and over plain values for one record.
"""

from __future__ import annotations

import re
from pathlib import Path

from martlet.formats import Format, LoadOptions
from martlet.formats.pmml.encodings import encoding_of
from martlet.servable import Servable

# What may stand before the root element: the declaration, comments, instructions, a DOCTYPE.
_PROLOG = re.compile(
    r"\s*(?:<\?.*?\?>\s*|<!--.*?-->\s*|<!DOCTYPE[^>\[]*(?:\[.*?\])?\s*>\s*)*<(?:[\w.-]+:)?PMML[\s>/]",
    re.DOTALL,
)
_HEAD = 1 << 16


def _sniff(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(_HEAD)
    try:
        text = head.decode(encoding_of(head), "replace").lstrip("\ufeff")
    except LookupError:
        text = head.decode("latin-1")
    return _PROLOG.match(text) is not None


def _load(path: Path, options: LoadOptions) -> Servable:
    from martlet.formats.pmml.servable import PmmlServable

    return PmmlServable(path, options)


FORMAT = Format(name="pmml", suffixes=(".pmml",), sniff=_sniff, load=_load)
