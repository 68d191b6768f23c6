"""A PMML file as elements: parsed once, iteratively, each knowing its line."""

from __future__ import annotations

import gc
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from xml.parsers import expat

from martlet.errors import UnsupportedModel
from martlet.formats.pmml.encodings import in_utf8

MAX_BYTES = 2 << 30
MAX_DEPTH = 4096
MAX_TEXT = 64 << 20
"""Characters in one element's text or attributes: an Array of eight million numbers fits."""

_CHUNK = 1 << 20
_NO_ATTRIBUTES: dict[str, str] = {}


class Element:
    """One XML element. Names are local: PMML's namespace says only the version."""

    __slots__ = ("attributes", "children", "line", "tag", "text")

    def __init__(self, tag: str, attributes: dict[str, str], line: int) -> None:
        self.tag = tag
        self.attributes = attributes
        self.line = line
        self.children: list[Element] = []
        self.text = ""

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the attribute *name*, or *default*."""
        return self.attributes.get(name, default)

    def need(self, name: str) -> str:
        """
        Return the attribute *name*.

        Raises:
            UnsupportedModel: it is absent.
        """
        value = self.attributes.get(name)
        if value is None:
            raise self.error(f"lacks the attribute {name!r}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """
        Return the attribute *name* as a number, or *default* where it is absent.

        Raises:
            UnsupportedModel: it is no number, or absent and without default.
        """
        value = self.attributes.get(name)
        if value is None:
            if default is None:
                raise self.error(f"lacks the attribute {name!r}")
            return default
        try:
            return float(value)
        except ValueError:
            raise self.error(f"{name}={value!r} is not a number") from None

    def integer(self, name: str, default: int | None = None) -> int:
        """Return the attribute *name* as an integer; else as :meth:`number`."""
        value = self.number(name, default)
        if not math.isfinite(value) or value != int(value):
            raise self.error(f"{name}={value!r} is not an integer")
        return int(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """Return the attribute *name* as a boolean (``true``, ``false``, ``1``, ``0``)."""
        value = self.attributes.get(name)
        return default if value is None else value.strip().lower() in ("true", "1")

    def choice(self, name: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        """
        Return the attribute *name*, which must be one of *allowed*.

        Raises:
            UnsupportedModel: it is another.
        """
        value = self.attributes.get(name, default)
        if value is None:
            raise self.error(f"lacks the attribute {name!r}")
        if value not in allowed:
            raise self.error(f"{name}={value!r} is not supported; use {', '.join(allowed)}")
        return value

    def child(self, *tags: str) -> Element | None:
        """Return the first child with one of *tags*, or None."""
        for each in self.children:
            if each.tag in tags:
                return each
        return None

    def need_child(self, *tags: str) -> Element:
        """
        Return the first child with one of *tags*.

        Raises:
            UnsupportedModel: there is none.
        """
        found = self.child(*tags)
        if found is None:
            raise self.error(f"lacks the element {' or '.join(tags)}")
        return found

    def all(self, *tags: str) -> list[Element]:
        """Return the children with one of *tags*, in order."""
        return [each for each in self.children if each.tag in tags]

    def walk(self) -> Iterator[Element]:
        """Yield this element and all below it, in document order."""
        stack: list[Element] = [self]
        while stack:
            each = stack.pop()
            yield each
            stack.extend(reversed(each.children))

    def error(self, message: str) -> UnsupportedModel:
        """Return the error that says *message* of this element and its line."""
        name = self.attributes.get("name") or self.attributes.get("id")
        label = f"{self.tag} {name!r}" if name else self.tag
        return UnsupportedModel(f"{label} at line {self.line} {message}")

    def __repr__(self) -> str:
        return f"<{self.tag} line {self.line}>"


class Source(Protocol):
    """The document that is being read, for those who read a part of it themselves."""

    @property
    def line(self) -> int:
        """Where it is."""
        ...

    def local(self, name: str) -> str:
        """Return *name* without its prefix."""
        ...

    def collect(self, element: Element) -> None:
        """Read *element*, which has just started, to its end; then go on with this reader."""
        ...

    def finish(self) -> None:
        """Go on without this reader: its element has ended."""
        ...


class Compact(Element, ABC):
    """An element that reads itself, in less room than elements for all that is below it."""

    __slots__ = ()

    @abstractmethod
    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Take the start of an element below this one; its text is not given."""

    @abstractmethod
    def end(self, name: str) -> None:
        """Take the end of an element: of those below, and of this one."""


