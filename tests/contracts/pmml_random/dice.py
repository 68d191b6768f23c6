"""Draws: a random generator with the few words that the documents are made with, and their XML."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar
from xml.sax.saxutils import escape, quoteattr

T = TypeVar("T")


class Dice(random.Random):
    """A random generator; everything that a document holds is drawn from one."""

    def one(self, *options: T) -> T:
        """Return one of *options*."""
        return self.choice(options)

    def chance(self, share: float) -> bool:
        """Return True with the probability *share*."""
        return self.random() < share

    def maybe(self, share: float, value: T) -> T | None:
        """Return *value* with the probability *share*, else None: an attribute left out."""
        return value if self.chance(share) else None

    def some(self, items: Sequence[T], least: int = 1) -> list[T]:
        """Return *least* or more of *items*, in their order."""
        count = self.randint(min(least, len(items)), len(items))
        places = sorted(self.sample(range(len(items)), count))
        return [items[place] for place in places]

    def number(self) -> float:
        """Return a number that ties and boundaries are likely with."""
        return self.one(
            float(self.randint(-3, 4)),
            self.randint(-12, 12) / 4,
            round(self.gauss(0, 2), 2),
            round(self.gauss(0, 1), 6),
        )

    def positive(self) -> float:
        return abs(self.number()) + 0.25


def element(tag: str, /, *children: str, **attributes: object) -> str:
    """Return an element; an attribute that is None is left out, and ``x_`` starts ``x-``."""
    written = "".join(
        f" {_named(name)}={quoteattr(_text(value))}"
        for name, value in attributes.items()
        if value is not None
    )
    return f"<{tag}{written}>{''.join(children)}</{tag}>" if children else f"<{tag}{written}/>"


def _named(name: str) -> str:
    return f"x-{name[2:]}" if name.startswith("x_") else name


def _text(value: object) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def text(value: object) -> str:
    """Return *value* as the text of an element."""
    return escape(_text(value))


def array(values: Sequence[object], kind: str = "real") -> str:
    """Return an Array; text that holds a blank, or nothing, is quoted."""
    cells = [str(each) for each in values]
    if kind == "string":
        cells = [_quoted(each) for each in cells]
    return element("Array", text(" ".join(cells)), type=kind, n=len(cells))


def _quoted(cell: str) -> str:
    if cell and not any(c in cell for c in ' "\\'):
        return cell
    return '"' + cell.replace('"', '\\"') + '"'
