"""GeneralRegressionModel: linear predictors by a design matrix, through a link.

Source: PMML 4.4.1, General Regression.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from martlet.formats.pmml import links
from martlet.formats.pmml.asked import Asked
from martlet.formats.pmml.column import first
from martlet.formats.pmml.context import Context
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.frame import Frame, Record, RowError
from martlet.formats.pmml.models.cox import read_cox
from martlet.formats.pmml.models.design import LACKING, Coefficients, Design, Extra, read_design
from martlet.formats.pmml.prediction import (
    Model,
    Outcome,
    Prediction,
    classified,
    likeliest,
    numbers,
)
from martlet.formats.pmml.values import DOUBLE, Value

_TYPES = (
    "regression",
    "generalLinear",
    "generalizedLinear",
    "multinomialLogistic",
    "ordinalMultinomial",
    "CoxRegression",
)


def _link(element: Element, default: str) -> links.Link:
    name = element.get("linkFunction") or default
    if name in ("power", "oddspower"):
        exponent = element.number("linkParameter")
        return links.power(exponent) if name == "power" else links.oddspower(exponent)
    if name == "negbin":
        return links.negative_binomial(element.number("distParameter"))
    if name not in links.INVERSE:
        raise element.error(f"linkFunction={name!r} is not supported")
    return links.INVERSE[name]


@dataclass(frozen=True, slots=True)
class Regression:
    """A mean: the inverse link of predictor + offset, times the trials."""

    design: Design
    coefficients: Coefficients
    link: links.Link
    offset: Extra
    trials: Extra

    def predict(self, frame: Frame) -> Prediction:
        asked = Asked()
        total = self.coefficients.column(self.design, frame, asked)
        offset, lacking = self.offset.column(frame)
        trials, none = self.trials.column(frame)
        with np.errstate(all="ignore"):
            mean = self.link[0](total + offset) * trials
        return numbers(mean, DOUBLE, first(asked.errors, first(lacking, none)))

    @property
    def outcome(self) -> Callable[[Record], Outcome]:
        """A closure that answers one record."""
        total, inverse = self.coefficients.single(self.design), self.link[1]
        offset, trials = _checked(self.offset), _checked(self.trials)

        def call(record: Record) -> Outcome:
            shift, times = offset(record), trials(record)
            x = total(record)
            if x is None:
                return Outcome(None)
            try:
                mean = inverse(x + shift) * times
            except (ValueError, ZeroDivisionError, OverflowError):
                return Outcome(None)
            return Outcome(None if math.isnan(mean) else mean)

        return call


@dataclass(frozen=True, slots=True)
class Classification:
    """A probability a class: by a link for two, by the softmax for more."""

    design: Design
    classes: tuple[Value, ...]
    coefficients: tuple[Coefficients, ...]
    """Of all classes but the last, the reference."""
    link: links.Link | None
    offset: Extra
    context: Context

    def predict(self, frame: Frame) -> Prediction:
        offset, lacking = self.offset.column(frame)
        asked = Asked()
        scores = [each.column(self.design, frame, asked) + offset for each in self.coefficients]
        with np.errstate(all="ignore"):
            found = self._probabilities(np.stack(scores, axis=1))
        return classified(self.classes, found, self.context.label, first(lacking, asked.errors))

    def _probabilities(self, scores: np.ndarray) -> np.ndarray:
        if self.link is not None:
            p = self.link[0](scores[:, 0])
            return np.stack([p, 1 - p], axis=1)
        return links.softmax(np.concatenate([scores, np.zeros((len(scores), 1))], axis=1))

    @property
    def outcome(self) -> Callable[[Record], Outcome]:
        """A closure that answers one record."""
        totals = [each.single(self.design) for each in self.coefficients]
        offset, classes, link = _checked(self.offset), self.classes, self.link

        def call(record: Record) -> Outcome:
            shift = offset(record)
            sums: list[float] = []
            for total in totals:
                x = total(record)
                if x is None:
                    return Outcome(None, classes)
                sums.append(x + shift)
            if link is not None:
                p = link[1](sums[0])
                found = [p, 1 - p]
            else:
                found = links.softmax_one([*sums, 0.0])
            return likeliest(classes, found)

        return call


def _checked(extra: Extra) -> Callable[[Record], float]:
    read, field = extra.single(), extra.field

    def call(record: Record) -> float:
        x = read(record)
        if x is None:
            assert field is not None
            raise RowError(LACKING.format(field.name))
        return x

    return call


@dataclass(frozen=True, slots=True)
class Ordinal:
    """Cumulative probabilities of ordered classes: inverse link of threshold plus predictor."""

    design: Design
    classes: tuple[Value, ...]
    thresholds: tuple[float, ...]
    shared: Coefficients
    link: links.Link
    offset: Extra
    context: Context

    def predict(self, frame: Frame) -> Prediction:
        asked = Asked()
        total = self.shared.column(self.design, frame, asked)
        offset, lacking = self.offset.column(frame)
        with np.errstate(all="ignore"):
            scores = (total + offset)[:, None] + np.array(self.thresholds)
            heaped = self.link[0](scores)
        heaped = np.concatenate([heaped, np.ones((frame.rows, 1))], axis=1)
        heaped[np.isnan(total)] = np.nan
        found = np.diff(heaped, axis=1, prepend=0.0)
        found[np.isnan(total)] = np.nan
        return classified(self.classes, found, self.context.label, first(asked.errors, lacking))

    @property
    def outcome(self) -> Callable[[Record], Outcome]:
        """A closure that answers one record."""
        total, offset = self.shared.single(self.design), _checked(self.offset)
        classes, thresholds, inverse = self.classes, self.thresholds, self.link[1]

        def call(record: Record) -> Outcome:
            shift, x = offset(record), total(record)
            if x is None:
                return Outcome(None, classes)
            heaped = [0.0, *(inverse(x + shift + each) for each in thresholds), 1.0]
            found = [after - before for before, after in pairwise(heaped)]
            return likeliest(classes, found)

        return call


def compile_model(context: Context) -> Model:
    """Compile a GeneralRegressionModel."""
    element, scope = context.element, context.scope
    kind = element.choice("modelType", _TYPES)
    design = read_design(element, scope)
    cells = element.need_child("ParamMatrix").all("PCell")
    offset = Extra.of(element, "offset", 0.0, scope)
    if kind == "CoxRegression":
        return read_cox(context, design, Coefficients.of(cells))
    if kind == "ordinalMultinomial":
        return _ordinal(context, design, cells, offset)
    if kind == "multinomialLogistic" or context.is_classification:
        return _classification(context, design, cells, offset, kind)
    default = "logit" if kind == "generalizedLinear" and context.is_classification else "identity"
    if kind in ("regression", "generalLinear"):
        # The offset is of generalized linear models alone.
        link, offset = links.INVERSE["identity"], Extra(None, 0.0, scope)
    else:
        link = _link(element, default)
    trials = Extra.of(element, "trials", 1.0, scope)
    return Regression(design, Coefficients.of(cells), link, offset, trials)


def _classification(
    context: Context, design: Design, cells: list[Element], offset: Extra, kind: str
) -> Classification:
    element = context.element
    by_class: dict[str | None, list[Element]] = {}
    for each in cells:
        by_class.setdefault(each.get("targetCategory"), []).append(each)
    shared = by_class.pop(None, [])
    named = {context.parse_label(t, element): c for t, c in by_class.items() if t is not None}
    reference = element.get("targetReferenceCategory")
    rest = [each for each in context.labels if each not in named]
    if not named:
        # Coefficients of no class are of the one that is not the reference.
        last = context.parse_label(reference, element) if reference else None
        chosen = [each for each in context.labels if each != last]
        if last is None or len(chosen) != 1:
            chosen, last = list(context.labels[:1]), (*context.labels, None)[1]
        named = {chosen[0]: []} if chosen else {}
        rest = [last]
    if reference is not None:
        rest = [context.parse_label(reference, element)]
    if len(rest) != 1 or not named or rest[0] is None:
        raise element.error("does not say which class is the reference")
    coefficients = tuple(Coefficients.of([*cells, *shared]) for cells in named.values())
    classes = (*named, rest[0])
    link: links.Link | None = None
    if kind != "multinomialLogistic":
        if len(named) != 1:
            raise element.error(f"has {len(named) + 1} classes; {kind} has two")
        link = _link(element, "logit")
    return Classification(design, classes, coefficients, link, offset, context)


def _ordinal(context: Context, design: Design, cells: list[Element], offset: Extra) -> Ordinal:
    element = context.element
    thresholds: dict[Value, float] = {}
    shared: list[Element] = []
    for each in cells:
        text = each.get("targetCategory")
        if text is None:
            shared.append(each)
        else:
            label = context.parse_label(text, each)
            thresholds[label] = thresholds.get(label, 0.0) + each.number("beta")
    classes = context.labels or (*thresholds, None)
    order = [each for each in classes if each in thresholds]
    rest = [each for each in classes if each not in thresholds]
    if len(rest) != 1:
        raise element.error("needs a threshold for each class but the last")
    link = element.get("cumulativeLink") or "logit"
    if link not in ("logit", "probit", "cloglog", "loglog", "cauchit"):
        raise element.error(f"cumulativeLink={link!r} is not supported")
    return Ordinal(
        design,
        (*order, rest[0]),
        tuple(thresholds[each] for each in order),
        Coefficients.of(shared),
        links.INVERSE[link],
        offset,
        context,
    )
