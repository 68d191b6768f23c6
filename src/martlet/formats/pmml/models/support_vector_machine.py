"""SupportVectorMachineModel: kernels against support vectors. Source: PMML 4.4.1, SVM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from martlet.formats.pmml.arrays import array_numbers
from martlet.formats.pmml.column import Column, Reasons, all_errors, first, reasons
from martlet.formats.pmml.context import Context
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.expressions import compile_expression, store
from martlet.formats.pmml.frame import Frame, Record, RowError
from martlet.formats.pmml.prediction import Outcome, Prediction, label_column, numbers
from martlet.formats.pmml.scope import Field, number_reader
from martlet.formats.pmml.values import DOUBLE, Value, parse

LACKING = "field {!r} is missing, and the model needs it"

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
    """Which class each side of a threshold is."""

    target: Value
    alternate: Value
    threshold: float


@dataclass(frozen=True, slots=True)
class Sums:
    """
    Each machine's weighted sum of kernels.

    Args:
        vectors: What a row is compared with; None: the weights are of the row itself.
        weights: Shape [vectors (or the row's width), machines]; 0 where a machine has none.
        bias: Shape [machines].
    """

    kernel: Kernel
    vectors: Array | None
    weights: Array
    bias: Array

    def __call__(self, x: Array) -> Array:
        """Return the sums of the rows *x*. Shape [rows, machines]."""
        if self.vectors is not None:
            x = self.kernel(x, self.vectors)
        return np.asarray(x @ self.weights + self.bias)


@dataclass(frozen=True, slots=True)
class SupportVectors:
    """Machines over the same vector fields."""

    context: Context
    dimensions: tuple[Numeric | Categorical, ...]
    sums: Sums
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
                errors = first(errors, reasons(column.missing, LACKING.format(name)))
        return x, errors

    def predict(self, frame: Frame) -> Prediction:
        x, errors = self._matrix(frame)
        with np.errstate(all="ignore"):
            scores = self.sums(x)
        if not self.context.is_classification:
            return numbers(scores[:, 0], DOUBLE, errors)
        if self.votes:
            return self._voted(scores, errors)
        keys = scores if self.max_wins else -scores
        return self._answer(self.labels, keys, scores, errors)

    @property
    def votes(self) -> bool:
        """Whether each machine votes for one of two classes, rather than score one."""
        return self.one_against_one or (
            len(self.machines) == 1 and self.machines[0].alternate is not None
        )

    @property
    def labels(self) -> tuple[Value, ...]:
        """The classes: of machines that vote, as they first name them."""
        if not self.votes:
            return tuple(machine.target for machine in self.machines)
        pairs = ((machine.target, machine.alternate) for machine in self.machines)
        return tuple(dict.fromkeys(each for pair in pairs for each in pair if each is not None))

    def _voted(self, scores: Array, errors: Reasons | None) -> Prediction:
        labels, machines = self.labels, len(self.machines)
        votes = np.zeros((len(scores), len(labels)))
        met = np.full_like(votes, machines)
        for place, (machine, score) in enumerate(zip(self.machines, scores.T, strict=True)):
            below = score < machine.threshold
            for label, where in ((machine.target, below), (machine.alternate, ~below)):
                if label is not None:
                    code = labels.index(label)
                    votes[where, code] += 1
                    met[where, code] = np.minimum(met[where, code], place)
        # Of classes with as many votes, the one that got its first vote first.
        keys = votes - met / (1 + machines)
        return self._answer(labels, keys, votes / machines, errors)

    def _answer(
        self, labels: tuple[Value, ...], keys: Array, shown: Array, errors: Reasons | None
    ) -> Prediction:
        value = label_column(keys.argmax(axis=1), labels, self.context.label)
        return Prediction(value.with_errors(errors), labels, shown)

    @property
    def outcome(self) -> Callable[[Record], Outcome]:
        """A closure that answers one record."""
        reads, sums = [self._reader(each) for each in self.dimensions], self.sums
        if not self.context.is_classification:

            def number(record: Record) -> Outcome:
                found = float(sums(np.array([[read(record) for read in reads]]))[0, 0])
                return Outcome(None if found != found else found)

            return number
        labels, machines, max_wins = self.labels, self.machines, self.max_wins
        sides = [(each.target, each.alternate, each.threshold) for each in machines]

        def vote(record: Record) -> Outcome:
            scores = sums(np.array([[read(record) for read in reads]]))[0].tolist()
            votes: dict[Value, int] = {}
            for score, (target, alternate, threshold) in zip(scores, sides, strict=True):
                label = target if score < threshold else alternate
                if label is not None:
                    votes[label] = votes.get(label, 0) + 1
            # Of classes with as many votes, the one that got its first vote first.
            best = max(votes, key=votes.__getitem__, default=labels[0])
            shares = [votes.get(label, 0) / len(sides) for label in labels]
            return Outcome(best, labels, shares)

        def nearest(record: Record) -> Outcome:
            scores = sums(np.array([[read(record) for read in reads]]))[0].tolist()
            best = scores.index((max if max_wins else min)(scores))
            return Outcome(labels[best], labels, scores)

        return vote if self.votes else nearest

    def _reader(self, dimension: Numeric | Categorical) -> Callable[[Record], float]:
        field, scope = dimension.field, self.context.scope
        read = scope.reader(field)
        number = number_reader(scope, field)

        def of_number(record: Record) -> float:
            value = number(record)
            if value != value:
                raise RowError(LACKING.format(field.name))
            return value

        if isinstance(dimension, Numeric):
            return of_number
        wanted = dimension.value

        def of_category(record: Record) -> float:
            value = read(record)
            if value is None:
                raise RowError(LACKING.format(field.name))
            return float(value == wanted)

        return of_category


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
    listed = element.all("SupportVectorMachine")
    if not listed:
        raise element.error("holds no SupportVectorMachine")
    places = {name: place for place, name in enumerate(vectors)}
    weights = [
        _row_weights(each, len(dimensions)) if linear else _weights(each, places) for each in listed
    ]
    bias = [e.need_child("Coefficients").number("absoluteValue", 0.0) for e in listed]
    kernel = _kernel(element)
    sums = Sums(
        kernel,
        None if linear else np.array(list(vectors.values())).reshape(-1, len(dimensions)),
        np.stack(weights, axis=1),
        np.array(bias),
    )
    machines = tuple(_machine(each, context) for each in listed)
    method = element.choice(
        "classificationMethod", ("OneAgainstAll", "OneAgainstOne"), "OneAgainstAll"
    )
    by_pairs = method == "OneAgainstOne" or all(m.alternate is not None for m in machines)
    return SupportVectors(context, dimensions, sums, machines, by_pairs, element.flag("maxWins"))


def _dimensions(fields: Element, context: Context) -> tuple[Numeric | Categorical, ...]:
    found: list[Numeric | Categorical] = []
    for each in fields.all("FieldRef", "CategoricalPredictor"):
        name = each.get("field") or each.get("name") or ""
        field = context.scope.field(name, each)
        if each.tag == "FieldRef":
            if each.get("mapMissingTo") is not None:
                field = store(compile_expression(each, context.scope), context.scope, name, each)
            found.append(Numeric(field))
        else:
            found.append(Categorical(field, parse(each.need("value"), field.type)))
    return tuple(found)


def _filled(values: list[float], width: int, element: Element) -> Array:
    if len(values) > width:
        raise element.error(f"has {len(values)} entries for {width} vector fields")
    return np.array(values + [0.0] * (width - len(values)))


def _coefficients(machine: Element) -> Array:
    listed = machine.need_child("Coefficients").all("Coefficient")
    return np.array([each.number("value", 0.0) for each in listed])


def _row_weights(machine: Element, width: int) -> Array:
    found = _coefficients(machine)
    if len(found) != width:
        raise machine.error(f"has {len(found)} coefficients for {width} vector fields")
    return found


def _weights(machine: Element, places: dict[str, int]) -> Array:
    """Return the weight of every vector for *machine*: 0 of those that it does not name."""
    alphas, listed = _coefficients(machine), machine.child("SupportVectors")
    ids = [each.need("vectorId") for each in listed.all("SupportVector")] if listed else []
    unknown = next((each for each in ids if each not in places), None)
    if unknown is not None:
        raise machine.error(f"refers to the vector {unknown!r}, which there is not")
    if len(ids) != len(alphas):
        raise machine.error(f"has {len(ids)} support vectors and {len(alphas)} coefficients")
    found = np.zeros(len(places))
    np.add.at(found, [places[each] for each in ids], alphas)
    return found


def _machine(element: Element, context: Context) -> Machine:
    def label(name: str) -> Value:
        text = element.get(name)
        return None if text is None else context.parse_label(text, element)

    return Machine(
        label("targetCategory"),
        label("alternateTargetCategory"),
        element.number("threshold", context.element.number("threshold", 0.0)),
    )
