"""Pipelines of Spark and MLeap to ONNX, from the stages that both are read into.

Numbers stay float64. A value that a stage refuses fails the graph, a row that it drops answers
NaN. What has no exact counterpart in ONNX (hashing, SQL, words) is refused by the stage's name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from onnx import ModelProto

from martlet import formats
from martlet.convert.to_onnx.forest import ends
from martlet.convert.to_onnx.scores import interpolated, linked, probabilities, scored, winner
from martlet.convert.to_onnx.task import Task
from martlet.convert.to_onnx.writer import ML, Graph, Value
from martlet.errors import UnsupportedModel
from martlet.formats.stages.categories import (
    IndexToString,
    OneHotEncoder,
    StringIndexer,
    label_table,
)
from martlet.formats.stages.classes import Classifier, Regressor
from martlet.formats.stages.clusters import Nearest
from martlet.formats.stages.ensembles import LeafNumbers, Spread
from martlet.formats.stages.glm import Generalised
from martlet.formats.stages.invalid import Invalid
from martlet.formats.stages.models import Curve, Factors
from martlet.formats.stages.numbers import Binarizer, Bucketizer, Imputer
from martlet.formats.stages.plan import Plan, Step
from martlet.formats.stages.scaling import MinMaxScaler, Normalizer, StandardScaler
from martlet.formats.stages.shaping import Assembler, Projection, Slicer
from martlet.tensors import DType


class Column(NamedTuple):
    """A column as it is written; *width* is of a vector, None of numbers and text."""

    value: Value
    width: int | None = None
    text: bool = False


def from_pipeline(task: Task) -> ModelProto:
    """
    Convert a signature of a pipeline.

    Raises:
        UnsupportedModel: a stage has no exact counterpart, or a vector has no known width.
    """
    plan = formats.load(task.path, formats.LoadOptions(trusted=task.trusted))
    if not isinstance(plan, Plan):
        raise UnsupportedModel("it is not a pipeline of stages")
    return _Writing(task).model(plan.steps(task.name))


class _Writing:
    """One pipeline while it is written."""

    def __init__(self, task: Task) -> None:
        self.graph = Graph()
        self._signature = task.signature
        self._frame: dict[str, Column] = {}
        self._kept: Value | None = None
        for spec in task.signature.inputs.values():
            text = spec.dtype is DType.STRING
            shape = spec.shape
            if shape is None:
                raise UnsupportedModel(f"input {spec.name!r} may be a number, or a vector")
            if len(shape) > 2 or (text and len(shape) > 1):
                raise UnsupportedModel(f"input {spec.name!r} ({spec}) has no counterpart in ONNX")
            width = shape[1] if len(shape) == 2 else None
            value = self.graph.input(spec.name, spec.dtype, width)
            self._frame[spec.name] = Column(value, width, text)

    def model(self, steps: Sequence[Step]) -> ModelProto:
        for step in steps:
            write = _WRITERS.get(type(step.run))
            if write is None:
                raise UnsupportedModel(f"{step.name} has no exact counterpart in ONNX")
            columns = [self._frame[name] for name in step.inputs]
            if step.keep is not None:
                self._keep(step, columns)
            found = write(self, step.run, columns)
            self._frame |= dict(zip(step.outputs, found, strict=True))
        outputs = {}
        for name in self._signature.outputs:
            column = self._frame[name]
            value = column.value if column.text else column.value.float64()
            if self._kept is not None:
                if column.text:
                    raise UnsupportedModel(f"{name!r} is missing in dropped rows: ONNX has no such")
                kept = self._kept if column.width is None else self._kept.as_column()
                missing = -1.0 if self._signature.outputs[name].dtype.is_integer else np.nan
                value = self.graph.where(kept, value, missing)
            outputs[name] = value
        return self.graph.model(self._signature, outputs)

    def _keep(self, step: Step, columns: Sequence[Column]) -> None:
        """Note which rows the stage leaves; what it drops, no later stage refuses."""
        for column in columns:
            if isinstance(step.run, StringIndexer):
                labels = step.run.labels[columns.index(column)]
                stays = self.index(column, labels) < float(len(labels))
            elif column.width is None:
                stays = ~column.value.is_nan()
            else:
                continue
            self._kept = stays if self._kept is None else self._kept & stays

    def refused(self, column: Column, mask: Value, why: str) -> Column:
        """Return *column* of a graph that fails where *mask* holds in a row that is kept."""
        if self._kept is not None:
            mask = mask & self._kept
        rank = 1 if column.width is None else 2
        return column._replace(value=self.graph.refused(column.value, mask, why, rank=rank))

    def index(self, column: Column, labels: Sequence[str]) -> Value:
        """Return the place of each value in *labels*, and how many there are for any other."""
        graph, count = self.graph, len(labels)
        if column.text:
            place = graph.call(
                "LabelEncoder", column.value, domain=ML, keys_strings=list(labels),
                values_int64s=list(range(count)), default_int64=count,
            )  # fmt: skip
            return place.float64()
        numbers = {k: v for k, v in label_table(labels).items() if isinstance(k, float)}
        if not numbers:
            return graph.filled(column.value, float(count))
        same = column.value.float64().as_column().equals(np.array([list(numbers)]))
        place = (same.float64() @ np.array([list(numbers.values())]).T).column(0)
        return graph.where(same.float64().reduce("ReduceMax") > 0.5, place, float(count))


Writer = Callable[[_Writing, Any, Sequence[Column]], Sequence[Column]]


def _string_indexer(to: _Writing, run: StringIndexer, columns: Sequence[Column]) -> list[Column]:
    found = []
    for column, labels, name in zip(columns, run.labels, run.inputs, strict=True):
        place = Column(to.index(column, labels))
        if run.invalid is not Invalid.KEEP:
            unseen = place.value >= float(len(labels))
            place = to.refused(place, unseen, f"column {name!r} holds what was not seen")
        found.append(place)
    return found


def _index_to_string(to: _Writing, run: IndexToString, columns: Sequence[Column]) -> list[Column]:
    (column,) = columns
    count = len(run.labels)
    outside = ~((column.value > -1.0) & (column.value < float(count)))
    place = to.graph.where(outside, 0.0, column.value).cast(DType.INT64)
    found = to.graph.call("Gather", np.array(run.labels, object), place, axis=0)
    why = f"column {run.source!r} holds an index outside 0..{count - 1}"
    return [to.refused(Column(found, text=True), outside, why)]


def _one_hot(to: _Writing, run: OneHotEncoder, columns: Sequence[Column]) -> list[Column]:
    found = []
    for column, size, width, name in zip(columns, run.sizes, run.widths, run.inputs, strict=True):
        outside = ~((column.value > -1.0) & (column.value < float(size)))
        code = to.graph.where(outside, float(size), column.value).cast(DType.INT64).as_column()
        spread = code.equals(np.arange(width)[None]).float64()
        one = Column(spread, width)
        if not run.keeps:
            why = f"column {name!r} holds what is none of {size} categories"
            one = to.refused(one, outside, why)
        found.append(one)
    return found


def _bucketizer(to: _Writing, run: Bucketizer, columns: Sequence[Column]) -> list[Column]:
    found = []
    for column, edges, name in zip(columns, run.edges, run.inputs, strict=True):
        x = column.value
        passed = (x.as_column() >= np.asarray(edges)[None]).float64().reduce("ReduceSum")
        bucket = to.graph.where(x.equals(float(edges[-1])), float(len(edges) - 2), passed - 1.0)
        missing = x.is_nan()
        wrong = (x < float(edges[0])) | (x > float(edges[-1]))
        if run.invalid is Invalid.ERROR:
            wrong = wrong | missing
        one = Column(to.graph.where(missing, float(len(edges) - 1), bucket))
        why = f"column {name!r} holds what is in no bucket"
        found.append(to.refused(one, wrong, why))
    return found


def _binarizer(to: _Writing, run: Binarizer, columns: Sequence[Column]) -> list[Column]:
    return [
        column._replace(value=(column.value > float(threshold)).float64())
        for column, threshold in zip(columns, run.thresholds, strict=True)
    ]


def _imputer(to: _Writing, run: Imputer, columns: Sequence[Column]) -> list[Column]:
    found = []
    for column, surrogate in zip(columns, run.surrogates, strict=True):
        absent = column.value.is_nan()
        if run.missing == run.missing:
            absent = absent | column.value.equals(float(run.missing))
        found.append(Column(to.graph.where(absent, float(surrogate), column.value)))
    return found


def _standard_scaler(to: _Writing, run: StandardScaler, columns: Sequence[Column]) -> list[Column]:
    (column,) = columns
    value = column.value
    if run.mean is not None:
        value = value - run.mean[None]
    return [column._replace(value=value if run.factors is None else value * run.factors[None])]


def _min_max_scaler(to: _Writing, run: MinMaxScaler, columns: Sequence[Column]) -> list[Column]:
    (column,) = columns
    value = column.value
    scaled = (value - run.low[None]) * run.factors[None] + run.least
    if run.constant.any():
        still = to.graph.constant(run.constant[None]) & ~value.is_nan()
        scaled = to.graph.where(still, run.middle, scaled)
    return [column._replace(value=scaled)]


def _normalizer(to: _Writing, run: Normalizer, columns: Sequence[Column]) -> list[Column]:
    (column,) = columns
    graph, value, p = to.graph, column.value, float(run.p)
    size = graph.call("Abs", value)
    if p == 2:
        norm = graph.call("Sqrt", (value * value).reduce("ReduceSum", True))
    elif p == 1:
        norm = size.reduce("ReduceSum", True)
    elif p == np.inf:
        norm = graph.where(size.is_nan(), 0.0, size).reduce("ReduceMax", True)
    else:
        norm = graph.call("Pow", graph.call("Pow", size, p).reduce("ReduceSum", True), 1.0 / p)
    return [column._replace(value=value * graph.where(norm.equals(0.0), 1.0, 1.0 / norm))]


def _assembler(to: _Writing, run: Assembler, columns: Sequence[Column]) -> list[Column]:
    widths = [1 if column.width is None else column.width for column in columns]
    if min(widths) < 0:
        raise UnsupportedModel(f"the width of {run.inputs[widths.index(-1)]!r} is not known")
    parts, numbers = [], []
    for column in columns:
        value = column.value.float64()
        if column.width is None:
            value = value.as_column()
            numbers.append(value)
        parts.append(value)
    whole = Column(to.graph.side_by_side(*parts), sum(widths))
    if run.refuses and numbers:
        missing = to.graph.side_by_side(*numbers).is_nan().float64().reduce("ReduceMax") > 0.5
        whole = to.refused(whole, missing, "a column holds a missing value")
    return [whole]


def _slicer(to: _Writing, run: Slicer, columns: Sequence[Column]) -> list[Column]:
    found = to.graph.call("Gather", columns[0].value, run.at, axis=1)
    return [Column(found, len(run.at))]


def _projection(to: _Writing, run: Projection, columns: Sequence[Column]) -> list[Column]:
    return [Column(columns[0].value @ run.matrix, run.matrix.shape[1])]


def _classifier(to: _Writing, run: Classifier, columns: Sequence[Column]) -> list[Column]:
    raw = scored(to.graph, run.score, columns[0].value)
    chances = None
    if run.probability is not None:
        chances = probabilities(to.graph, run.probability, raw)
    gives_raw, gives_probability, gives_class = run.gives
    found = [Column(raw, -1)] if gives_raw else []
    if gives_probability and chances is not None:
        found.append(Column(chances, -1))
    if gives_class:
        found.append(Column(winner(to.graph, run.choose, raw, chances)))
    return [*found, *_beside(to, run.more, columns[0])]


def _beside(to: _Writing, more: Any, column: Column) -> list[Column]:
    """Return what a model gives beside its answer: of trees the leaves' numbers and variance."""
    match more:
        case None:
            return []
        case Spread(variance, rest):
            spread = Column(scored(to.graph, variance, column.value))
            return [spread, *_beside(to, rest, column)]
        case LeafNumbers(trees, single):
            rows = column.value
            if trees.columns is not None:
                rows = to.graph.call("Gather", rows, trees.columns, axis=1)
            answers = ends(to.graph, trees.forest, rows)
            numbers = np.array([*trees.numbers, np.nan])
            found = to.graph.call("Gather", numbers, answers, axis=0)
            return [Column(found.column(0)) if single else Column(found, trees.forest.trees)]
    raise UnsupportedModel("what it gives beside its answer has no exact counterpart in ONNX")


