"""PMML's models to ONNX: trees and their sums, regressions, networks, chains of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from martlet.convert.to_onnx.cells import Cell, Coded, Number
from martlet.convert.to_onnx.forest import ends, summed
from martlet.convert.to_onnx.writer import Graph, Value
from martlet.errors import UnsupportedModel
from martlet.formats.pmml.values import DOUBLE, INTEGER, DataType, text_of
from martlet.tensors import DType

if TYPE_CHECKING:
    from martlet.convert.to_onnx.pmml import Writing


@dataclass(frozen=True)
class Answer:
    """
    What a model predicts.

    Args:
        cell: The number, or the label.
        classes: The labels that the columns of *probability* are of.
        probability: Shape [rows, classes]; None where there is none.
        entity: The id of the node that decided; None where nothing of the kind is told.
    """

    cell: Cell
    classes: tuple[Any, ...] = ()
    probability: Value | None = None
    entity: Cell | None = None


def answer(to: Writing, model: Any) -> Answer:
    """
    Return what *model*, as the reader compiled it, predicts.

    Raises:
        UnsupportedModel: its kind has no exact counterpart.
    """
    kind = (type(model).__module__.rpartition(".")[2], type(model).__name__)
    write = _MODELS.get(kind)
    if write is None:
        raise UnsupportedModel(f"a model of the kind {'.'.join(kind)} is not written as ONNX")
    return write(to, model)


def treated(to: Writing, run: Any, found: Answer) -> Answer:
    """Return the answer after the model's Targets, as the target's type holds it."""
    context, cell = run.context, found.cell
    target = next(
        (t for t in run.targets if t.field in (None, context.target) or context.target is None),
        None,
    )
    kind = next((kind for name, kind, _ in context.targets if name == context.target), None)
    if isinstance(cell, Number) and not found.classes:
        if target is not None:
            cell = _target(to.graph, cell, target)
        if kind is not None and kind != cell.kind:
            if not kind.is_number or kind == INTEGER:
                raise UnsupportedModel(f"a prediction that is held as {kind}")
            cell = Number(to.graph, cell.value, kind).rounded()
    elif target is not None and target.priors:
        raise UnsupportedModel("a label that priors stand in for")
    return replace(found, cell=cell)


def _target(graph: Graph, cell: Number, target: Any) -> Number:
    if target.cast is not None or target.default is not None:
        raise UnsupportedModel("a prediction that is cast to an integer, or has a default")
    x = cell.value
    if target.low is not None:
        x = graph.where(x < float(target.low), float(target.low), x)
    if target.high is not None:
        x = graph.where(x > float(target.high), float(target.high), x)
    if target.factor != 1.0:
        x = x * float(target.factor)
    if target.constant != 0.0:
        x = x + float(target.constant)
    return Number(graph, x, cell.kind).rounded()


def _labelled(graph: Graph, code: Value, classes: tuple[Any, ...], kind: DataType) -> Cell:
    """Return the label of each code; the code past the last is none."""
    if kind.is_text:
        return Coded(graph, code, [*map(str, classes), None])
    if not kind.is_number:
        return Coded(graph, code, [*(text_of(each, kind) for each in classes), None])
    numbers = np.array([*map(float, classes), np.nan])
    return Number(graph, graph.call("Gather", numbers, code, axis=0), kind)


def _classified(to: Writing, classes: tuple[Any, ...], shares: Value, kind: DataType) -> Answer:
    graph = to.graph
    known = graph.where(shares.is_nan(), -np.inf, shares)
    best = graph.call("ArgMax", known, axis=1, keepdims=0)
    none = (~shares.is_nan()).float64().reduce("ReduceMax") < 0.5
    code = graph.where(none, graph.constant(np.array(len(classes))), best)
    return Answer(_labelled(graph, code, classes, kind), classes, shares)


def _rows(to: Writing, grove: Any) -> Value:
    """Return the matrix that the trees of a grove test."""
    columns = []
    for slot, (_, field) in grove._fields.items():
        cell = to.cell(slot)
        if field.type.is_text:
            codes = {value: float(code) for value, code in grove._codes[slot].items()}
            columns.append(cell.looked_up(codes, -1.0, np.nan).as_column())
        else:
            columns.append(cell.number().value.as_column())
    if not columns:
        raise UnsupportedModel("trees that test nothing")
    return to.graph.side_by_side(*columns)


def _tree(to: Writing, model: Any) -> Answer:
    graph, tables, forest = to.graph, model.tables, model.forest
    place = ends(graph, forest, _rows(to, model.grove)).column(0)

    def told(table: Any) -> Any:
        """The rows of a table by answer, and what none says: its last row."""
        return np.concatenate([np.asarray(table)[: forest.answers], np.asarray(table)[-1:]])

    if tables.refuses:
        refused = told([each is not None for each in tables.refused]).astype(np.float64)
        wrong = graph.call("Gather", refused, place, axis=0) > 0.5
        place = graph.refused(place, wrong, "the tree has no answer")
    ids = [*tables.ids[: forest.answers], None]
    entity = Coded(graph, place, ids)
    if tables.numbers is not None:
        numbers = told(tables.numbers).astype(np.float64)
        found = graph.call("Gather", numbers, place, axis=0)
        return Answer(Number(graph, found, model.context.number), entity=entity)
    codes = told(tables.codes)
    codes = np.where(codes < 0, len(tables.labels), codes).astype(np.int64)
    label = graph.call("Gather", codes, place, axis=0)
    shares = None
    if tables.probability is not None:
        shares = graph.call("Gather", told(tables.probability), place, axis=0)
    cell = _labelled(graph, label, tables.labels, model.context.label)
    return Answer(cell, tables.labels, shares, entity)


def _trees_summed(to: Writing, model: Any) -> Answer:
    if model.votes:
        raise UnsupportedModel("votes that tie go to the class first voted for: no ONNX operator")
    total = summed(to.graph, model.sum, _rows(to, model.grove)) / float(model.divisor)
    if model.sum.float32:
        total = total.cast(DType.FLOAT32).float64()
    if model.classes:
        return _classified(to, model.classes, total, model.context.label)
    return Answer(Number(to.graph, total.column(0), model.context.number))


def _table(to: Writing, table: Any) -> Value:
    """Return the sums of a RegressionTable. Shape [rows]."""
    graph = to.graph
    total = to.constant(table.intercept, DOUBLE).number().value
    for term in table.terms:
        match type(term).__name__:
            case "Numeric":
                x = to.cell(term.field.slot).number().value
                if term.exponent != 1:
                    x = graph.call("Pow", x, float(term.exponent))
                total = total + x * float(term.coefficient)
            case "Categorical":
                cell = to.cell(term.field.slot)
                total = total + cell.looked_up(term.coefficients, 0.0, 0.0)
            case _:
                product: Any = float(term.coefficient)
                for field in term.fields:
                    product = to.cell(field.slot).number().value * product
                total = total + product
    return Number(graph, total, table.kind).rounded().value


def _inverse(graph: Graph, method: str, x: Value) -> Value:
    match method:
        case "none" | "identity":
            return x
        case "logit" | "softmax":
            return 1.0 / (graph.call("Exp", -x) + 1.0)
        case "exp" | "log":
            return graph.call("Exp", x)
        case "cloglog":
            return 1.0 - graph.call("Exp", -graph.call("Exp", x))
        case "loglog":
            return graph.call("Exp", -graph.call("Exp", -x))
    raise UnsupportedModel(f"the link {method!r} has no operator in ONNX")


def _regression(to: Writing, model: Any) -> Answer:
    found = _inverse(to.graph, model.method, _table(to, model.table))
    return Answer(Number(to.graph, found, model.table.kind).rounded())


def _classification(to: Writing, model: Any) -> Answer:
    graph, method = to.graph, model.method
    if model.ordinal:
        raise UnsupportedModel("a regression of ordered classes is not written as ONNX")
    columns = [_table(to, table).as_column() for table in model.tables]
    scores = graph.side_by_side(*columns)
    lacking = scores.is_nan().float64().reduce("ReduceMax", True) > 0.5
    scores = graph.where(lacking, np.nan, scores)
    if method == "softmax":
        found = graph.call("Softmax", scores, axis=1)
    elif method == "simplemax":
        found = scores / scores.reduce("ReduceSum", True)
    elif len(columns) == 2:
        first = _inverse(graph, method, scores.column(0))
        if method == "none":
            first = graph.where(first < 0.0, 0.0, graph.where(first > 1.0, 1.0, first))
        found = graph.side_by_side(first.as_column(), (1.0 - first).as_column())
    elif method == "none":
        raise UnsupportedModel("a regression of more than two classes without normalization")
    else:
        found = _inverse(graph, method, scores)
        found = found / found.reduce("ReduceSum", True)
    return _classified(to, model.classes, graph.where(lacking, np.nan, found), model.label)


_ACTIVATIONS = {
    "tanh": "Tanh",
    "exponential": "Exp",
    "reciprocal": "Reciprocal",
    "sine": "Sin",
    "cosine": "Cos",
}


def _network(to: Writing, model: Any) -> Answer:
    graph = to.graph
    if model.numbers or len(model.classes) != 1:
        raise UnsupportedModel("a network of numbers, or of several targets")
    columns = [to.cell(each.slot).number().value.as_column() for each in model.inputs]
    x = graph.side_by_side(*columns)
    gone = x.is_nan().float64().reduce("ReduceMax", True) > 0.5
    for layer in model.layers:
        x = graph.side_by_side(x, _layer(graph, layer, x))
    ((labels, neurons),) = model.classes.values()
    shares = graph.call("Gather", x, np.array(neurons, np.int64), axis=1)
    return _classified(to, labels, graph.where(gone, np.nan, shares), model.context.label)


def _layer(graph: Graph, layer: Any, x: Value) -> Value:
    z: Value = x @ layer.weights + layer.bias[None]
    match layer.activation:
        case "logistic":
            z = 1.0 / (graph.call("Exp", -z) + 1.0)
        case "identity":
            pass
        case "square":
            z = z * z
        case "Gauss":
            z = graph.call("Exp", -(z * z))
        case "Elliott":
            z = z / (graph.call("Abs", z) + 1.0)
        case "threshold":
            z = (z > float(layer.threshold)).float64()
        case "rectifier":
            z = graph.where(z < 0.0, z * float(layer.leak), z)
        case name if name in _ACTIVATIONS:
            z = graph.call(_ACTIVATIONS[name], z)
        case name:
            raise UnsupportedModel(f"the activation {name!r} has no operator in ONNX")
    if layer.normalization == "softmax":
        return graph.call("Softmax", z, axis=1)
    return z / z.reduce("ReduceSum", True) if layer.normalization == "simplemax" else z


def _chain(to: Writing, model: Any) -> Answer:
    last = model.parts[-1]
    if not model.last or model.skips or last.active is not None or len(model.context.targets) > 1:
        raise UnsupportedModel("segments that answer for some rows alone are not written as ONNX")
    return to.answer(last.slot)


_MODELS: dict[tuple[str, str], Callable[[Writing, Any], Answer]] = {
    ("tree", "Tree"): _tree,
    ("tree_ensemble", "TreesSummed"): _trees_summed,
    ("regression", "Regression"): _regression,
    ("regression", "Classification"): _classification,
    ("neural_network", "Network"): _network,
    ("mining", "Chain"): _chain,
}
"""By the module and the name of the model's class, as the reader has them."""
