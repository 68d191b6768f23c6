"""PMML to ONNX, from the program that our reader compiles a file into.

A number is float64, NaN where it is missing; an empty text is a missing one. What the mining schema
refuses fails the graph. What has no exact counterpart in ONNX is refused by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from onnx import ModelProto

from martlet import formats
from martlet.convert.to_onnx import pmml_models
from martlet.convert.to_onnx.cells import Cell, Coded, Number, Text
from martlet.convert.to_onnx.pmml_models import Answer
from martlet.convert.to_onnx.task import Task
from martlet.convert.to_onnx.writer import Graph, Value
from martlet.errors import UnsupportedModel
from martlet.formats.pmml.compile import Predicted
from martlet.formats.pmml.mining_schema import Given, Inherited, Treatment
from martlet.formats.pmml.servable import PmmlServable
from martlet.formats.pmml.values import INTEGER, DataType, parse
from martlet.tensors import DType


def from_pmml(task: Task) -> ModelProto:
    """
    Convert a PMML file.

    Raises:
        UnsupportedModel: a part of it has no exact counterpart; names it.
    """
    servable = formats.load(task.path, formats.LoadOptions())
    if not isinstance(servable, PmmlServable):
        raise UnsupportedModel("it is not a PMML file")
    return Writing(servable, task).model()


class Writing:
    """One file while it is written: the program's slots, each written when first asked for."""

    def __init__(self, servable: PmmlServable, task: Task) -> None:
        self.graph = Graph()
        self._program, inputs, self._outputs = servable.compiled
        self._signature = task.signature
        self._given: dict[int, Value] = {}
        self._cells: dict[int, Cell] = {}
        self._answers: dict[int, Answer] = {}
        self._wrong: list[tuple[Value, str]] = []
        for each in inputs:
            spec = task.signature.inputs[each.data.name]
            self._given[each.slot] = self.graph.input(spec.name, spec.dtype)

    def model(self) -> ModelProto:
        for slot, origin in self._program.origins.items():
            if isinstance(origin, Given):
                self.cell(slot)  # what it refuses is refused, whether a model asks for it or not
        outputs = {}
        for name, spec in self._signature.outputs.items():
            slot = self._outputs[name]
            if type(self._maker(slot)).__name__.strip("_") == "Run":
                cell = self.answer(slot).cell
            else:
                cell = self.cell(slot)
            outputs[name] = cell.text() if spec.dtype is DType.STRING else cell.number().value
        first = next(iter(outputs))
        for mask, why in self._wrong:
            outputs[first] = self.graph.refused(outputs[first], mask, why)
        return self.graph.model(self._signature, outputs)

    def _maker(self, slot: int) -> Any:
        """Return what fills a slot: what was noted of it, or the object whose method does."""
        origin = self._program.origins.get(slot)
        return origin or getattr(self._program.makers[slot], "__self__", None)

    def cell(self, slot: int) -> Cell:
        """Return the field in *slot*."""
        if slot not in self._cells:
            self._cells[slot] = self._written(self._maker(slot))
        return self._cells[slot]

    def answer(self, slot: int) -> Answer:
        """Return what the model in *slot* predicts."""
        if slot not in self._answers:
            run = self._maker(slot)
            if type(run).__name__.strip("_") != "Run":
                raise UnsupportedModel("a segment that answers for some rows alone")
            found = pmml_models.answer(self, run.model)
            self._answers[slot] = pmml_models.treated(self, run, found)
        return self._answers[slot]

    def _written(self, origin: Any) -> Cell:
        match origin:
            case Given(raw, treatment):
                return self._input(raw, treatment)
            case Inherited(source, treatment):
                return self._treated(self.cell(source.slot), treatment, None)
            case Predicted(model):
                return self.answer(model).cell
        return self.expression(origin)

    def expression(self, origin: Any) -> Cell:
        """Return what an expression computes."""
        write = _EXPRESSIONS.get(type(origin).__name__)
        if write is None:
            raise UnsupportedModel(f"{_called(origin)} has no exact counterpart in ONNX")
        return write(self, origin)

    def constant(self, value: Any, kind: DataType) -> Cell:
        """Return the same value for every row."""
        like = next(iter(self._given.values()), None)
        if like is None:
            raise UnsupportedModel("it takes no inputs")
        shape = self.graph.call("Shape", like, start=0, end=1)
        if kind.is_text:
            code = self.graph.call("ConstantOfShape", shape).cast(DType.INT64)
            return Coded(self.graph, code, [value])
        number = float("nan") if value is None else float(value)
        return Number(self.graph, self.graph.call("Expand", np.array([number]), shape), kind)

    def _input(self, raw: int, treatment: Treatment) -> Cell:
        graph, given, data = self.graph, self._given[raw], treatment.data
        assert data is not None
        if data.type.is_text:
            gone = graph.call("Equal", given, np.array([""], object))
            for text in data.missing:
                gone = gone | graph.call("Equal", given, np.array([str(text)], object))
            return self._treated(Text(graph, given, gone), treatment, None)
        if not data.type.is_number or data.type.is_moment:
            raise UnsupportedModel(f"field {data.name!r} is a {data.type}, which ONNX has not")
        for value in data.missing_floats:
            if isinstance(value, int | float):
                given = graph.where(given.equals(float(value)), np.nan, given)
        bad = None
        if data.type == INTEGER:
            whole = given.equals(graph.call("Floor", given)) & (graph.call("Abs", given) < np.inf)
            bad = ~(whole | given.is_nan())
        return self._treated(Number(graph, given, data.type).rounded(), treatment, bad)

    def _treated(self, cell: Cell, treatment: Treatment, bad: Value | None) -> Cell:
        """As ``Treatment.apply``: invalid values, then outliers, then missing ones."""
        mining, data = treatment.mining, treatment.data
        wrong = bad
        if data is not None and data.restricted:
            outside = self._invalid(cell, data)
            wrong = outside if wrong is None else wrong | outside
        if mining.outliers != "asIs" and isinstance(cell, Number):
            cell = self._outliers(cell, mining, wrong)
        way = treatment.on_invalid
        if way == "asIs" and mining.invalid_value is None:
            wrong = bad
        if wrong is not None:
            if way == "asMissing":
                cell = cell.blank(wrong)
            elif mining.invalid_value is not None and way in ("asIs", "asValue"):
                cell = cell.filled(wrong, mining.invalid_value)
            else:
                self._wrong.append((wrong, f"field {mining.name!r} holds what it cannot"))
        if mining.missing_value is not None:
            return cell.filled(cell.missing(), mining.missing_value)
        if mining.refuse_missing:
            self._wrong.append((cell.missing(), f"field {mining.name!r} is missing"))
        return cell

    def _invalid(self, cell: Cell, data: Any) -> Value:
        if data.valid:
            found = cell.looked_up(dict.fromkeys(data.valid, 0.0), 1.0, 0.0)
        elif data.intervals:
            found = self.graph.where(cell.missing(), 0.0, 1.0)
            for each in data.intervals:
                found = self.graph.where(within(cell.number().value, each), 0.0, found)
        else:
            found = self.graph.where(cell.missing(), 0.0, 0.0)
        if data.invalid:
            found = found + cell.looked_up(dict.fromkeys(data.invalid, 1.0), 0.0, 0.0)
        return found > 0.5

    def _outliers(self, cell: Number, mining: Any, wrong: Value | None) -> Cell:
        low = -np.inf if mining.low is None else float(mining.low)
        high = np.inf if mining.high is None else float(mining.high)
        x = cell.value
        below, above = x < low, x > high
        if wrong is not None:
            below, above = below & ~wrong, above & ~wrong
        if mining.outliers == "asMissingValues":
            return cell.blank(below | above)
        kept = self.graph.where(below, low, self.graph.where(above, high, x))
        return Number(self.graph, kept, cell.kind).rounded()