def _regressor(to: _Writing, run: Regressor, columns: Sequence[Column]) -> list[Column]:
    found = Column(scored(to.graph, run.score, columns[0].value))
    return [found, *_beside(to, run.more, columns[0])]


def _generalised(to: _Writing, run: Generalised, columns: Sequence[Column]) -> list[Column]:
    eta = scored(to.graph, run.eta, columns[0].value)
    for offset in columns[1:]:
        eta = eta + offset.value
    mean = Column(linked(to.graph, run.inverse, eta))
    return [mean, Column(eta)] if run.given else [mean]


def _curve(to: _Writing, run: Curve, columns: Sequence[Column]) -> list[Column]:
    (column,) = columns
    x = column.value if column.width is None else column.value.column(run.element)
    curve = run.curve
    return [Column(interpolated(to.graph, curve.boundaries, curve.predictions, x))]


def _nearest(to: _Writing, run: Nearest, columns: Sequence[Column]) -> list[Column]:
    graph, x = to.graph, columns[0].value
    wrong = x.is_nan().float64().reduce("ReduceMax") > 0.5
    if run.cosine:
        wrong = wrong | (x * x).reduce("ReduceSum").equals(0.0)
        found = graph.call("ArgMax", x @ run.centres.T, axis=1, keepdims=0)
    else:
        away = graph.call("Unsqueeze", x, np.array([1])) - run.centres[None]
        far = _summed(graph, away * away, run.centres.shape[1])
        found = graph.call("ArgMin", far, axis=1, keepdims=0)
    return [to.refused(Column(found), wrong, "a vector is near to nothing")]


