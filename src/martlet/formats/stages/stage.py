"""One step of a pipeline: the columns it takes and gives, and what computes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from martlet.formats.stages.vectors import Bools


class Kind(Enum):
    """
    What a column holds.

    ``WHOLE``, ``TRUTH`` and ``EITHER`` are numbers whose text is not a double's: a whole number's,
    ``true``, or not known.
    """

    NUMBER = "number"
    WHOLE = "whole number"
    TRUTH = "truth"
    EITHER = "number, whole or not"
    INTEGER = "int32"
    LONG = "int64"
    SINGLE = "float32"
    TEXT = "text"
    CATEGORY = "text or numbers"
    ANY = "number or vector"
    VECTOR = "vector"
    WORDS = "words"
    HASHES = "hashes"


@dataclass(frozen=True, slots=True)
class Port:
    """A column that a stage takes or gives. ``width`` is of a vector, -1 where unknown."""

    name: str
    kind: Kind
    width: int = -1


@dataclass(frozen=True, slots=True)
class Stage:
    """
    One step of a pipeline.

    Args:
        name: Its id and class, for messages.
        inputs, outputs: Its columns, in the order in which *run* takes and gives them.
        run: Computes the outputs (one, or a tuple of them). Raises InvalidInput. Where it is a
            formula it is an object that shows it (`StandardScaler`), for who writes it elsewhere.
        keep: Says which rows stay; None: all. A row that goes answers NaN (text: None).
        predicts: Whether it is a model, not a step that prepares for one.
        same_width: Its first output is as wide as its first input.
        parts: An assembler: its output is its inputs side by side.
    """

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    run: Callable[..., Any]
    keep: Callable[..., Bools] | None = None
    predicts: bool = False
    same_width: bool = False
    parts: bool = False
