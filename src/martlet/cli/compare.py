"""``martlet audit``, ``convert`` and ``compare``: single steps of bringing a model online."""

from __future__ import annotations

from pathlib import Path

import click

from martlet.cli.options import format_option, json_option, model_path, trusted_option
from martlet.cli.output import print_json, stages
from martlet.cli.report import print_audit, print_certificate
from martlet.cli.rows import limit_option, limits_of, logged_rows, rows_options
from martlet.errors import UnsupportedModel


@click.command()
@click.argument("path", type=model_path)
@format_option
@trusted_option
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
    """Show which inputs of a model matter, and what it gives.

    Found by running the model at PATH: inputs that change nothing, inputs that a request must carry
    all the same, inputs that give the label away, and the range of each output.

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
@click.argument("path", type=model_path)
@click.argument("made", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--signature", help="The signature to convert.  [default: serving_default]")
@format_option
@trusted_option
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
    """Convert a model to ONNX, and compare the two.

    The model at PATH becomes the ONNX file MADE, and MADE.certificate.json beside it says how they
    compare. If a limit is exceeded, the command fails and leaves the file for you to look at.

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
@click.argument("original", type=model_path)
@click.argument("candidate", type=model_path)
@click.option("--original-format", help="The original's format.  [default: found by content]")
@click.option("--format", "format_", help="The candidate's format.  [default: found by content]")
@trusted_option
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
    """Compare two models: do they answer the same, and if not, where.

    ORIGINAL and CANDIDATE are asked with random rows, rows at the edges of the inputs, and logged
    rows if given. The command fails if a limit is exceeded.

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
        raise UnsupportedModel(f"{candidate} differs from {original} by more than the limits")
