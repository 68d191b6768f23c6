"""``martlet table follow``: a stream of updates, applied as they come."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from martlet.cli.options import json_option, redis_option, root_option
from martlet.cli.output import print_json
from martlet.cli.table_opening import open_table, shared_rows
from martlet.errors import InvalidInput

if TYPE_CHECKING:
    from martlet.stores import Embeddings
    from martlet.stores.lines import Lines
    from martlet.stores.shared import SharedRows
    from martlet.stores.updates import Applied

_TELL_S = 10.0


@click.command("follow")
@click.argument("name")
@click.argument("source", required=False)
@click.option("--listen", metavar="ADDRESS", help="Take lines from clients that connect here.")
@click.option("--once", is_flag=True, help="Stop at the end of the file.")
@redis_option
@click.option("--sync-s", default=1.0, show_default=True, help="How often rows are synced to disk.")
@root_option
@json_option
def follow(
    name: str,
    source: str | None,
    listen: str | None,
    once: bool,
    redis: str,
    sync_s: float,
    root: Path,
    as_json: bool,
) -> None:
    """Apply updates as they come, from a growing file or a pipe.

    SOURCE is a file of JSON lines; - is standard input.

    A line is {"key": 42, "vector": [0.1, 0.2]} or {"key": 42, "remove": true}. A line that does
    not fit is counted, reported and skipped. A file is followed from where the last run stopped.

    With --redis, updates go to all machines. With --redis alone (no SOURCE, no --listen), updates
    from other machines are applied here, as a server with --redis does by itself.

    \b
    Examples:
      martlet table follow items updates.jsonl
      producer | martlet table follow items -
      martlet table follow items --listen 127.0.0.1:7700
      martlet table follow items --redis redis://store:6379/0
    """
    from martlet.stores import follow as following

    if source is not None and listen is not None:
        raise InvalidInput("give either SOURCE or --listen ADDRESS")
    if source is None and listen is None and not redis:
        raise InvalidInput("give SOURCE or --listen ADDRESS, or --redis URL")
    found = open_table(name, root)
    shared = shared_rows(name, found, redis) if redis else None
    if source is None and listen is None:
        assert shared is not None
        _keep_up(found, shared, sync_s)
        return
    folded = (lambda: open_table(name, root)) if not Path(name).is_file() else None
    lines = _lines(found, source, listen, once)
    applied = None
    with _told() as told:
        try:
            applied = following.follow(
                found, lines, sync_s=sync_s, reopened=folded, told=told, shared=shared
            )
        except KeyboardInterrupt:
            found.sync()
    if applied is not None and as_json:
        print_json({"set": applied.set, "removed": applied.removed, "refused": applied.refused})


def _keep_up(found: Embeddings, shared: SharedRows, sync_s: float) -> None:
    from martlet.stores.follow import keep_up

    click.echo(f"martlet follows {shared} into {found.path}")
    sys.stdout.flush()
    with _told() as told, suppress(KeyboardInterrupt):
        keep_up(found, shared, sync_s=sync_s, told=told)


def _lines(
    found: Embeddings, source: str | None, listen: str | None, once: bool
) -> Iterator[Lines]:
    from martlet.stores import lines

    if listen is not None:
        listening = lines.listen(listen)
        click.echo(f"martlet takes updates at {listening.getsockname()}")
        sys.stdout.flush()
        return lines.socket_lines(listening)
    assert source is not None
    if source == "-":
        return lines.pipe_lines(sys.stdin.fileno())
    cursor = found.live.file.cursor if found.live is not None else ""
    return lines.file_lines(Path(source), cursor, once=once)


@contextmanager
def _told() -> Iterator[Callable[[Applied], None]]:
    """Print what was applied, every ten seconds and at the end; what was refused, at once."""
    from martlet.stores.updates import Applied

    since, began = Applied(), time.monotonic()

    def tell() -> None:
        nonlocal since, began
        if since != Applied():
            took = time.monotonic() - began
            click.echo(
                f"{since.set} set, {since.removed} taken back, {since.refused} refused "
                f"in {took:.1f} s",
                err=True,
            )
        since, began = Applied(), time.monotonic()

    def told(applied: Applied) -> None:
        nonlocal since
        if applied.why:
            count = f"refused {applied.refused}: " if applied.refused else ""
            click.echo(f"{count}{applied.why}", err=True)
        since = since + applied
        if time.monotonic() - began > _TELL_S:
            tell()

    yield told
    tell()
