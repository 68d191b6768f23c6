"""How a report, an audit and a certificate look on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from martlet.cli.output import print_table, print_text

if TYPE_CHECKING:
    from martlet.certificate import Certificate

Document = Mapping[str, Any]


def print_report(report: Document) -> None:
    """Print what ``convert.report.Report.to_json`` gave."""
    click.secho(f"{report['source']}: {report['format']}", bold=True)
    if report["audit"] is not None:
        print_audit(report["audit"])
    rows = sorted({int(count) for count in report["us"]})
    if rows:
        _print_steps(report, rows)
    for step in report["steps"]:
        if step["why"]:
            print_text(f"{step['name']}: {step['why']}", "  ")
    color = "green" if report["serves"] == "package" else "yellow"
    click.echo()
    print_text(f"serves: the {report['serves']}, since {report['why']}", fg=color, bold=True)


def _print_steps(report: Document, rows: list[int]) -> None:
    columns = ["step", "kept", "#off by", "#rank", "#top k"]
    columns += [f"#us for {count}" for count in rows]
    table: list[list[object]] = [
        ["original", "", "", "", "", *(_us(report["us"], count) for count in rows)]
    ]
    for step in report["steps"]:
        found = step["certificate"] or {}
        table.append(
            [
                step["name"],
                "yes" if step["kept"] else "no",
                _short(found.get("absolute")),
                _figure(found.get("rank_correlation")),
                _figure(found.get("top_k_overlap")),
                *(_us(step["us"], count) for count in rows),
            ]
        )
    print_table(columns, table, title="\nsteps")


def print_audit(audit: Document) -> None:
    """Print what ``convert.audit.Audit.to_json`` gave."""
    rows = []
    for each in audit["inputs"]:
        marks = ["dead" if each["dead"] else "", "demanded" if each["demanded"] else ""]
        marks.append("leak" if each["leak"] else "")
        known = each["range"]
        ends = "" if known["low"] is None and known["high"] is None else _ends(known)
        rows.append(("input", each["name"], each["dtype"], ends, ", ".join(filter(None, marks))))
    for each in audit["outputs"]:
        ends = "" if each["low"] is None else f"{each['low']:.4g} to {each['high']:.4g}"
        what = {True: "a probability", False: "not a probability", None: ""}[each["probability"]]
        rows.append(("output", each["name"], each["dtype"], ends, what))
    print_table(["", "name", "dtype", "range", "found"], rows, title=f"\n{audit['signature']}")
    click.echo()
    for finding in audit["findings"]:
        print_text(finding, "  * ")


def print_certificate(found: Certificate) -> None:
    """Print every comparison, and what is past the limits."""
    rows = [
        (
            each.kind,
            each.segment,
            each.rows,
            _short(each.absolute),
            _figure(each.rank_correlation),
            _figure(each.top_k_overlap),
            _pair(each.auc),
            _pair(each.logloss),
            "yes" if each.passed else "no",
        )
        for each in found.comparisons
    ]
    columns = ["probe", "segment", "#rows", "#off by", "#rank", "#top k"]
    print_table([*columns, "#auc", "#logloss", "passed"], rows)
    for fault in found.faults[:10]:
        print_text(fault, "  * ")
    worst = found.worst
    if worst is not None and worst.worst is not None and found.passed:
        print_text(f"the largest difference: {worst.worst}", "  ")
    color = "green" if found.passed else "red"
    click.secho("the same, within the limits" if found.passed else "not the same", fg=color)


def _ends(known: Document) -> str:
    low = "lowest" if known["low"] is None else known["low"]
    return f"{low} to {'highest' if known['high'] is None else known['high']}"


def _us(found: Document, rows: int) -> str:
    value = found.get(str(rows))
    return "" if value is None else f"{value:,.0f}"


def _short(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, float) else "" if value is None else str(value)


def _figure(value: object) -> str:
    return "" if value is None else f"{value:.4f}"


def _pair(value: tuple[float, float] | None) -> str:
    return "" if value is None else f"{value[0]:.4f} -> {value[1]:.4f}"
