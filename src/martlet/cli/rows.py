"""Options of the commands that compare models: logged rows, and limits."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from martlet.errors import InvalidInput

if TYPE_CHECKING:
    from martlet.certificate import Limits
    from martlet.convert.asking.rows import Logged

Function = TypeVar("Function", bound=Callable[..., Any])

# Models are asked on purpose what they refuse: TensorFlow would log each refusal.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def rows_options(function: Function) -> Function:
    """Add the options for logged rows: the file, and what its columns mean."""
    for option in (
        click.option(
            "--segment",
            "segments",
            multiple=True,
            help="A column whose values are compared one by one; may be repeated.",
        ),
        click.option(
            "--group", help="The column with the user of a row: order is compared within a user."
        ),
        click.option("--label-column", help="The column with the outcome of a row, 0 or 1."),
        click.option(
            "--rows",
            type=click.Path(path_type=Path, dir_okay=False),
            help="A file of logged requests to ask with (CSV, JSON lines or Parquet).",
        ),
    ):
        function = option(function)
    return function


def logged_rows(
    rows: Path | None, label: str | None, group: str | None, segments: tuple[str, ...]
) -> Logged | None:
    """
    Return the rows that those options describe; None without ``--rows``.

    Raises:
        InvalidInput: columns are named, and no file; or the file does not have them.
        ModelNotFound: there is no such file.
    """
    from martlet.convert.asking.rows import read_rows

    if rows is None:
        if label or group or segments:
            raise InvalidInput("--label-column, --group and --segment name columns of --rows FILE")
        return None
    return read_rows(rows, label=label, group=group, segments=segments)


def limit_option(function: Function) -> Function:
    """Add the option that changes a limit."""
    return click.option(
        "--limit",
        "limits",
        metavar="KEY=VALUE",
        multiple=True,
        help="How far answers may differ, such as relative=1e-4 or auc=0.001; may be repeated.",
    )(function)


def limits_of(given: tuple[str, ...]) -> Limits:
    """Return the usual limits, changed as *given* says."""
    from martlet.certificate import Limits

    kinds = {each.name: type(getattr(Limits(), each.name)) for each in fields(Limits)}
    values: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or key not in kinds:
            raise InvalidInput(
                f"--limit {text!r} is not KEY=VALUE with a KEY of {', '.join(kinds)}"
            )
        try:
            kind = kinds[key]
            values[key] = value.lower() in ("1", "true", "yes") if kind is bool else kind(value)
        except ValueError:
            raise InvalidInput(f"--limit {text!r} wants a number") from None
    return replace(Limits(), **values)
