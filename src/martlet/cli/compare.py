"""``martlet audit``, ``convert`` and ``compare``: the steps of bringing a model online, alone."""

from __future__ import annotations

from pathlib import Path

import click

from martlet.cli.output import json_option, print_json, stages
from martlet.cli.report import print_audit, print_certificate
from martlet.cli.rows import limit_option, limits_of, logged_rows, rows_options
from martlet.errors import UnsupportedModel


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
    """Show what the model at PATH ignores, demands, leaks and gives.

    It is found by running the model.

    \b
    Examples:
      martlet audit saved_model/
      martlet audit saved_model/ --rows logged.csv --label-column click
    """
    from martlet.convert import audit as auditing
    from martlet.convert.asking.constants import can_read
    from martlet.convert.parity.judge import judging

    logged = logged_rows(rows, label_column, group, segments)
    with stages(path.name) as say:
        say("auditing")
        with judging(path, format_, logged, trusted=trusted) as judge:
            readable = can_read(judge.format)
            found = auditing.audit(judge.servable, judge.domain, logged, readable=readable)
    print_json(found.to_json()) if as_json else print_audit(found.to_json())


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("made", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--signature", help="Which way to call it.  [default: serving_default]")
@click.option("--format", "format_", help="The model's format.  [default: found by content]")
@click.option("--trusted", is_flag=True, help="The file may run code that it contains (pickle).")
@limit_option
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
    """Convert the model at PATH to ONNX (MADE), and compare the two.

    The certificate is written beside, as MADE.certificate.json. The command fails where a limit is
    passed, and leaves the file for you to look at.

    \b
    Examples:
      martlet convert saved_model/ model.onnx
      martlet convert model.txt trees.onnx --signature columns
    """
    from martlet.certificate import write_certificates
    from martlet.convert.parity.converted import converted

    with stages(path.name) as say:
        say("converting")
        found = converted(path, format_, made, signature or "", limits_of(limits), trusted)
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
@limit_option
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
    """Say whether CANDIDATE answers as ORIGINAL does, and where not.

    Both are asked with random rows, rows at the edges, and logged ones if given. The command
    fails where a limit is passed.

    \b
    Examples:
      martlet compare saved_model/ converted.onnx
      martlet compare model.onnx int8.onnx --limit relative=inf --limit absolute=inf --rows log.csv
    """
    from martlet.convert.parity.converted import compared
    from martlet.convert.parity.judge import judging

    logged = logged_rows(rows, label_column, group, segments)
    allowed = limits_of(limits)
    with stages(candidate.name) as say:
        say("comparing")
        with judging(original, original_format, logged, trusted=trusted) as judge:
            found = compared(judge, candidate, format_, allowed)
    print_json(found.to_json()) if as_json else print_certificate(found)
    if not found.passed:
        raise UnsupportedModel(f"{candidate} is past the limits")
