"""Comparing two models: does the candidate answer as the original does, in its own library."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet import certificate
from martlet.certificate import Certificate, Comparison, Difference, Limits
from martlet.convert.asking.draws import concatenate
from martlet.convert.asking.jumps import nudged
from martlet.convert.asking.probes import Probe
from martlet.convert.asking.ranges import answers
from martlet.convert.parity import ordering
from martlet.errors import MartletError, first_line
from martlet.rankings import auc
from martlet.servable import Servable
from martlet.tensors import Tensor, Tensors

Floats = NDArray[np.float64]

_LIBRARIES = (
    *("martlet", "numpy", "onnx", "onnxruntime", "tensorflow", "tf_keras", "keras", "torch"),
    *("scikit-learn", "lightgbm", "xgboost", "catboost"),
)
_MOST_SEGMENTS = 32
"""Of a column with more values, the most frequent are told apart."""


def certify(
    step: str,
    original: Servable,
    candidate: Servable,
    probes: Sequence[Probe],
    *,
    signature_name: str,
    files: tuple[Path, Path],
    names: Sequence[str] | None = None,
    limits: Limits = Limits(),
) -> Certificate:
    """
    Compare the two over all *probes*, and return the certificate, passed or not.

    Args:
        step: What made the candidate.
        files: The original's file or folder, and the candidate's.
        names: The files of the candidate's folder that are served; None: all of them.
    """
    return Certificate(
        step=step,
        original=certificate.digests_of(files[0]),
        candidate=certificate.digests_of(files[1], names),
        limits=limits,
        comparisons=tuple(compare(original, candidate, probes, limits, signature_name)),
        made_with=versions(),
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def compare(
    original: Servable,
    candidate: Servable,
    probes: Sequence[Probe],
    limits: Limits,
    signature_name: str,
) -> Iterator[Comparison]:
    """
    Give one comparison a probe, and one for each segment that a probe tells apart.

    The original answers every probe that is not of kind ``refused``; where it does not, that is
    a fault of the comparison and said so.
    """
    for probe in probes:
        if probe.kind == "refused":
            yield _refusals(original, candidate, probe, limits, signature_name)
            continue
        try:
            expected = _predicted(original, probe, signature_name)
        except MartletError as exc:
            if probe.kind == "not finite" and not limits.not_finite:
                continue
            yield Comparison(probe.kind, probe.rows, faults=(f"the original refuses: {exc}",))
            continue
        try:
            found = _predicted(candidate, probe, signature_name)
        except Exception as exc:  # whatever the candidate does is judged, never raised
            if probe.kind == "not finite" and not limits.not_finite:
                continue
            yield Comparison(
                probe.kind, probe.rows, faults=(f"only the original answers: {first_line(exc)}",)
            )
            continue
        # Beside a threshold another rounding is another answer: that is what a jump asks for.
        beside = probe.kind in ("jump", "each branch")
        rounding = None if beside else Rounding(original, signature_name)
        whole = judged(probe, expected, found, limits, rounding=rounding)
        if probe.kind == "not finite" and not limits.not_finite:
            whole = replace(whole, faults=())
        yield whole
        for name, rows in _segments(probe):
            taken = probe.take(rows), _rows(expected, rows), _rows(found, rows)
            yield judged(*taken, limits, name, rounding)


def _predicted(model: Servable, probe: Probe, signature_name: str) -> dict[str, Tensor]:
    """Return the answers to *probe*."""
    parts = [model.predict(block, signature_name) for block in probe.blocks()]
    return concatenate(parts) if len(parts) > 1 else parts[0]


class Rounding:
    """
    How far a model's answers move when its float inputs are rounded otherwise.

    Each input is moved by a unit in its last place, up or down at random, a few times over. What
    the answers move by is the part of them that no other order of summation need reproduce.
    """

    _TIMES = 4
    _MARGIN = 4.0

    def __init__(self, model: Servable, signature_name: str) -> None:
        self._model = model
        self._name = signature_name

    def allows(self, probe: Probe, output: str, expected: Tensor) -> Floats:
        """Return, for each number of *output*, the absolute difference that is not a fault."""
        most = np.zeros(expected.shape)
        floats = any(value.dtype.kind == "f" for value in probe.inputs.values())
        random = np.random.default_rng(0)
        for _ in range(self._TIMES if floats else 0):
            moved = {name: nudged(value, random) for name, value in probe.inputs.items()}
            try:
                found = self._model.predict(moved, self._name)[output]
            except MartletError:
                continue  # the edge of what it takes: this rounding says nothing
            if found.shape == expected.shape:
                off, _ = _off(expected, found, 0.0)
                most = np.maximum(most, np.where(np.isfinite(off), off, 0.0))
        return self._MARGIN * most


def judged(
    probe: Probe,
    expected: Tensors,
    found: Tensors,
    limits: Limits,
    segment: str = "",
    rounding: Rounding | None = None,
) -> Comparison:
    """
    Return how far *found* is from *expected*, the answers to *probe*, judged by *limits*.

    Args:
        rounding: Of the original; None judges by the limits alone.
    """
    faults: list[str] = []
    rounded = 0
    absolute = relative = 0.0
    worst: Difference | None = None
    for name, wanted in expected.items():
        fault = _unlike(name, wanted, found.get(name))
        if fault:
            faults.append(fault)
            continue
        off, by = _off(wanted, found[name], limits.absolute)
        if not off.size:
            continue
        past = (off > limits.absolute) & (by > limits.relative)
        if rounding is not None and past.any() and wanted.dtype.kind == "f":
            allowed = past & (off <= rounding.allows(probe, name, wanted))
            rounded += int(allowed.sum())
            past &= ~allowed
        at = np.unravel_index(int(np.where(past, by, 0.0 if past.any() else by).argmax()), by.shape)
        difference = _difference(probe, name, at, wanted, found[name])
        if off[at] > 0 and (worst is None or by[at] > relative):
            worst = difference
        absolute, relative = max(absolute, float(off.max())), max(relative, float(by.max()))
        if past.any():
            faults.append(
                f"{past.sum()} of {past.size} numbers of {name!r} differ by more than "
                f"{limits.relative:g} (relative); the most: {difference}"
            )
    for name in found:
        if name not in expected:
            faults.append(f"it gives {name!r}, which the original does not")
    # Neighbours on both sides of a jump have no order among themselves worth keeping.
    order = (
        {}
        if probe.kind == "jump" or (faults and not _comparable(expected, found))
        else _order(probe, expected, found, limits, faults)
    )
    return Comparison(
        probe.kind,
        probe.rows,
        segment,
        absolute,
        relative,
        worst,
        rounded,
        faults=tuple(faults),
        **order,
    )


def _off(wanted: Tensor, found: Tensor, least: float) -> tuple[Floats, Floats]:
    """Return by how much each element differs, and by how much relative to its size."""
    if wanted.dtype.kind not in "biuf":
        differs = np.where(_texts(wanted) != _texts(found), np.inf, 0.0)
        return differs, differs
    a, b = wanted.astype(np.float64), found.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs(a - b)
    # Equal infinities, and NaN on both sides, do not differ; on one side they do.
    off[np.isnan(off)] = np.inf
    off[(a == b) | (np.isnan(a) & np.isnan(b))] = 0.0
    sizes = np.abs(a)
    sizes[~np.isfinite(sizes)] = 0.0
    usual = max(float(np.median(sizes)) if sizes.size else 0.0, least if least < np.inf else 0.0)
    size = np.maximum(sizes, usual)
    by = np.divide(off, size, out=np.full(off.shape, np.inf), where=size > 0)
    by[off == 0.0] = 0.0
    return off, by


def _texts(array: Tensor) -> Tensor:
    flat = [v.decode(errors="replace") if isinstance(v, bytes) else v for v in array.ravel()]
    found = np.empty(len(flat), object)
    found[:] = flat
    return found.reshape(array.shape)


def _unlike(name: str, wanted: Tensor, found: Tensor | None) -> str:
    if found is None:
        return f"it does not give {name!r}"
    if found.shape != wanted.shape:
        return f"{name!r} has shape {list(found.shape)}; the original gives {list(wanted.shape)}"
    if found.dtype != wanted.dtype and {found.dtype.kind, wanted.dtype.kind} - {*"OSU"}:
        return f"{name!r} is {found.dtype}; the original gives {wanted.dtype}"
    return ""


def _comparable(expected: Tensors, found: Tensors) -> bool:
    return all(not _unlike(name, wanted, found.get(name)) for name, wanted in expected.items())


def _difference(
    probe: Probe, name: str, at: Sequence[Any], wanted: Tensor, found: Tensor
) -> Difference:
    where = tuple(map(int, at))
    by_row = bool(where) and wanted.shape[0] == probe.rows
    inputs = {
        each: _plain(value[where[0]])
        for each, value in probe.inputs.items()
        if by_row and value.ndim
    }
    return Difference(name, where, _plain(wanted[where]), _plain(found[where]), inputs)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _order(
    probe: Probe, expected: Tensors, found: Tensors, limits: Limits, faults: list[str]
) -> dict[str, Any]:
    """Return the figures of ranking, by the first output that is a score for each row."""
    name = score_of(expected, probe.rows)
    if name is None or name not in found:
        return {}
    a, b = ordering.scores(expected[name]), ordering.scores(found[name])
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        # Order among infinities and NaN means nothing; numbers are compared above.
        finite = np.isfinite(a) & np.isfinite(b)
        a, b, probe = a[finite], b[finite], probe.take(finite)
    figures = ordering.figures(a, b, probe.groups, limits.top_k)
    result: dict[str, Any] = {
        "groups": figures.groups,
        "rank_correlation": figures.rank_correlation,
        "top_k_overlap": figures.top_k_overlap,
    }
    if figures.groups:
        if figures.rank_correlation < limits.rank_correlation:
            faults.append(
                f"the rank correlation is {figures.rank_correlation:.6f}; "
                f"at least {limits.rank_correlation:g} is wanted"
            )
        if figures.top_k_overlap < limits.top_k_overlap:
            faults.append(
                f"of the best {limits.top_k}, {figures.top_k_overlap:.4f} are as good; "
                f"at least {limits.top_k_overlap:g} is wanted"
            )
    if probe.labels is not None and 0 < probe.labels.sum() < len(probe.labels):
        positive = probe.labels.astype(bool)
        for figure, measure, limit in (
            ("auc", auc, limits.auc),
            ("logloss", ordering.logloss, limits.logloss),
        ):
            pair = measure(a, positive), measure(b, positive)
            if any(each is None for each in pair):
                continue
            result[figure] = pair
            if not abs(pair[0] - pair[1]) <= limit:  # type: ignore[operator]
                faults.append(f"the {figure} goes from {pair[0]:.6f} to {pair[1]:.6f}")
    return result


def score_of(outputs: Mapping[str, Tensor], rows: int) -> str | None:
    """Return the name of the first output that is a float a row, or two (for two classes)."""
    for name, value in outputs.items():
        by_row = value.ndim >= 1 and len(value) == rows
        if by_row and value.dtype.kind == "f" and value[0:1].size in (1, 2):
            return name
    return None


def _refusals(
    original: Servable, candidate: Servable, probe: Probe, limits: Limits, signature_name: str
) -> Comparison:
    faults: list[str] = []
    worst: Difference | None = None
    for at in range(probe.rows):
        row = {n: v[at : at + 1] if v.ndim else v for n, v in probe.inputs.items()}
        if answers(original, signature_name, row) is not None:
            continue  # it refuses at times: nothing to hold the candidate to
        try:
            found = candidate.predict(dict(row), signature_name)
        except Exception:  # a refusal, in whatever way it is made
            continue
        if limits.same_refusals:
            name, value = next(iter(found.items()))
            inputs = {n: v.ravel().tolist() for n, v in row.items()}
            worst = Difference(name, (at,), "a refusal", str(value.ravel()[:4].tolist()), inputs)
            faults.append(f"it answers what the original refuses: {worst}")
    return Comparison("refused", probe.rows, worst=worst, faults=tuple(faults[:3]))


def _segments(probe: Probe) -> Iterator[tuple[str, Tensor]]:
    for column, values in probe.segments.items():
        texts = np.array([str(value) for value in values.ravel()])
        names, counts = np.unique(texts, return_counts=True)
        for name in names[np.argsort(-counts, kind="stable")][:_MOST_SEGMENTS]:
            yield f"{column}={name}", np.flatnonzero(texts == name)


def _rows(outputs: Tensors, rows: Tensor) -> dict[str, Tensor]:
    return {name: value[rows] if value.ndim else value for name, value in outputs.items()}


def versions() -> dict[str, str]:
    """Return the versions of the libraries that had a part in it."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
