"""Arrays: values written in one element, blank by blank or sparse.

Source: PMML 4.4.1, GeneralStructure, "Arrays".
"""

from __future__ import annotations

import re

from martlet.formats.pmml.document import Element

_MAX_SPARSE = 1 << 24
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)', re.DOTALL)


def array_texts(element: Element) -> list[str]:
    r"""
    Return the texts of an Array: separated by blanks, quoted with ``"`` where they hold one.

    Source: PMML 4.4.1, GeneralStructure, "Arrays": ``\"`` within quotes is a quote; any
    other backslash is itself.
    """
    text = element.text
    if '"' not in text:
        return text.split()
    found = []
    for match in _QUOTED.finditer(text):
        quoted, plain = match[1], match[2]
        found.append(plain if quoted is None else quoted.replace('\\"', '"'))
    return found


def array_numbers(element: Element) -> list[float]:
    """
    Return the numbers of an Array (or of a sparse one, zeros filled in).

    Raises:
        UnsupportedModel: one is not a number.
    """
    try:
        if element.tag.endswith("SparseArray"):
            return _sparse(element)
        return [float(text) for text in array_texts(element)]
    except (ValueError, IndexError) as exc:
        raise element.error(f"is malformed: {exc}") from None


def _sparse(element: Element) -> list[float]:
    indices = element.child("Indices")
    entries = element.child("REAL-Entries", "INT-Entries")
    places = [] if indices is None else [int(text) - 1 for text in indices.text.split()]
    values = [] if entries is None else [float(text) for text in entries.text.split()]
    size = element.integer("n", max(places, default=-1) + 1)
    if not max(places, default=-1) < size <= _MAX_SPARSE or min(places, default=0) < 0:
        raise element.error(f"has n={size}, which its indices or memory do not fit")
    found = [element.number("defaultValue", 0.0)] * size
    for place, value in zip(places, values, strict=True):
        found[place] = value
    return found
