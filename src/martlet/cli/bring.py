"""``martlet import`` and ``report``: bringing a model online, and what that found."""

from __future__ import annotations

from pathlib import Path

import click

from martlet.cli.output import json_option, print_json, progress, root_option, size, stages
from martlet.cli.registry import described
from martlet.cli.report import print_report
from martlet.cli.rows import limit_option, limits_of, logged_rows, rows_options
from martlet.errors import InvalidInput, ModelNotFound
from martlet.names import ModelRef


@click.command("import", context_settings={"show_default": True})
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="What it becomes a version of.")
@root_option
@click.option("--version", type=click.IntRange(0), help="Its number.  [default: the next]")
@click.option("--label", "labels", multiple=True, help="Point this label at it; may be repeated.")
@click.option("--format", "format_", help="The model's format.  [default: found by content]")
@click.option("--generation", default="", help="The id of what was trained together.")
@click.option("--note", "notes", metavar="KEY=VALUE", multiple=True, help="Kept with the version.")
@click.option("--trusted", is_flag=True, help="The file may run code that it contains (pickle).")
@click.option("--as-is", is_flag=True, help="Register the file and do nothing else to it.")
@click.option(
    "--user-input",
    "user_inputs",
    multiple=True,
    help="An input that is the user's or the context's: the model is split; may be repeated.",
)
@click.option(
    "--live-tables", is_flag=True, help="Take tables out whatever that gains: rows can be set."
)
@click.option(
    "--items",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Every item (CSV, JSON lines, Parquet, a feature table): their part is computed now.",
)
@rows_options
@limit_option
@click.option(
    "--original",
    type=click.Path(path_type=Path),
    help="What PATH was converted from: it must answer the same, or is refused.",
)
@json_option
def import_(
    path: Path,
    name: str,
    root: Path,
    version: int | None,
    labels: tuple[str, ...],
    format_: str | None,
    generation: str,
    notes: tuple[str, ...],
    trusted: bool,
    as_is: bool,
    user_inputs: tuple[str, ...],
    live_tables: bool,
    items: Path | None,
    rows: Path | None,
    label_column: str | None,
    group: str | None,
    segments: tuple[str, ...],
    limits: tuple[str, ...],
    original: Path | None,
    as_json: bool,
) -> None:
    """Bring PATH online as a version: a model, table or recommender.

    What it is, is found by content. A model is audited, converted, its lookups rewritten, its
    tables taken out, and each result compared with the original: what is proved equal and is
    faster serves, else the file as it is, and the report says why. A table comes as .npz (keys,
    vectors), .csv (features, the key first) or .json (lists by key).

    \b
    Examples:
      martlet import model.onnx --name ctr --label stable
      martlet import saved_model/ --name ctr --rows logged.csv --user-input userId
      martlet import ranker/ --name ctr --user-input user_id --items items.parquet
      martlet import item_embeddings.npz --name item_vectors --generation 2026-11-21
      martlet import films.toml --name films
    """
    from martlet.importing import bring_path, import_path, is_model
    from martlet.registry import Registry

    told = dict(map(_pair, notes))
    logged = logged_rows(rows, label_column, group, segments)
    report = None
    if original is not None:
        from martlet.convert.parity.converted import compared
        from martlet.convert.parity.judge import judging

        with judging(original, rows=logged, trusted=trusted) as judge:
            compared(judge, path, format_, limits_of(limits)).demand(str(path))
        told["certified_against"] = str(original.absolute())
    with Registry.open(root) as registry:
        if as_is or original is not None or not is_model(path, format_):
            if (rows is not None and original is None) or user_inputs or items or live_tables:
                raise InvalidInput(
                    "--rows, --user-input, --items and --live-tables are for bringing a model "
                    f"online, and {path} is registered as it is"
                )
            with progress(f"importing {path.name}") as update:
                made = import_path(
                    registry,
                    path,
                    name,
                    version=version,
                    format=format_,
                    generation=generation,
                    notes=told,
                    trusted=trusted,
                    progress=update,
                )
        else:
            from martlet.convert.bring import Wanted

            wanted = Wanted(
                logged,
                user_inputs,
                items,
                limits_of(limits),
                trusted=trusted,
                live_tables=live_tables,
            )
            with stages(path.name) as say:
                brought = bring_path(
                    registry,
                    path,
                    name,
                    wanted,
                    version=version,
                    format=format_,
                    generation=generation,
                    notes=told,
                    say=say,
                )
            made, report = brought.version, brought.report.to_json()
        for each in labels:
            registry.label(name, each, made.number)
        made = registry.get(ModelRef(name, made.number))
    if as_json:
        print_json(described(made))
        return
    if report is not None:
        print_report(report)
    what = made.lineage.format or made.kind.value
    click.echo(f"{made} is registered: {what}, {size(made.size)}, {made.uuid}")


@click.command()
@click.argument("name")
@root_option
@json_option
def report(name: str, root: Path, as_json: bool) -> None:
    """Show what bringing NAME online found and did.

    NAME may say a version: ctr, ctr@3, ctr@stable.

    \b
    Examples:
      martlet report ctr
      martlet report ctr@3 --json
    """
    from martlet.importing import report_of
    from martlet.registry import Registry

    with Registry.open(root, create=False) as registry:
        version = registry.get(name)
    found = report_of(version)
    if found is None:
        raise ModelNotFound(f"{version} has no report: it was imported as it is")
    print_json(found) if as_json else print_report(found)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise InvalidInput(f"--note {text!r} is not KEY=VALUE")
    return key, value