def within(x: Value, interval: Any) -> Value:
    """Return whether *x* lies in a PMML Interval."""
    left, right = float(interval.left), float(interval.right)
    above = x >= left if interval.left_closed else x > left
    below = x <= right if interval.right_closed else x < right
    return above & below


def _called(origin: Any) -> str:
    name = getattr(origin, "name", None)
    return f"the function {name!r}" if name else f"a {type(origin).__name__}"


def _constant(to: Writing, origin: Any) -> Cell:
    return to.constant(origin.value, origin.type)


def _field_ref(to: Writing, origin: Any) -> Cell:
    cell = to.cell(origin.field.slot)
    if origin.replacement is None:
        return cell
    return cell.filled(cell.missing(), origin.replacement)


def _cast(to: Writing, origin: Any) -> Cell:
    cell, kind = to.expression(origin.inner), origin.type
    if kind.is_text:
        return cell if not isinstance(cell, Number) else _no_text(cell)
    if not kind.is_number or kind.is_moment:
        raise UnsupportedModel(f"a cast to {kind} has no exact counterpart in ONNX")
    if isinstance(cell, Number):
        if kind == INTEGER and cell.kind != INTEGER:
            raise UnsupportedModel("a cast of a number to an integer")
        return Number(to.graph, cell.value, kind).rounded()
    if isinstance(cell, Coded):
        return cell.parsed(lambda text: float(parse(text, kind)), kind).rounded()
    raise UnsupportedModel("a cast of text that the caller gives to a number")


