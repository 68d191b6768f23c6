"""NeuralNetwork: layers of sums through activations. Source: PMML 4.4.1, Neural Network."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from martlet.formats.pmml import links
from martlet.formats.pmml.asked import Asked
from martlet.formats.pmml.column import Column, first, reasons
from martlet.formats.pmml.context import Context
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.expressions import compile_derived, expression_of
from martlet.formats.pmml.frame import Frame, Record, RowError
from martlet.formats.pmml.prediction import (
    Outcome,
    Prediction,
    classified,
    label_column,
    likeliest,
    numbers,
    winners,
)
from martlet.formats.pmml.scope import Field
from martlet.formats.pmml.values import DOUBLE, STRING, Value

Array = np.ndarray


def _gauss(z: Array) -> Array:
    return np.asarray(np.exp(-(z**2)))


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "logistic": links.INVERSE["logit"][0],
    "tanh": np.tanh,
    "identity": lambda z: z,
    "exponential": np.exp,
    "reciprocal": lambda z: 1 / z,
    "square": np.square,
    "Gauss": _gauss,
    "sine": np.sin,
    "cosine": np.cos,
    "Elliott": lambda z: z / (1 + np.abs(z)),
    "arctan": lambda z: 2 * np.arctan(z) / math.pi,
    "rectifier": lambda z: np.maximum(z, 0),
}
_NORMALIZATIONS = ("none", "simplemax", "softmax")


@dataclass(frozen=True, slots=True)
class Layer:
    """
    One layer: neurons that each sum some of the outputs before them.

    Args:
        weights: Shape [known before, neurons]; 0 where there is no connection.
        linked: Whether there is one; what a radial layer measures distances over.
    """

    weights: Array
    linked: Array
    bias: Array
    activation: str
    threshold: float
    leak: float
    width: Array
    altitude: Array
    normalization: str

    def __call__(self, x: Array) -> Array:
        """Return the neurons' outputs, [rows, neurons], from what is known, [rows, before]."""
        if self.activation == "radialBasis":
            z = self._radial(x)
        else:
            z = x @ self.weights + self.bias
            if self.activation == "threshold":
                z = (z > self.threshold).astype(np.float64)
            elif self.leak:
                z = np.where(z >= 0, z, self.leak * z)
            else:
                z = _ACTIVATIONS[self.activation](z)
        if self.normalization == "softmax":
            return links.softmax(z)
        return links.simplemax(z) if self.normalization == "simplemax" else z

    def _radial(self, x: Array) -> Array:
        # exp(f * log(altitude) - sum((x - w)^2) / (2 width^2)), f the number of connections.
        gaps = (x[:, :, None] - self.weights[None]) ** 2 * self.linked[None]
        fan_in = self.linked.sum(axis=0)
        scaled = gaps.sum(axis=1) / (2 * self.width**2)
        return np.asarray(np.exp(fan_in * np.log(self.altitude) - scaled))


@dataclass(frozen=True, slots=True)
class Output:
    """A number, by the inverse of what the network was trained on."""

    neuron: int
    inverse: Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class Network:
    """Inputs, layers, outputs."""

    context: Context
    inputs: tuple[Field, ...]
    layers: tuple[Layer, ...]
    numbers: dict[str | None, Output]
    classes: dict[str | None, tuple[tuple[Value, ...], tuple[int, ...]]]
    ids: tuple[str, ...]
    """Of inputs and neurons, as their outputs are laid out."""

    def predict(self, frame: Frame) -> Prediction:
        asked = Asked()
        columns: list[Column] = [asked.needs(frame[each.slot]) for each in self.inputs]
        errors = asked.errors
        x = np.stack([each.cast(DOUBLE).floats() for each in columns], axis=1)
        gone = np.isnan(x).any(axis=1)
        with np.errstate(all="ignore"):
            for layer in self.layers:
                made = layer(x)
                if layer.normalization == "simplemax":
                    nothing = np.asarray(np.isnan(made).all(axis=1) & ~gone)
                    errors = first(errors, reasons(nothing, links.NO_SHARES))
                x = np.concatenate([x, made], axis=1)
        found: dict[str | None, Prediction] = {}
        for name, output in self.numbers.items():
            with np.errstate(all="ignore"):
                values = output.inverse(x[:, output.neuron])
            values = np.where(gone, np.nan, values)
            found[name] = numbers(values, DOUBLE, errors)
        for name, (labels, neurons) in self.classes.items():
            shares = x[:, list(neurons)]
            shares[gone] = np.nan
            answer = self._classified(labels, shares, name, errors)
            best = label_column(winners(shares), [self.ids[n] for n in neurons], STRING)
            found[name] = replace(answer, entity=best)
        if len(found) == 1:
            return next(iter(found.values()))
        main = found.get(self.context.target) or next(iter(found.values()))
        others = {name: each for name, each in found.items() if name is not None}
        return replace(main, others=others).failing(errors)

    @property
    def outcome(self) -> Callable[[Record], Outcome] | None:
        """A closure that answers one record; None: a network of several targets has none."""
        if len(self.numbers) + len(self.classes) != 1:
            return None
        program = self.context.scope.world.program
        reads = [program.reader(each.slot) for each in self.inputs]
        layers, neurons, ids = self.layers, [0], self.ids
        labels: tuple[Value, ...] = ()
        inverse: Callable[[Array], Array] | None = None
        for output in self.numbers.values():
            inverse, neurons = output.inverse, [output.neuron]
        for listed, places in self.classes.values():
            labels, neurons = listed, list(places)

        def call(record: Record) -> Outcome:
            values: list[float] = []
            for read in reads:
                value = read(record)
                if value is None:
                    return Outcome(None, labels)
                values.append(value)
            x = np.array([values], dtype=np.float64)
            with np.errstate(all="ignore"):
                for layer in layers:
                    made = layer(x)
                    if layer.normalization == "simplemax" and np.isnan(made).all():
                        raise RowError(links.NO_SHARES)
                    x = np.concatenate([x, made], axis=1)
                shares = x[0, neurons]
                if inverse is not None:
                    number = float(inverse(shares)[0])
                    return Outcome(None if number != number else number)
            found = likeliest(labels, shares.tolist())
            if found.value is not None:
                found.entity = ids[neurons[int(shares.argmax())]]
            return found

        return call

    def _classified(
        self, labels: tuple[Value, ...], shares: Array, name: str | None, errors: Any
    ) -> Prediction:
        kinds = {target: kind for target, kind, _ in self.context.targets}
        return classified(labels, shares, kinds.get(name or "", self.context.label), errors)


