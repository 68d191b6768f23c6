"""Options that several commands share, each with one name and one help text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


DEFAULT_ROOT = Path("martlet-registry")


def json_option(function: Function) -> Function:
    """Add ``--json``, for output that a script reads."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")(
        function
    )


def model_path(text: str) -> Path:
    """Return where a model lies here; one that MLflow keeps (``models:/name@alias``) is fetched."""
    from martlet.formats.mlflow import store

    return store.fetch_apart(text) if store.is_kept(text) else Path(text)


def root_option(function: Function) -> Function:
    """Add ``--root``, the registry's folder."""
    return click.option(
        "--root",
        type=click.Path(path_type=Path, file_okay=False),
        default=DEFAULT_ROOT,
        envvar="MARTLET_ROOT",
        show_default=True,
        show_envvar=True,
        help="The registry's folder.",
    )(function)


def redis_option(function: Function) -> Function:
    """Add ``--redis``, through which machines share the rows of a table."""
    return click.option(
        "--redis",
        metavar="URL",
        default="",
        envvar="MARTLET_REDIS",
        show_envvar=True,
        help="Share the rows with other machines through this Redis.",
    )(function)


def format_option(function: Function) -> Function:
    """Add ``--format``, for a model whose format is not to be found by content."""
    return click.option(
        "--format", "format_", help="The model's format.  [default: found by content]"
    )(function)


def trusted_option(function: Function) -> Function:
    """Add ``--trusted``, without which no code in a model file runs."""
    return click.option(
        "--trusted", is_flag=True, help="Allow the file to run code that it contains (pickle)."
    )(function)