def _no_text(cell: Number) -> Cell:
    raise UnsupportedModel(f"a cast of {cell.kind} to text has no exact counterpart in ONNX")


def _norm_continuous(to: Writing, origin: Any) -> Cell:
    graph, x = to.graph, _number(to, origin.field)
    orig, norm = np.asarray(origin.orig), np.asarray(origin.norm)
    slopes = np.diff(norm) / np.diff(orig)
    passed = (x.as_column() >= orig[1:-1][None]).float64().reduce("ReduceSum").cast(DType.INT64)
    start, base, slope = (
        graph.call("Gather", np.ascontiguousarray(each, np.float64), passed, axis=0)
        for each in (orig[:-1], norm[:-1], slopes)
    )
    found = base + (x - start) * slope
    if origin.outliers == "asExtremeValues":
        found = graph.where(x > float(orig[-1]), float(norm[-1]), found)
        found = graph.where(x < float(orig[0]), float(norm[0]), found)
    elif origin.outliers == "asMissingValues":
        beyond = (x < float(orig[0])) | (x > float(orig[-1]))
        found = graph.where(beyond, np.nan, found)
    instead = np.nan if origin.replacement is None else float(origin.replacement)
    return Number(graph, graph.where(x.is_nan(), instead, found), origin.type)


def _norm_discrete(to: Writing, origin: Any) -> Cell:
    instead = np.nan if origin.replacement is None else float(origin.replacement)
    cell = to.expression(origin.field)
    return Number(to.graph, cell.looked_up({origin.value: 1.0}, 0.0, instead), origin.type)


def _discretize(to: Writing, origin: Any) -> Cell:
    x = _number(to, origin.field)
    texts = [text for _, text in origin.bins]
    code: Any = to.graph.where(x.is_nan(), float(len(texts) + 1), float(len(texts)))
    for place in range(len(origin.bins) - 1, -1, -1):
        code = to.graph.where(within(x, origin.bins[place][0]), float(place), code)
    return Coded(to.graph, code.cast(DType.INT64), [*texts, origin.default, origin.replacement])


def _map_values(to: Writing, origin: Any) -> Cell:
    cells = [to.expression(each) for each in origin.fields]
    place: Any = None
    gone: Any = None
    levels: list[list[Any]] = []
    for at, cell in enumerate(cells):
        known = list(dict.fromkeys(key[at] for key in origin.table))
        levels.append(known)
        codes = {value: float(code) for code, value in enumerate(known)}
        own = cell.looked_up(codes, float(len(known)), float(len(known)))
        place = own if place is None else place * float(len(known) + 1) + own
        gone = cell.missing() if gone is None else gone | cell.missing()
    sizes = [len(known) + 1 for known in levels]
    if int(np.prod(sizes)) > 1 << 20:
        raise UnsupportedModel("a MapValues of too many combinations")
    texts: list[Any] = [origin.default] * int(np.prod(sizes))
    for key, text in origin.table.items():
        where = [known.index(value) for known, value in zip(levels, key, strict=True)]
        texts[int(np.ravel_multi_index(where, sizes))] = text
    code = to.graph.where(gone, float(len(texts)), place).cast(DType.INT64)
    return Coded(to.graph, code, [*texts, origin.replacement])


