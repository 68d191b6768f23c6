"""A graph with the original beside it: for models of tables, which are called in several ways.

martlet's reader answers a row or two faster than any graph; many rows some models answer faster as
ONNX. Both are measured, and each answers the numbers of rows that it is faster at.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from martlet import formats
from martlet.convert.parity.converted import Renamed
from martlet.convert.parity.judge import Judge
from martlet.convert.rebuild import Package, made_from, sealed
from martlet.convert.steps import Steps, not_loaded
from martlet.convert.timing import gain
from martlet.convert.to_onnx import Bounds
from martlet.errors import MartletError, UnsupportedModel, first_line
from martlet.formats.package.paired import Paired
from martlet.servable import DEFAULT_SIGNATURE

PAIRED = frozenset({"lightgbm", "xgboost", "catboost", "spark", "mleap", "pmml", "sklearn"})
"""Formats whose reader is light enough to stand beside a graph."""


def paired(
    steps: Steps, strict: Judge, scratch: Path, bounds: Bounds, least_gain: float
) -> Package | None:
    """
    Convert the model, and return the package of both where the graph is faster for many rows.

    Args:
        strict: Judges the model as an ONNX file can answer it.
        scratch: The folder that the package is made in.
        least_gain: How many times faster the graph must be to answer.
    """
    begun = time.perf_counter()
    steps.say("converting it to ONNX")
    made = scratch / "converted.onnx"
    try:
        strict.to_onnx(made, bounds)
    except UnsupportedModel as exc:
        steps.note("convert", False, first_line(exc), begun)
        return None
    try:
        graph = formats.load(made, format="onnx")
    except MartletError as exc:
        steps.note("convert", False, not_loaded(exc, made), begun)
        return None
    name = strict.domain.name
    with closing(graph):
        answering = Renamed(graph, DEFAULT_SIGNATURE, name)
        us = steps.speed(Paired(answering, steps.judge.servable, name, 0))
        rows = rows_from(steps.us, us, least_gain)
        if rows is None:
            gained = gain(steps.us, us)
            why = f"as ONNX it is {gained:.2f} times as fast as by its own reader: not compared"
            steps.note("convert", False, why, begun, us=us)
            return None
        steps.say("comparing after convert")
        found = strict.certify("convert", answering, made, steps.limits)
    why = "; ".join(found.faults[:2]) or "to ONNX"
    steps.note("convert", found.passed, why, begun, found, us)
    return _package(steps, strict, made, rows, scratch / "pair") if found.passed else None


def rows_from(
    own: Mapping[int, float], graph: Mapping[int, float], least_gain: float
) -> int | None:
    """
    Return from how many rows on *graph* is faster, of those measured; None if it is nowhere.

    >>> rows_from({1: 10.0, 50: 130.0, 200: 190.0}, {1: 70.0, 50: 60.0, 200: 110.0}, 1.1)
    50
    """
    found = None
    for rows in sorted(own.keys() & graph.keys(), reverse=True):
        if own[rows] < least_gain * graph[rows]:
            break
        found = rows
    return found


def _package(steps: Steps, strict: Judge, made: Path, rows: int, folder: Path) -> Package | None:
    import onnx

    from martlet.convert.package import write_package
    from martlet.formats.package.servable import PackageServable

    begun = time.perf_counter()
    judge, name = steps.judge, strict.domain.name
    try:
        written = write_package(
            folder, onnx.load(str(made)), strict.domain.signature, judge.path,
            signature_name=name, beside=rows, made_from=made_from(judge),
        )  # fmt: skip
        with closing(PackageServable(folder, formats.LoadOptions())) as graph:
            # Compared as if the graph answered every number of rows, then timed as it will.
            whole = Paired(graph, judge.servable, name, 0)
            found = judge.certify("pair", whole, folder, steps.limits, written.files)
            us = steps.speed(Paired(graph, judge.servable, name, rows))
    except MartletError as exc:
        steps.note("pair", False, first_line(exc), begun)
        return None
    many = f"{rows} rows and more" if rows > 1 else "whole rows"
    why = f"the graph answers {many}, the file's own reader all else"
    earlier = steps.kept()
    step = steps.note("pair", found.passed, "; ".join(found.faults[:2]) or why, begun, found, us)
    if not found.passed:
        return None
    sealed(folder, judge, [*earlier, found])
    return folder, step