def _summed(graph: Graph, terms: Value, width: int) -> Value:
    """Return the sums over the last axis of *terms* [rows, k, width], in numpy's order."""
    if width >= 8:  # by pairs: an order of its own, as ONNX's is
        return graph.call("ReduceSum", terms, np.array([2]), keepdims=0)
    parts = [graph.call("Gather", terms, np.array(at), axis=2) for at in range(width)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _factors(to: _Writing, run: Factors, columns: Sequence[Column]) -> list[Column]:
    sides = []
    for column, (ids, table) in zip(columns, (run.users, run.items), strict=True):
        place = to.graph.call(
            "LabelEncoder", column.value, domain=ML, keys_int64s=ids.tolist(),
            values_int64s=list(range(len(ids))), default_int64=len(ids),
        )  # fmt: skip
        with_none = np.concatenate([table, np.full_like(table[:1], np.nan)])
        sides.append(to.graph.call("Gather", with_none, place, axis=0))
    return [Column((sides[0] * sides[1]).reduce("ReduceSum"))]


_WRITERS: dict[type, Writer] = {
    StringIndexer: _string_indexer,
    IndexToString: _index_to_string,
    OneHotEncoder: _one_hot,
    Bucketizer: _bucketizer,
    Binarizer: _binarizer,
    Imputer: _imputer,
    StandardScaler: _standard_scaler,
    MinMaxScaler: _min_max_scaler,
    Normalizer: _normalizer,
    Assembler: _assembler,
    Slicer: _slicer,
    Projection: _projection,
    Classifier: _classifier,
    Regressor: _regressor,
    Generalised: _generalised,
    Nearest: _nearest,
    Factors: _factors,
    Curve: _curve,
}