def _number(to: Writing, origin: Any) -> Value:
    return to.expression(origin).number().value


_ARITHMETIC: Mapping[str, str] = {"+": "Add", "-": "Sub", "*": "Mul", "/": "Div"}
_FUNCTIONS: Mapping[str, str] = {"exp": "Exp", "ln": "Log", "sqrt": "Sqrt", "abs": "Abs"}


def _numeric_call(to: Writing, origin: Any) -> Cell:
    cells = [to.expression(each).number() for each in origin.arguments]
    if any(cell.kind == INTEGER for cell in cells) and origin.name == "/":
        raise UnsupportedModel("a division of integers has no exact counterpart in ONNX")
    operator = _ARITHMETIC.get(origin.name) or _FUNCTIONS.get(origin.name)
    if origin.undefined != "returnInvalid":
        raise UnsupportedModel(f"{origin.name} whose undefined results are {origin.undefined}")
    if operator is None:
        raise UnsupportedModel(f"the function {origin.name!r} has no exact counterpart in ONNX")
    found = to.graph.call(operator, *(cell.value for cell in cells))
    cell = Number(to.graph, found, origin.type).rounded()
    # Undefined, the row has no value, and the graph fails; of a missing argument it is missing.
    lacking = cells[0].missing()
    for other in cells[1:]:
        lacking = lacking | other.missing()
    wrong = cell.missing() & ~lacking if origin.function.lenient else cell.missing()
    return cell.refused(wrong, f"{origin.name} is undefined")


def _own(graph: Graph, found: Answer, probability: Value) -> Value:
    """Return the probability of each row's own label, which need not be the greatest."""
    cell = found.cell
    if isinstance(cell, Number):
        own = cell.value.as_column().equals(np.array([found.classes], np.float64))
    else:
        assert isinstance(cell, Coded)
        own = cell.code.as_column().equals(np.arange(len(found.classes))[None])
    shown = graph.where(own, probability, 0.0).reduce("ReduceSum")
    return graph.where(own.float64().reduce("ReduceMax") > 0.5, shown, np.nan)


def _feature(to: Writing, origin: Any) -> Cell:
    element = origin.element
    found = to.answer(origin.slot)
    feature = element.get("feature") or "predictedValue"
    if feature == "predictedValue":
        return found.cell
    if feature == "probability" and found.probability is not None:
        text = element.get("value")
        if text is None and element.integer("rank", 1) == 1:
            return Number(to.graph, _own(to.graph, found, found.probability), origin.type)
        labels = {str(label): place for place, label in enumerate(found.classes)}
        if text in labels:
            return Number(to.graph, found.probability.column(labels[text]), origin.type)
    if feature == "entityId" and found.entity is not None and element.integer("rank", 1) == 1:
        return found.entity
    raise UnsupportedModel(f"the output feature {feature!r} has no exact counterpart in ONNX")


def _requiring(to: Writing, origin: Any) -> Cell:
    lacking = to.answer(origin.prediction).cell.missing()
    return to.expression(origin.inner).refused(
        lacking, f"output {origin.name!r} needs a prediction"
    )


_EXPRESSIONS: dict[str, Callable[[Writing, Any], Cell]] = {
    "ConstantValue": _constant,
    "FieldRef": _field_ref,
    "Cast": _cast,
    "NormContinuous": _norm_continuous,
    "NormDiscrete": _norm_discrete,
    "Discretize": _discretize,
    "MapValues": _map_values,
    "NumericCall": _numeric_call,
    "Feature": _feature,
    "Requiring": _requiring,
}
"""By the name of the expression's class, as the reader has them."""