Compactor = Callable[[Source, dict[str, str], int], Compact]


def parse(path: Path, compact: Mapping[str, Compactor] | None = None) -> Element:
    """
    Return the root element of the PMML file at *path*.

    Args:
        compact: What makes the elements of a tag that read themselves.

    Reads in chunks, keeps no parser state per depth, and refuses what a model has no use for:
    a DTD (and with it every entity but the five of XML), more than MAX_DEPTH levels, more than
    MAX_TEXT characters in one place, files above MAX_BYTES.

    Raises:
        UnsupportedModel: the file is not well-formed, is too large, or is no PMML.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UnsupportedModel(f"the file has {size} bytes; at most {MAX_BYTES} are read")
    tree = _Tree(compact or {})
    try:
        with path.open("rb") as file:
            for chunk in in_utf8(iter(lambda: file.read(_CHUNK), b"")):
                tree.parser.Parse(chunk, False)
            tree.parser.Parse(b"", True)
    except expat.ExpatError as exc:
        raise UnsupportedModel(f"not well-formed XML: {exc}") from exc
    except (LookupError, ValueError) as exc:  # an encoding that Python has not, or another
        raise UnsupportedModel(f"not readable as XML: {exc}") from exc
    root = tree.root
    if root is None or root.tag != "PMML":
        raise UnsupportedModel(f"the root element is {root.tag if root else None!r}, not 'PMML'")
    return root


@contextmanager
def uncollected() -> Iterator[None]:
    """
    Hold the garbage collector back while elements by the million are made, none in a circle.

    It would look through all of them each time that their number has grown by a quarter.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Tree:
    """Collects expat's events: a :class:`Source`."""

    def __init__(self, compact: Mapping[str, Compactor]) -> None:
        self.root: Element | None = None
        self._compact = compact
        self._reader: Compact | None = None
        self._resume = -1
        """How many elements are open when the reader goes on; -1: none waits."""
        self._open: list[Element] = []
        self._text: list[str] = []
        self._length = 0
        self._names: dict[str, str] = {}
        self.parser = parser = expat.ParserCreate("utf-8")  # whatever it declares
        parser.buffer_text = True
        parser.buffer_size = 1 << 16
        parser.StartDoctypeDeclHandler = self._doctype
        self._listen()

    @property
    def line(self) -> int:
        return int(self.parser.CurrentLineNumber)

    def local(self, name: str) -> str:
        local = self._names.get(name)
        if local is None:
            local = self._names[name] = name.rpartition(":")[2]
        return local

    def collect(self, element: Element) -> None:
        self._resume = len(self._open)
        self._open.append(element)
        self._listen()

    def finish(self) -> None:
        self._reader, self._resume = None, -1
        self._listen()

    def _listen(self) -> None:
        parser, reader = self.parser, None if self._resume >= 0 else self._reader
        parser.StartElementHandler = self._start if reader is None else reader.start
        parser.EndElementHandler = self._end if reader is None else reader.end
        parser.CharacterDataHandler = self._data if reader is None else None

    def _doctype(self, *_: Any) -> None:
        raise UnsupportedModel(
            f"a DTD at line {self.line} is refused; remove the DOCTYPE declaration"
        )

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        tag, line, stack = self.local(name), self.parser.CurrentLineNumber, self._open
        make = self._compact.get(tag) if self._resume < 0 else None
        if make is None:
            element = Element(tag, attributes or _NO_ATTRIBUTES, line)
        else:
            element = self._reader = make(self, attributes, line)
        if stack:
            stack[-1].children.append(element)
            if len(stack) >= MAX_DEPTH:
                raise element.error(f"is nested deeper than {MAX_DEPTH} levels")
            if self._text:
                self._keep(stack[-1])
        else:
            self.root = element
        if make is None:
            stack.append(element)
        else:
            self._listen()

    def _end(self, _: str) -> None:
        element = self._open.pop()
        if self._text:
            self._keep(element)
        if len(self._open) == self._resume:
            self._resume = -1
            self._listen()

    def _data(self, text: str) -> None:
        self._text.append(text)
        self._length += len(text)
        if self._length > MAX_TEXT and self._open:
            raise self._open[-1].error(f"holds more than {MAX_TEXT} characters")

    def _keep(self, element: Element) -> None:
        text = "".join(self._text)
        self._text.clear()
        self._length = 0
        # Blanks between children are layout, except in an element that has nothing else.
        if text.strip() or not element.children:
            element.text += text
