"""``martlet import`` and ``report``: bringing a model online, and what that found."""

from __future__ import annotations

from pathlib import Path

import click

from martlet.cli.options import format_option, json_option, model_path, root_option, trusted_option
from martlet.cli.output import print_json, progress, size, stages
from martlet.cli.registry import described
from martlet.cli.report import print_report
from martlet.cli.rows import limit_option, limits_of, logged_rows, rows_options
from martlet.errors import InvalidInput, ModelNotFound
from martlet.names import ModelRef


@click.command("import", context_settings={"show_default": True})
@click.argument("path", type=model_path)
@click.option("--name", required=True, help="The name to register it under.")
@root_option
@click.option("--version", type=click.IntRange(0), help="Its version number.  [default: the next]")
@click.option("--label", "labels", multiple=True, help="Point this label at it; may be repeated.")
@format_option
@click.option(
    "--generation",
    default="",
    help="The id that everything trained together shares.",
    show_default=False,
)
@click.option("--note", "notes", metavar="KEY=VALUE", multiple=True, help="Kept with the version.")
@trusted_option
@click.option("--as-is", is_flag=True, help="Register the file as it is, without converting it.")
@click.option(
    "--user-input",
    "user_inputs",
    multiple=True,
    help="Split the model: this input belongs to the user or the context; may be repeated.",
)
@click.option(
    "--live-tables",
    is_flag=True,
    help="Take tables out of the model even if that is no faster, so that rows can be set.",
)
@click.option(
    "--items",
    type=click.Path(path_type=Path, dir_okay=False),
    help="All items, whose part is computed now (CSV, JSON lines, Parquet or a feature table).",
)
@rows_options
@limit_option
@click.option(
    "--original",
    metavar="PATH",
    type=model_path,
    help="The model that PATH was converted from; PATH is refused unless it answers the same.",
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
    """Bring a model, table or recommender online as a version.

    What PATH is, is found by content. A model is audited and converted, its embedding lookups
    become gathers, its tables leave the graph, and each step is compared with the original. The
    fastest form that was proved equal serves; if none is faster, the file serves as it is. A table
    comes as .npz (keys, vectors), .csv (features, the key first) or .json (lists by key).

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
    """Show what importing a model found and did.

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
