"""``martlet shrink``: fewer bits, weights or units, and what each does to the ranking."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from martlet.cli.options import format_option, json_option, model_path, trusted_option
from martlet.cli.output import print_json, print_table, size, stages
from martlet.cli.rows import logged_rows, rows_options
from martlet.errors import MissingExtra

if TYPE_CHECKING:
    from martlet.certificate import Limits
    from martlet.convert.parity.judge import Judge
    from martlet.convert.shrinking.shrink import Trial
    from martlet.convert.shrinking.ways import Method


@click.command(context_settings={"show_default": True})
@click.argument("path", type=model_path)
@format_option
@trusted_option
@click.option(
    "--method",
    "methods",
    multiple=True,
    help="int8, int8-static, fp16, prune-weights:SHARE or prune-units:SHARE; may be repeated."
    "  [default: all, with usual shares]",
)
@rows_options
@click.option("--rank-correlation", default=0.999, help="The least allowed (Spearman's).")
@click.option("--top-k-overlap", default=0.99, help="The least share of the ten best that stays.")
@click.option("--auc", default=1e-3, help="The most the AUC may change, with labels.")
@click.option(
    "--output",
    "--out",
    "out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the chosen model here.",
)
@json_option
def shrink(
    path: Path,
    format_: str | None,
    trusted: bool,
    methods: tuple[str, ...],
    rows: Path | None,
    label_column: str | None,
    group: str | None,
    segments: tuple[str, ...],
    rank_correlation: float,
    top_k_overlap: float,
    auc: float,
    out: Path | None,
    as_json: bool,
) -> None:
    """Make a net smaller in several ways, and show what each costs.

    Each is compared with the model at PATH in its own library, on logged rows, or on random ones if
    none are given. The fastest that stays within the allowed damage is chosen.

    \b
    Examples:
      martlet shrink ranker.onnx --rows logged.csv --group userId
      martlet shrink saved_model/ --method int8 --method prune-units:0.25 --output small.onnx
      martlet import small.onnx --name ctr --original saved_model/ --limit relative=inf ...
    """
    from martlet.convert.parity.judge import judging

    try:
        from martlet.convert.shrinking.shrink import allowing, chosen
        from martlet.convert.shrinking.ways import USUAL, Method
    except ModuleNotFoundError:
        raise MissingExtra("making a net smaller", "convert") from None

    wanted = tuple(map(Method.parse, methods)) or USUAL
    logged = logged_rows(rows, label_column, group, segments)
    limits = allowing(rank_correlation, top_k_overlap, auc)
    with stages(path.name) as say, tempfile.TemporaryDirectory(prefix="martlet-") as scratch:
        say("finding what it takes")
        with judging(path, format_, logged, trusted=trusted) as judge:
            found = _tried(judge, wanted, limits, Path(scratch), say)
        best = chosen(found)
        if out is not None and best.path is not None:
            shutil.copyfile(best.path, out)
    if as_json:
        print_json({"chosen": best.method, "trials": [_json(each) for each in found]})
        return
    _print(found, best)
    if out is not None:
        click.echo(f"written to {out}")


def _tried(
    judge: Judge,
    methods: Sequence[Method],
    limits: Limits,
    scratch: Path,
    say: Callable[[str], None],
) -> list[Trial]:
    import onnx

    from martlet.certificate import Limits
    from martlet.convert.parity.converted import conversion
    from martlet.convert.shrinking.shrink import trials

    model = scratch / "converted.onnx"
    if judge.format == "onnx":
        model = judge.to_onnx(model)
    else:
        say("converting it to ONNX")
        # Converters lose assertions, so the ranges of the inputs are the original's, not the
        # graph's.
        found = conversion(judge, model, Limits(same_refusals=False))
        found.demand(f"its conversion from {judge.format}")
    # What is allowed is damage to what is asked in practice: edges are for exact steps.
    kind = "random" if judge.logged is None else "logged"
    probes = [each for each in judge.probes if each.kind == kind]
    few = {n: v[:200] if v.ndim else v for n, v in probes[0].inputs.items()}
    return trials(
        judge.servable,
        onnx.load(str(model)),
        probes,
        few,
        scratch,
        signature_name=judge.domain.name,
        methods=methods,
        limits=limits,
        progress=say,
    )


def _print(found: list[Trial], best: Trial) -> None:
    rows = []
    for each in found:
        made = each.path is not None and each.comparisons
        auc = each.auc_change
        rows.append(
            (
                each.method,
                "*" if each is best else "",
                size(each.bytes) if each.path is not None else "-",
                f"{each.microseconds:.0f}" if made else "-",
                f"{each.absolute:.2g}" if made else "-",
                f"{each.rank_correlation:.5f}" if made else "-",
                f"{each.top_k_overlap:.4f}" if made else "-",
                "-" if auc is None else f"{auc:+.5f}",
                each.reason,
            )
        )
    columns = ["method", "", "#size", "#us", "#off by", "#rank", "#top k", "#auc", "not allowed"]
    print_table(columns, rows)
    click.secho(f"chosen: {best.method}", bold=True)


def _json(trial: Trial) -> dict[str, object]:
    if trial.path is None:
        return {"method": trial.method, "reason": trial.reason}
    return {
        "method": trial.method,
        "bytes": trial.bytes,
        "microseconds": trial.microseconds,
        "absolute": trial.absolute,
        "rank_correlation": trial.rank_correlation,
        "top_k_overlap": trial.top_k_overlap,
        "auc_change": trial.auc_change,
        "reason": trial.reason,
    }
