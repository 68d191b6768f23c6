"""``martlet models``, ``label``, ``retire`` and ``delete``: what is registered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from martlet.cli.options import json_option, root_option
from martlet.cli.output import print_json, print_table, progress, size
from martlet.errors import InvalidInput

if TYPE_CHECKING:
    from martlet.registry import Move, Registry, Version


@click.command()
@click.argument("name", required=False)
@root_option
@click.option("--all", "deleted", is_flag=True, help="Include deleted versions.")
@click.option("--verify", is_flag=True, help="Read every file and check its digest.")
@json_option
def models(name: str | None, root: Path, deleted: bool, verify: bool, as_json: bool) -> None:
    """List what is registered: models, tables and recommenders.

    The newest version comes first.

    \b
    Examples:
      martlet models
      martlet models ctr --json
    """
    from martlet.registry import Registry, Standing

    with Registry.open(root, create=False) as registry:
        found = registry.versions(name, deleted=deleted)
        if verify:
            _verify(registry, found)
    if as_json:
        print_json([described(each) for each in found])
        return
    if not found:
        click.echo(
            f"nothing is registered in {root} yet: martlet import PATH --name NAME", err=True
        )
        return
    columns: dict[str, Callable[[Version], object]] = {
        "name": lambda each: each.name,
        "#version": lambda each: each.number,
        "kind": lambda each: each.kind.value,
        "format": lambda each: each.lineage.format,
        "labels": lambda each: ", ".join(each.labels),
        "#size": lambda each: size(each.size),
        "imported": lambda each: _when(each.lineage.imported_at),
    }
    if any(each.standing is not Standing.AVAILABLE for each in found):
        columns["standing"] = lambda each: each.standing.value
    if name is not None:
        columns["by"] = lambda each: each.lineage.imported_by
    print_table(columns, [[of(each) for of in columns.values()] for each in found])


def _verify(registry: Registry, found: list[Version]) -> None:
    with progress("reading files") as update:
        for done, each in enumerate(found, 1):
            registry.verify(each)
            update(done, len(found))


@click.command()
@click.argument("name")
@click.argument("version", type=int, required=False)
@click.argument("label", required=False)
@root_option
@click.option("--remove", metavar="LABEL", help="Remove this label.")
@json_option
def label(
    name: str, version: int | None, label: str | None, root: Path, remove: str | None, as_json: bool
) -> None:
    """Point a label at a version, or show how labels moved.

    A server that serves the registry follows within about a second.

    \b
    Examples:
      martlet label ctr 3 stable      roll forward, or back
      martlet label ctr               who moved what, when
      martlet label ctr --remove canary
    """
    from martlet.registry import Registry

    with Registry.open(root, create=False) as registry:
        if remove is not None:
            registry.unlabel(name, remove)
        elif version is not None:
            if label is None:
                raise InvalidInput("give both: martlet label NAME VERSION LABEL")
            registry.label(name, label, version)
        moves = registry.moves(name, remove or label)
    if version is not None or remove is not None:
        moves = moves[-1:]
    if as_json:
        print_json([_move(each) for each in moves])
        return
    print_table(
        ["label", "#from", "#to", "when", "by"],
        [(each.label, each.before, each.after, _when(each.at), each.by) for each in moves],
    )


@click.command()
@click.argument("reference", metavar="NAME@VERSION")
@root_option
@click.option("--restore", is_flag=True, help="Let it serve again.")
@json_option
def retire(reference: str, root: Path, restore: bool, as_json: bool) -> None:
    """Keep a version, but stop serving it.

    A server that serves the registry follows within about a second. A version that a label names
    cannot be retired: move the label first.

    \b
    Examples:
      martlet retire ctr@2
      martlet retire ctr@2 --restore
    """
    from martlet.registry import Registry

    with Registry.open(root, create=False) as registry:
        version = registry.restore(reference) if restore else registry.retire(reference)
    _print_standing(version, as_json)


@click.command()
@click.argument("reference", metavar="NAME@VERSION")
@root_option
@json_option
def delete(reference: str, root: Path, as_json: bool) -> None:
    """Remove the files of a version, for good.

    Its record stays (``martlet models --all``), and its number is not used again. A version that a
    label names cannot be deleted: move the label first.

    \b
    Examples:
      martlet delete ctr@2
    """
    from martlet.registry import Registry

    with Registry.open(root, create=False) as registry:
        version = registry.delete(reference)
    _print_standing(version, as_json)


def _print_standing(version: Version, as_json: bool) -> None:
    if as_json:
        print_json(described(version))
    else:
        click.echo(f"{version} is {version.standing.value}")


def _move(move: Move) -> dict[str, object]:
    return {
        "name": move.name,
        "label": move.label,
        "from": move.before,
        "to": move.after,
        "at": move.at.isoformat(),
        "by": move.by,
    }


def _when(at: datetime) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M")


def described(version: Version) -> dict[str, object]:
    """Return what is known of *version*, for JSON."""
    from martlet.importing import REPORT, report_of

    lineage = version.lineage
    return {
        "name": version.name,
        "version": version.number,
        "uuid": str(version.uuid),
        "kind": version.kind.value,
        "standing": version.standing.value,
        "labels": version.labels,
        "format": lineage.format,
        "generation": lineage.generation,
        "source": lineage.source,
        "imported_at": lineage.imported_at.isoformat(),
        "imported_by": lineage.imported_by,
        "notes": {name: note for name, note in lineage.notes.items() if name != REPORT},
        "report": report_of(version),
        "metrics": dict(lineage.metrics),
        "files": [{"path": f.path, "bytes": f.size, "sha256": f.sha256} for f in version.files],
    }
