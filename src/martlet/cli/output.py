"""What commands print: tables and progress for people, JSON for scripts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from textwrap import wrap
from typing import Any

import click
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

_NO_TERMINAL = 500
"""Characters of a line that goes to a pipe or a file."""

_FOLDED = 12
"""Characters of a folded column, below which the others are folded too: a table is never cut."""

_BESIDE = 2
"""Blanks that a column has beside it."""


def print_json(value: object) -> None:
    """Print *value* as indented JSON on stdout."""
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))


def print_table(
    columns: Iterable[str], rows: Iterable[Iterable[object]], title: str = "", wraps: str = ""
) -> None:
    """
    Print *rows* under *columns*; a column whose name starts with ``#`` is right-aligned.

    Args:
        wraps: The column whose cells take several lines where the terminal is narrow; "" for the
            one with the longest text. Where that is not enough, every column's do.
    """
    names = list(columns)
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if not wraps and cells:
        longest = {
            name: max(len(row[place]) for row in cells)
            for place, name in enumerate(names)
            if not name.startswith("#")
        }
        wraps = max(longest, key=longest.__getitem__, default="")
    console = _console()
    widths = {
        name: max(len(text) for text in (name.removeprefix("#"), *(row[place] for row in cells)))
        for place, name in enumerate(names)
    }
    least = min(widths.get(wraps, 0), _FOLDED)
    others = sum(width for name, width in widths.items() if name != wraps)
    fits = others + least + _BESIDE * len(names) <= console.width
    table = Table(title=title or None, title_justify="left", header_style="bold", box=None)
    for name in names:
        table.add_column(
            name.removeprefix("#"),
            justify="right" if name.startswith("#") else "left",
            no_wrap=fits and name != wraps,
            overflow="fold",
        )
    for row in cells:
        table.add_row(*row)
    console.print(table)


def _console() -> Console:
    """Return the terminal as wide as it is; a pipe or a file so wide that nothing is cut."""
    console = Console()
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(width=_NO_TERMINAL)


Branch = tuple[str, list["Branch"]]
"""A line of a tree, and the lines below it."""


def print_tree(branches: Iterable[Branch]) -> None:
    """Print each of *branches* as a tree, no wider than the terminal."""
    for line, below in branches:
        tree = Tree(Text(line, style="bold"), guide_style="dim")
        _grow(tree, below)
        Console().print(tree)


def _grow(tree: Tree, branches: Iterable[Branch]) -> None:
    for line, below in branches:
        _grow(tree.add(Text(line)), below)


def print_text(text: str, lead: str = "", **style: Any) -> None:
    """Print *text* after *lead*, wrapped at the terminal's width; what follows is indented."""
    width = Console().width
    indent = " " * len(lead)
    for line in wrap(text, width, initial_indent=lead, subsequent_indent=indent,
                     break_long_words=False, break_on_hyphens=False):  # fmt: skip
        click.secho(line, **style)


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar for ``update(done, total)`` on a terminal; nothing where there is none."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def stages(label: str) -> Iterator[Callable[[str], None]]:
    """Show what is being done, as ``say(text)`` tells it, on a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status(label) as status:
        yield lambda text: status.update(f"{label}: {text}")


def size(count: int) -> str:
    """
    Return *count* bytes as a person writes it.

    >>> [size(n) for n in (999, 1500, 73_400_000)]
    ['999 B', '1.5 kB', '73.4 MB']
    """
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")
