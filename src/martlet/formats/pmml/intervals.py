"""Intervals: margins, each open or closed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.formats.pmml.document import Element
from martlet.formats.pmml.values import DOUBLE, DataType, Value, parse

_CLOSURES = ("openOpen", "openClosed", "closedOpen", "closedClosed")


@dataclass(frozen=True, slots=True)
class Interval:
    """
    From *left* to *right*; an absent margin is infinite, and then closed.

    The margins are held as the field's type: float32 margins of a float field.
    """

    left: Value
    right: Value
    left_closed: bool
    right_closed: bool

    @classmethod
    def of(cls, element: Element, kind: DataType) -> Interval:
        """Read an Interval for a field of *kind*."""
        closure = element.choice("closure", _CLOSURES, "closedClosed")
        left, right = (_margin(element, name, kind) for name in ("leftMargin", "rightMargin"))
        return cls(
            -math.inf if left is None else left,
            math.inf if right is None else right,
            left is None or closure.startswith("closed"),
            right is None or closure.endswith("Closed"),
        )

    @classmethod
    def everything(cls) -> Interval:
        """The interval that holds every number."""
        return cls(-math.inf, math.inf, True, True)

    def holds(self, x: NDArray[Any]) -> NDArray[np.bool_]:
        """Return where *x* lies within."""
        above = x >= self.left if self.left_closed else x > self.left
        below = x <= self.right if self.right_closed else x < self.right
        return np.asarray(above & below)

    def contains(self, x: Value) -> bool:
        """Whether *x* lies within."""
        if x > self.left or (self.left_closed and x == self.left):
            return bool(x < self.right or (self.right_closed and x == self.right))
        return False

    def __str__(self) -> str:
        left, right = (str(each).removesuffix(".0") for each in (self.left, self.right))
        opening, closing = "[" if self.left_closed else "(", "]" if self.right_closed else ")"
        return f"{opening}{left}, {right}{closing}"


def _margin(element: Element, name: str, kind: DataType) -> Value:
    text = element.get(name)
    if text is None:
        return None
    try:
        # An integer's margin may lie between two integers.
        return parse(text, DOUBLE if kind.name == "integer" or kind.is_text else kind)
    except ValueError as exc:
        raise element.error(f"has a malformed {name}: {exc}") from None
