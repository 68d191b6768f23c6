"""``martlet table``: the rows of an embedding table, read and set while it is served."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from martlet.cli.options import json_option, redis_option, root_option
from martlet.cli.output import print_json, print_table
from martlet.cli.table_follow import follow
from martlet.cli.table_opening import apply, key_of, open_file, open_table
from martlet.cli.table_precision import precision
from martlet.errors import InvalidInput, ModelNotFound

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from martlet.stores.updates import Applied, Update

_NUMBERS = {"ignore_unknown_options": True}  # -0.5 is a component, and no option


@click.group()
def table() -> None:
    """Read and set rows of an embedding table while it is served.

    NAME is a registered table (items, items@3, items@stable), a table in a registered package
    (ctr/item_id), or a table file.
    """


table.add_command(follow)
table.add_command(precision)


@table.command("get", context_settings=_NUMBERS)
@click.argument("name")
@click.argument("keys", nargs=-1, required=True)
@root_option
@json_option
def get(name: str, keys: tuple[str, ...], root: Path, as_json: bool) -> None:
    """Show the vectors of keys as servers have them now.

    \b
    Examples:
      martlet table get items 42 43
    """
    found = open_table(name, root)
    wanted = [key_of(found, key) for key in keys]
    gathered = found.get_many(wanted)
    rows: list[dict[str, object]] = [
        {"key": key, "vector": _numbers(vector) if known else None}
        for key, vector, known in zip(wanted, *gathered, strict=True)
    ]
    _print_rows(rows, as_json)
    if not gathered.known.all():
        missing = [key for key, known in zip(wanted, gathered.known, strict=True) if not known]
        raise ModelNotFound(f"no key {missing[0]!r} in the table {name}")


@table.command("rows")
@click.argument("name")
@click.option("--live", is_flag=True, help="Only rows that were set since the table was imported.")
@click.option("--start", type=click.IntRange(0), default=0, show_default=True, help="Rows to skip.")
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="Rows to show."
)
@root_option
@json_option
def rows(name: str, live: bool, start: int, limit: int, root: Path, as_json: bool) -> None:
    """List keys and their vectors.

    \b
    Examples:
      martlet table rows items --live --json
    """
    found = open_table(name, root)
    some = (found.live_rows if live else found.all_rows)[start : start + limit]
    keys = found.keys.at(some).tolist()
    shown = zip(keys, found.take(some), strict=True)
    _print_rows([{"key": key, "vector": _numbers(vector)} for key, vector in shown], as_json)


@table.command("set", context_settings=_NUMBERS)
@click.argument("name")
@click.argument("key", required=False)
@click.argument("values", nargs=-1)
@click.option(
    "--from",
    "source",
    metavar="FILE",
    help="Rows from .npz, .csv, .parquet or .jsonl; - reads JSON lines from standard input.",
)
@click.option("--generation", default="", help="Refuse unless the table is of this generation.")
@redis_option
@root_option
@json_option
def set_(
    name: str,
    key: str | None,
    values: tuple[str, ...],
    source: str | None,
    generation: str,
    redis: str,
    root: Path,
    as_json: bool,
) -> None:
    """Set the vector of a key, or many rows from a file.

    Servers use it within a second. It is on disk when the command ends.

    \b
    Examples:
      martlet table set items 42 0.1 -0.2 0.3
      martlet table set items --from today.npz
      martlet table set items --from - < updates.jsonl
    """
    from martlet.stores.updates import Update

    found = open_table(name, root)
    if (source is None) == (key is None) or (source is not None and values):
        raise InvalidInput("give either KEY and VALUES, or --from FILE")
    if source is not None:
        updates = _updates_from(source)
    else:
        assert key is not None
        updates = [Update(key_of(found, key), _vector(values))]
    updates = [each._replace(generation=each.generation or generation) for each in updates]
    _print_applied(name, apply(name, found, updates, redis), as_json)


@table.command("remove", context_settings=_NUMBERS)
@click.argument("name")
@click.argument("keys", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Take back every row that was set.")
@redis_option
@root_option
@json_option
def remove(
    name: str, keys: tuple[str, ...], everything: bool, redis: str, root: Path, as_json: bool
) -> None:
    """Take back rows that were set.

    KEYS are again as imported, or unknown.

    \b
    Examples:
      martlet table remove items 42
      martlet table remove items --all
    """
    from martlet.stores.updates import Update

    found = open_table(name, root)
    if everything == bool(keys):
        raise InvalidInput("give either KEYS or --all")
    wanted = [key_of(found, key) for key in keys]
    if everything:
        wanted = found.keys.at(found.live_rows).tolist()
    removals = [Update(key, None) for key in wanted]
    _print_applied(name, apply(name, found, removals, redis), as_json)


@table.command("stats")
@click.argument("name")
@root_option
@json_option
def stats(name: str, root: Path, as_json: bool) -> None:
    """Show what a table holds, and how many rows were set.

    \b
    Examples:
      martlet table stats items
    """
    found = open_table(name, root)
    about: dict[str, object] = {
        "file": str(found.path),
        "generation": found.generation,
        "identity": found.identity.hex(),
        "keys": "text" if found.text_keys else "integer",
        "rows": len(found),
        "dim": found.dim,
        "precision": found.precision,
    }
    if found.live is not None:
        live = asdict(found.live.stats())
        updated_ns = live.pop("updated_ns")
        live["updated"] = (
            datetime.fromtimestamp(updated_ns / 1e9).astimezone().isoformat() if updated_ns else ""
        )
        live["followed to"] = found.live.file.cursor
        about |= {f"live {name.replace('_', ' ')}": value for name, value in live.items()}
    if as_json:
        print_json({name.replace(" ", "_"): value for name, value in about.items()})
        return
    print_table(["", ""], about.items())


@table.command("compact")
@click.argument("name")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a table file here; required if NAME is a file.",
)
@click.option(
    "--precision",
    "to_precision",
    type=click.Choice(["float32", "float16", "int8"]),
    help="How the new version stores vectors.  [default: as now]",
)
@root_option
@json_option
def compact(
    name: str, output: Path | None, to_precision: str | None, root: Path, as_json: bool
) -> None:
    """Fold the rows that were set into a new version of the table.

    Servers switch to it as to any new version. The old version takes no more rows.

    \b
    Examples:
      martlet table compact items
      martlet table compact items --precision int8    (see: martlet table precision)
    """
    from martlet.registry import Kind, Registry
    from martlet.stores.fold import fold, write_folded

    found = open_table(name, root)
    if output is not None:
        write_folded(found, output, to_precision or "")
        made = str(output)
    elif Path(name).is_file() or "/" in name:
        raise InvalidInput(f"{name} is not a registered table: give --output PATH")
    else:
        with Registry.open(root, create=False) as registry:
            version = registry.get(name)
            number = fold(
                found,
                lambda path: (
                    registry.import_(
                        path,
                        version.name,
                        kind=Kind.EMBEDDINGS,
                        generation=version.lineage.generation,
                        source=f"{version} and the rows that were set in it",
                        check=lambda staged: open_file(staged).verify(),
                    ).number
                ),
                to_precision or "",
            )
            made = f"{version.name}@{number}"
    if as_json:
        print_json({"made": made, "rows": len(found)})
        return
    click.echo(f"{name} was folded into {made}: {len(found)} rows")


def _updates_from(source: str) -> list[Update]:
    from martlet.stores.updates import parse_lines, read_updates

    if source == "-":
        return parse_lines(sys.stdin.buffer.read().splitlines(), "standard input")
    return read_updates(Path(source))


def _vector(values: tuple[str, ...]) -> list[float]:
    text = ",".join(values)
    try:
        found = json.loads(text if text.startswith("[") else f"[{text}]")
    except ValueError:
        raise InvalidInput(f"{' '.join(values)!r} is not a list of numbers") from None
    assert isinstance(found, list)
    return found


def _numbers(vector: NDArray[np.float32]) -> list[float]:
    """Return *vector* in as few digits as its float32 have: 0.1, not 0.10000000149011612."""
    return [float(str(each)) for each in vector]


def _print_rows(found: list[dict[str, object]], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for row in found:
        click.echo(json.dumps(row, ensure_ascii=False))


def _print_applied(name: str, applied: Applied, as_json: bool) -> None:
    if as_json:
        print_json({"table": name, "set": applied.set, "removed": applied.removed})
        return
    click.echo(f"{name}: {applied.set} rows set, {applied.removed} taken back")
