"""``martlet import``, ``report``, ``audit`` and ``compare``: bringing a model online."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from martlet.cli.output import json_option, print_json, progress, root_option, size, stages
from martlet.cli.registry import described
from martlet.cli.report import print_audit, print_certificate, print_report
from martlet.errors import InvalidInput, ModelNotFound, UnsupportedModel
from martlet.names import ModelRef

if TYPE_CHECKING:
    from martlet.certificate import Certificate, Limits
    from martlet.convert.rows import Logged

Function = TypeVar("Function", bound=Callable[..., Any])

# A model is asked for what it refuses, on purpose: TensorFlow would log each refusal.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def rows_options(function: Function) -> Function:
    """Add the options of what logged rows are, and which of their columns say what."""
    for option in (
        click.option(
            "--segment", "segments", multiple=True, help="A column to tell apart; may be repeated."
        ),
        click.option(
            "--group", help="The column that says whose a row is: order is compared in it."
        ),
        click.option("--label-column", help="The column with what came of a row, 0 or 1."),
        click.option(
            "--rows",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Logged rows to ask with (CSV, JSON lines, Parquet).",
        ),
    ):
        function = option(function)
    return function


def _limit_option(function: Function) -> Function:
    return click.option(
        "--limit",
        "limits",
        metavar="KEY=VALUE",
        multiple=True,
        help="How far answers may be off, such as relative=1e-4 or auc=0.001; may be repeated.",
    )(function)


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
@_limit_option
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
    """Bring PATH online as a new version: a model, a table, or a recommender's declaration.

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
    report = None
    if original is not None:
        logged = logged_rows(rows, label_column, group, segments)
        found = _compared(original, path, None, format_, trusted, logged, _limits(limits))
        found.demand(str(path))
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
                logged_rows(rows, label_column, group, segments),
                user_inputs,
                items,
                _limits(limits),
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
    """Show what bringing NAME online found and did (ctr, ctr@3, ctr@stable).

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


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--format", "format_", help="The model's format.  [default: found by content]")
@click.option("--trusted", is_flag=True, help="The file may run code that it contains (pickle).")
@rows_options
@json_option
def audit(
    path: Path,
    format_: str | None,
    trusted: bool,
    rows: Path | None,
    label_column: str | None,
    group: str | None,
    segments: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show what the model at PATH ignores, demands, leaks and gives, found by running it.

    \b
    Examples:
      martlet audit saved_model/
      martlet audit saved_model/ --rows logged.csv --label-column click
    """
    from martlet import formats
    from martlet.convert import audit as auditing
    from martlet.convert.ranges import default_signature, domain_of
    from martlet.convert.words import can_read, words_of

    logged = logged_rows(rows, label_column, group, segments)
    name = format_ or formats.sniff(path).name
    with (
        stages(path.name) as say,
        closing(formats.load(path, formats.LoadOptions(trusted=trusted), name)) as servable,
    ):
        say("auditing")
        signature = servable.signatures[default_signature(servable)]
        real = None if logged is None else logged.probe(signature).inputs
        domain = domain_of(servable, words=words_of(path, name), logged=real)
        found = auditing.audit(servable, domain, logged, readable=can_read(name)).to_json()
    print_json(found) if as_json else print_audit(found)


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("made", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--signature", help="Which way to call it.  [default: serving_default]")
@click.option("--format", "format_", help="The model's format.  [default: found by content]")
@click.option("--trusted", is_flag=True, help="The file may run code that it contains (pickle).")
@_limit_option
@json_option
def convert(
    path: Path,
    made: Path,
    signature: str | None,
    format_: str | None,
    trusted: bool,
    limits: tuple[str, ...],
    as_json: bool,
) -> None:
    """Convert the model at PATH to the ONNX file MADE, and say whether it answers the same.

    The certificate is written beside, as MADE.certificate.json. The command fails where a limit is
    passed, and leaves the file for you to look at.

    \b
    Examples:
      martlet convert saved_model/ model.onnx
      martlet convert model.txt trees.onnx --signature columns
    """
    from martlet import formats
    from martlet.certificate import write_certificates
    from martlet.convert.converted import converted

    name = format_ or formats.sniff(path).name
    with stages(path.name) as say:
        say("converting")
        found = converted(path, name, made, signature or "", _limits(limits), trusted)
    write_certificates(made.with_name(f"{made.name}.certificate.json"), [found])
    print_json(found.to_json()) if as_json else print_certificate(found)
    if not found.passed:
        raise UnsupportedModel(f"{made} does not answer as {path} does")


@click.command()
@click.argument("original", type=click.Path(path_type=Path))
@click.argument("candidate", type=click.Path(path_type=Path))
@click.option("--original-format", help="The original's format.  [default: found by content]")
@click.option("--format", "format_", help="The candidate's.  [default: found by content]")
@click.option("--trusted", is_flag=True, help="The files may run code that they contain (pickle).")
@rows_options
@_limit_option
@json_option
def compare(
    original: Path,
    candidate: Path,
    original_format: str | None,
    format_: str | None,
    trusted: bool,
    rows: Path | None,
    label_column: str | None,
    group: str | None,
    segments: tuple[str, ...],
    limits: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say whether CANDIDATE answers as ORIGINAL does, and where and by how much it does not.

    Both are asked with random rows, rows at the edges, and logged ones if given. The command
    fails where a limit is passed.

    \b
    Examples:
      martlet compare saved_model/ converted.onnx
      martlet compare model.onnx int8.onnx --limit relative=inf --limit absolute=inf --rows log.csv
    """
    logged = logged_rows(rows, label_column, group, segments)
    with stages(candidate.name) as say:
        say("comparing")
        found = _compared(
            original, candidate, original_format, format_, trusted, logged, _limits(limits)
        )
    print_json(found.to_json()) if as_json else print_certificate(found)
    if not found.passed:
        raise UnsupportedModel(f"{candidate} is past the limits")


def _compared(
    original: Path,
    candidate: Path,
    original_format: str | None,
    format_: str | None,
    trusted: bool,
    logged: Logged | None,
    limits: Limits,
) -> Certificate:
    from martlet import formats
    from martlet.convert.parity import certify
    from martlet.convert.probes import probes_for
    from martlet.convert.ranges import default_signature, domain_of
    from martlet.convert.words import words_of

    options = formats.LoadOptions(trusted=trusted)
    kind = original_format or formats.sniff(original).name
    with (
        closing(formats.load(original, options, kind)) as judge,
        closing(formats.load(candidate, options, format_)) as judged,
    ):
        name = default_signature(judge)
        if name not in judged.signatures:
            raise InvalidInput(f"{candidate} has no signature {name!r}, which {original} has")
        probe = None if logged is None else logged.probe(judge.signatures[name])
        domain = domain_of(
            judge,
            words=words_of(original, kind),
            logged=None if probe is None else probe.inputs,
        )
        return certify(
            "compare",
            judge,
            judged,
            probes_for(judge, domain, probe),
            signature_name=name,
            files=(original, candidate),
            limits=limits,
        )


def logged_rows(
    rows: Path | None, label: str | None, group: str | None, segments: tuple[str, ...]
) -> Logged | None:
    """Return what those options say; None without ``--rows``."""
    from martlet.convert.rows import read_rows

    if rows is None:
        if label or group or segments:
            raise InvalidInput("--label-column, --group and --segment name columns of --rows FILE")
        return None
    return read_rows(rows, label=label, group=group, segments=segments)


def _limits(given: tuple[str, ...]) -> Limits:
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


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise InvalidInput(f"--note {text!r} is not KEY=VALUE")
    return key, value
