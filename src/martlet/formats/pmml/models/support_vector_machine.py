"""SupportVectorMachineModel: kernels against support vectors. Source: PMML 4.4.1, SVM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from martlet.formats.pmml.column import Column, Reasons, all_errors, first, reasons
from martlet.formats.pmml.context import Context
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.frame import Frame
from martlet.formats.pmml.predicates import array_numbers
from martlet.formats.pmml.prediction import Prediction, label_column, numbers
from martlet.formats.pmml.scope import Field
from martlet.formats.pmml.values import DOUBLE, Value, parse

Array = np.ndarray
Kernel = Callable[[Array, Array], Array]
"""Of rows [rows, width] and vectors [vectors, width], shape [rows, vectors]."""


def _kernel(element: Element) -> Kernel:
    found = element.need_child(
        "LinearKernelType", "PolynomialKernelType", "RadialBasisKernelType", "SigmoidKernelType"
    )
    gamma, coef0 = found.number("gamma", 1.0), found.number("coef0", 1.0)
    match found.tag:
        case "LinearKernelType":
            return lambda x, v: x @ v.T
        case "PolynomialKernelType":
            degree = found.number("degree", 1.0)
            return lambda x, v: (gamma * (x @ v.T) + coef0) ** degree
        case "RadialBasisKernelType":
            return lambda x, v: np.exp(-gamma * _squares(x, v))
        case _:
            return lambda x, v: np.tanh(gamma * (x @ v.T) + coef0)


def _squares(x: Array, v: Array) -> Array:
    """Return squared distances, by differences where they are few: a product loses digits."""
    if x.size * len(v) <= 1 << 22:
        return np.asarray(((x[:, None, :] - v[None]) ** 2).sum(axis=2))
    found = (x**2).sum(axis=1)[:, None] + (v**2).sum(axis=1)[None] - 2 * (x @ v.T)
    return np.asarray(np.maximum(found, 0.0))


@dataclass(frozen=True, slots=True)
class Numeric:
    """One dimension: a number."""

    field: Field


@dataclass(frozen=True, slots=True)
class Categorical:
    """One dimension: whether a field has a value."""

    field: Field
    value: Value


@dataclass(frozen=True, slots=True)
class Machine:
    """A weighted sum of kernels, and which class each side of its threshold is."""

    vectors: Array
    alphas: Array
    bias: float
    linear: Array | None
    target: Value
    alternate: Value
    threshold: float

    def scores(self, x: Array, kernel: Kernel) -> Array:
        if self.linear is not None:
            return np.asarray(x @ self.linear + self.bias)
        return np.asarray(kernel(x, self.vectors) @ self.alphas + self.bias)


@dataclass(frozen=True, slots=True)
class SupportVectors:
    """Machines over the same vector fields."""

    context: Context
    dimensions: tuple[Numeric | Categorical, ...]
    kernel: Kernel
    machines: tuple[Machine, ...]
    one_against_one: bool
    max_wins: bool

    def _matrix(self, frame: Frame) -> tuple[Array, Reasons | None]:
        x = np.empty((frame.rows, len(self.dimensions)))
        used: dict[int, tuple[str, Column]] = {}
        for place, each in enumerate(self.dimensions):
            column: Column = frame[each.field.slot]
            used[each.field.slot] = (each.field.name, column)
            if isinstance(each, Numeric):
                x[:, place] = column.cast(DOUBLE).floats()
            else:
                x[:, place] = column.equals(each.value)
        errors = all_errors(column for _, column in used.values())
        for name, column in used.values():
            if column.missing is not None:
                lacking = reasons(
                    column.missing, f"field {name!r} is missing, and the model needs it"
                )
                errors = first(errors, lacking)
        return x, errors

    def predict(self, frame: Frame) -> Prediction:
        x, errors = self._matrix(frame)
        with np.errstate(all="ignore"):
            scores = [each.scores(x, self.kernel) for each in self.machines]
        if not self.context.is_classification:
            return numbers(scores[0], DOUBLE, errors)
        if self.one_against_one:
            return self._voted(scores, errors)
        return self._nearest(scores, errors)

    def _voted(self, scores: list[Array], errors: Reasons | None) -> Prediction:
        labels = list(
            dict.fromkeys(
                each
                for machine in self.machines
                for each in (machine.target, machine.alternate)
                if each is not None
            )
        )
        votes = np.zeros((len(scores[0]), len(labels)))
        met = np.full_like(votes, len(scores))
        for place, (machine, score) in enumerate(zip(self.machines, scores, strict=True)):
            below = score < machine.threshold
            for label, where in ((machine.target, below), (machine.alternate, ~below)):
                if label is not None:
                    code = labels.index(label)
                    votes[where, code] += 1
                    met[where, code] = np.minimum(met[where, code], place)
        # Of classes with as many votes, the one that got its first vote first.
        keys = votes - met / (1 + len(scores))
        return self._answer(tuple(labels), keys, votes / len(scores), errors)

    def _nearest(self, scores: list[Array], errors: Reasons | None) -> Prediction:
        labels = tuple(machine.target for machine in self.machines)
        if len(self.machines) == 1 and self.machines[0].alternate is not None:
            return self._voted(scores, errors)
        table = np.stack(scores, axis=1)
        keys = table if self.max_wins else -table
        return self._answer(labels, keys, table, errors)

    def _answer(
        self, labels: tuple[Value, ...], keys: Array, shown: Array, errors: Reasons | None
    ) -> Prediction:
        value = label_column(keys.argmax(axis=1), labels, self.context.label)
        return Prediction(value.with_errors(errors), labels, shown)


def compile_model(context: Context) -> SupportVectors:
    """Compile a SupportVectorMachineModel."""
    element = context.element
    dictionary = element.need_child("VectorDictionary")
    dimensions = _dimensions(dictionary.need_child("VectorFields"), context)
    vectors: dict[str, Array] = {}
    for each in dictionary.all("VectorInstance"):
        values = array_numbers(each.need_child("Array", "REAL-SparseArray", "INT-SparseArray"))
        vectors[each.need("id")] = _filled(values, len(dimensions), each)
    linear = element.get("svmRepresentation") == "Coefficients"
    machines = [
        _machine(each, vectors, len(dimensions), linear, context)
        for each in element.all("SupportVectorMachine")
    ]
    if not machines:
        raise element.error("holds no SupportVectorMachine")
    method = element.choice(
        "classificationMethod", ("OneAgainstAll", "OneAgainstOne"), "OneAgainstAll"
    )
    by_pairs = method == "OneAgainstOne" or all(m.alternate is not None for m in machines)
    return SupportVectors(
        context,
        dimensions,
        _kernel(element),
        tuple(machines),
        by_pairs,
        element.flag("maxWins"),
    )


def _dimensions(fields: Element, context: Context) -> tuple[Numeric | Categorical, ...]:
    found: list[Numeric | Categorical] = []
    for each in fields.all("FieldRef", "CategoricalPredictor"):
        name = each.get("field") or each.get("name") or ""
        field = context.scope.field(name, each)
        if each.tag == "FieldRef":
            found.append(Numeric(field))
        else:
            found.append(Categorical(field, parse(each.need("value"), field.type)))
    return tuple(found)


def _filled(values: list[float], width: int, element: Element) -> Array:
    if len(values) > width:
        raise element.error(f"has {len(values)} entries for {width} vector fields")
    return np.array(values + [0.0] * (width - len(values)))


def _machine(
    element: Element, vectors: dict[str, Array], width: int, linear: bool, context: Context
) -> Machine:
    coefficients = element.need_child("Coefficients")
    alphas = np.array([each.number("value", 0.0) for each in coefficients.all("Coefficient")])
    bias = coefficients.number("absoluteValue", 0.0)
    listed = element.child("SupportVectors")
    ids = [each.need("vectorId") for each in listed.all("SupportVector")] if listed else []
    unknown = next((each for each in ids if each not in vectors), None)
    if unknown is not None:
        raise element.error(f"refers to the vector {unknown!r}, which there is not")
    if not linear and len(ids) != len(alphas):
        raise element.error(f"has {len(ids)} support vectors and {len(alphas)} coefficients")
    if linear and len(alphas) != width:
        raise element.error(f"has {len(alphas)} coefficients for {width} vector fields")
    model = context.element.number("threshold", 0.0)

    def label(name: str) -> Value:
        text = element.get(name)
        return None if text is None else context.parse_label(text, element)

    return Machine(
        np.stack([vectors[each] for each in ids]) if ids else np.zeros((0, width)),
        alphas,
        bias,
        alphas if linear else None,
        label("targetCategory"),
        label("alternateTargetCategory"),
        element.number("threshold", model),
    )