def compile_model(context: Context) -> Network:
    """Compile a NeuralNetwork."""
    element, scope = context.element, context.scope
    places: dict[str, int] = {}
    inputs: list[Field] = []
    for each in element.need_child("NeuralInputs").all("NeuralInput"):
        places[each.need("id")] = len(places)
        inputs.append(compile_derived(each.need_child("DerivedField"), scope, ""))
    layers = []
    for each in element.all("NeuralLayer"):
        known = len(places)
        neurons = each.all("Neuron")
        layers.append(_layer(each, neurons, places, element))
        for place, neuron in enumerate(neurons):
            places[neuron.need("id")] = known + place
    numbers, classes = _outputs(context, places)
    return Network(context, tuple(inputs), tuple(layers), numbers, classes, tuple(places))


def _layer(
    layer: Element, neurons: list[Element], places: dict[str, int], network: Element
) -> Layer:
    def inherited(name: str, default: str | None = None) -> str | None:
        return layer.get(name) or network.get(name) or default

    activation = inherited("activationFunction")
    known = (*_ACTIVATIONS, "threshold", "radialBasis")
    if activation not in known:
        raise layer.error(f"activationFunction={activation!r} is not supported")
    normalization = inherited("normalizationMethod", "none")
    if normalization not in _NORMALIZATIONS:
        raise layer.error(f"normalizationMethod={normalization!r} is not supported")
    weights = np.zeros((len(places), len(neurons)))
    linked = np.zeros_like(weights)
    for column, neuron in enumerate(neurons):
        for each in neuron.all("Con"):
            source = each.need("from")
            if source not in places:
                raise each.error(f"comes from {source!r}, which no layer before it has")
            weights[places[source], column] = each.number("weight")
            linked[places[source], column] = 1.0

    def per_neuron(name: str, default: float) -> Array:
        fallback = float(inherited(name) or default)
        return np.array([each.number(name, fallback) for each in neurons])

    return Layer(
        weights,
        linked,
        np.array([each.number("bias", 0.0) for each in neurons]),
        activation,
        float(inherited("threshold") or 0.0),
        float(inherited("leakage") or 0.0) if activation == "rectifier" else 0.0,
        per_neuron("width", 1.0),
        per_neuron("altitude", 1.0),
        normalization,
    )


def _outputs(context: Context, places: dict[str, int]) -> tuple[Any, Any]:
    found: dict[str | None, Output] = {}
    classes: dict[str | None, list[tuple[Value, int]]] = {}
    outputs = context.element.need_child("NeuralOutputs").all("NeuralOutput")
    for each in outputs:
        neuron = each.need("outputNeuron")
        if neuron not in places:
            raise each.error(f"refers to the neuron {neuron!r}, which there is not")
        inner = expression_of(each.need_child("DerivedField"))
        name = inner.get("field")
        name = name if name in {t for t, _, _ in context.targets} else context.target
        if inner.tag == "NormDiscrete":
            label = context.parse_label(inner.need("value"), inner)
            classes.setdefault(name, []).append((label, places[neuron]))
        elif inner.tag in ("FieldRef", "NormContinuous"):
            inverse = _inverse(inner) if inner.tag == "NormContinuous" else _identity
            found[name] = Output(places[neuron], inverse)
        else:
            raise inner.error("is not what a NeuralOutput can be inverted by")
    split = {
        name: (tuple(label for label, _ in pairs), tuple(place for _, place in pairs))
        for name, pairs in classes.items()
    }
    return found, split


def _identity(z: Array) -> Array:
    return z


def _inverse(element: Element) -> Callable[[Array], Array]:
    """Return the inverse of a NormContinuous."""
    points = sorted((p.number("norm"), p.number("orig")) for p in element.all("LinearNorm"))
    if len(points) < 2:
        raise element.error("needs at least two LinearNorm")
    norm, orig = (np.array(axis) for axis in zip(*points, strict=True))
    slope = np.diff(orig) / np.diff(norm)

    def inverse(z: Array) -> Array:
        part = np.searchsorted(norm[1:-1], z, side="right")
        return np.asarray(orig[part] + (z - norm[part]) * slope[part])

    return inverse
