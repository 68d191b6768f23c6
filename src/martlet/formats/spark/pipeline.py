"""Pipelines of Spark ML, and the models that hold others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from martlet.errors import UnsupportedModel
from martlet.formats.spark import boosters, features, models, trees, words
from martlet.formats.spark.columns import Columns
from martlet.formats.spark.disk import Saved
from martlet.formats.spark.features import Reader
from martlet.formats.spark.spelling import spelled
from martlet.formats.stages.classes import classifier
from martlet.formats.stages.plan import Plan
from martlet.formats.stages.stage import Kind, Stage
from martlet.formats.stages.vectors import Floats, Vector

_MAX_DEPTH = 32


def load(path: Path) -> Plan:
    """
    Read the folder that a Spark ML model or pipeline was saved to.

    Raises:
        UnsupportedModel: it is broken, or has a stage that is not supported; names the stage,
            its class and its folder.
    """
    columns = Columns()
    found = stages(path, columns, 0)
    return Plan(str(path), spelled(found, columns.exact))


def stages(path: Path, columns: Columns, depth: int) -> list[Stage]:
    """Return the stages in the folder *path*; *columns* learns what they make."""
    if depth > _MAX_DEPTH:
        raise UnsupportedModel(f"{path}: models lie in models more than {_MAX_DEPTH} deep")
    saved = Saved.read(path)
    try:
        if saved.kind in _HOLDERS:
            held: list[Stage] = _HOLDERS[saved.kind](saved, columns, depth)
            return held
        if saved.kind not in READERS:
            raise UnsupportedModel(
                f"{saved.name}: the stage {saved.extra['class']} is not supported"
            )
        called = columns.caller()
        read = READERS[saved.kind](saved, columns)
        if saved.kind != "SQLTransformer":
            columns.exact.update(port.name for stage in read for port in stage.inputs)
        found = [called(stage) for stage in read]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as exc:
        # What the file holds is not what its class always keeps.
        what = f"no {exc}" if isinstance(exc, KeyError) else str(exc)
        raise UnsupportedModel(f"{saved.name} does not hold what its class keeps: {what}") from exc
    for stage in found:
        columns.add(stage)
    return found


def _pipeline(saved: Saved, columns: Columns, depth: int) -> list[Stage]:
    uids = saved.param("stageUids", [])
    folder = saved.path / "stages"
    found: dict[int, Path] = {}
    if uids and not folder.is_dir():
        raise UnsupportedModel(f"{saved.name}: the folder stages is missing")
    # The names are looked up among what is there, never made from the file's text: a path of the
    # file's choosing is not followed.
    for child in folder.iterdir() if uids else ():
        number, _, uid = child.name.partition("_")
        if number.isdigit() and int(number) < len(uids) and uids[int(number)] == uid:
            found[int(number)] = child
    missing = [uid for i, uid in enumerate(uids) if i not in found]
    if missing:
        raise UnsupportedModel(f"{saved.name}: there is no folder for the stage {missing[0]!r}")
    return [stage for i in range(len(uids)) for stage in stages(found[i], columns, depth + 1)]


def _best(saved: Saved, columns: Columns, depth: int) -> list[Stage]:
    return stages(saved.path / "bestModel", columns, depth + 1)


def _formula(saved: Saved, columns: Columns, depth: int) -> list[Stage]:
    """The label, which Spark adds too where it is asked to train, is not made."""
    return stages(saved.path / "pipelineModel", columns, depth + 1)


def _one_vs_rest(saved: Saved, columns: Columns, depth: int) -> list[Stage]:
    """Each class's model scores the rows; the highest score wins."""
    count = int(saved.extra["numClasses"])
    if not 0 < count <= 100_000:
        raise UnsupportedModel(f"{saved.name}: numClasses is {count}")
    source = saved.text("featuresCol")
    scorers: list[Stage] = []
    for i in range(count):
        inner = stages(saved.path / f"model_{i}", Columns(), depth + 1)
        raw = [p for p in inner[-1].outputs if p.kind is Kind.VECTOR and p.width == 2]
        if len(inner) != 1 or not raw or inner[0].outputs[0] != raw[0]:
            raise UnsupportedModel(f"{saved.name}: model {i} gives no score of two classes")
        scorers.append(inner[0])

    names = replace(
        models.names(saved), features=source, raw=saved.text("rawPredictionCol"), probability=""
    )
    width = scorers[0].inputs[0].width
    return [classifier(saved.name, names, width, count, OneVsRest(tuple(scorers)), None, highest)]


@dataclass(frozen=True, slots=True)
class OneVsRest:
    """The score that each class's own model gives it. Shape [rows, classes]."""

    scorers: tuple[Stage, ...]

    def __call__(self, x: Vector) -> Floats:
        out = np.empty((x.rows, len(self.scorers)))
        for i, scorer in enumerate(self.scorers):
            out[:, i] = scorer.run(x)[0].dense()[:, 1]
        return out


def highest(raw: Floats, probability: Floats | None) -> Floats:
    """Return the first class above minus infinity with the highest score; -1 for none, as Spark."""
    known = np.where(np.isnan(raw), -np.inf, raw)
    return np.where((known > -np.inf).any(axis=1), known.argmax(axis=1), -1.0)


_HOLDERS: Mapping[str, Any] = {
    "PipelineModel": _pipeline,
    "CrossValidatorModel": _best,
    "TrainValidationSplitModel": _best,
    "RFormulaModel": _formula,
    "OneVsRestModel": _one_vs_rest,
}

READERS: Mapping[str, Reader] = {
    **features.READERS,
    **words.READERS,
    **models.READERS,
    **trees.READERS,
    **boosters.READERS,
}
