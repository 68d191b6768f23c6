"""Comparison measures: how far, or how alike, records are. Source: PMML 4.4.1, Clustering."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from martlet.formats.pmml.document import Element

Array = np.ndarray
_BINARY = ("simpleMatching", "jaccard", "tanimoto", "binarySimilarity")
_COMPARE = ("absDiff", "gaussSim", "delta", "equal")


@dataclass(frozen=True, slots=True)
class Compared:
    """How one field's values compare: function, weight, and the scale of gaussSim."""

    function: str
    weight: float
    scale: float

    def __call__(self, x: Array, y: Array) -> Array:
        """Return the comparison of *x* and *y*, broadcast against each other."""
        match self.function:
            case "absDiff":
                return np.asarray(np.abs(x - y))
            case "gaussSim":
                return np.asarray(np.exp(-np.log(2) * (x - y) ** 2 / self.scale**2))
            case "delta":
                return np.asarray(np.where(np.isnan(x) | np.isnan(y), np.nan, x != y), dtype=float)
            case _:
                return np.asarray(np.where(np.isnan(x) | np.isnan(y), np.nan, x == y), dtype=float)


@dataclass(frozen=True, slots=True)
class Measure:
    """
    One ComparisonMeasure.

    Args:
        nearest_first: Whether small is alike: a distance.
    """

    name: str
    nearest_first: bool
    exponent: float
    binary: tuple[float, ...]
    function: str

    @classmethod
    def of(cls, element: Element) -> Measure:
        """Read a ComparisonMeasure."""
        # Which of the two it is, its name says too: a file that says otherwise is mistaken.
        element.choice("kind", ("distance", "similarity"), "distance")
        found = element.need_child(
            "euclidean",
            "squaredEuclidean",
            "cityBlock",
            "chebychev",
            "minkowski",
            *_BINARY,
        )
        binary: tuple[float, ...] = ()
        if found.tag == "binarySimilarity":
            names = ("c11", "c10", "c01", "c00", "d11", "d10", "d01", "d00")
            binary = tuple(found.number(f"{name}-parameter") for name in names)
        exponent = found.number("p-parameter") if found.tag == "minkowski" else 2.0
        function = element.choice("compareFunction", (*_COMPARE, "table"), "absDiff")
        return cls(found.tag, found.tag not in _BINARY, exponent, binary, function)

    @property
    def is_binary(self) -> bool:
        """Whether it counts zeros and ones rather than measure."""
        return self.name in _BINARY

    @property
    def undefined(self) -> str:
        """Why a row has no answer of which :meth:`uncounted` says so."""
        return f"{self.name} divides by a count of 0"

    def uncounted(self, found: Array) -> Array:
        """Return the rows that share nothing to count with some point, as *found* says."""
        if not self.is_binary:
            return np.zeros(len(found), dtype=bool)
        return np.asarray(~np.isfinite(found).all(axis=1))

    def compared(self, element: Element) -> Compared:
        """Read how the field of *element* (a ClusteringField or KNNInput) compares."""
        function = element.get("compareFunction") or self.function
        if function not in _COMPARE:
            raise element.error(f"compareFunction={function!r} is not supported")
        return Compared(
            function, element.number("fieldWeight", 1.0), element.number("similarityScale", 1.0)
        )

    def whole(self, total: Array) -> Array:
        """Return the measure whose parts add up to *total*."""
        match self.name:
            case "euclidean":
                return np.asarray(np.sqrt(total))
            case "minkowski":
                return np.asarray(total ** (1 / self.exponent))
            case _:
                return total

    def part(self, gap: Array, weight: Array | float) -> Array:
        """Return what a field's comparison, *gap*, adds to the measure."""
        match self.name:
            case "euclidean" | "squaredEuclidean":
                return np.asarray(weight * gap**2)
            case "minkowski":
                return np.asarray(weight * gap**self.exponent)
            case _:
                return np.asarray(weight * gap)

    def counted(self, x: Array, points: Array) -> Array:
        """Return the measure by how often both are 1 (a11), one (a10, a01), neither (a00)."""
        mine, theirs = x[:, None, :] == 1, points[None] == 1
        a11 = (mine & theirs).sum(axis=2).astype(float)
        a10 = (mine & ~theirs).sum(axis=2).astype(float)
        a01 = (~mine & theirs).sum(axis=2).astype(float)
        a00 = (~mine & ~theirs).sum(axis=2).astype(float)
        with np.errstate(all="ignore"):
            return np.asarray(_SIMILARITIES[self.name](a11, a10, a01, a00, self.binary))


_SIMILARITIES: dict[str, Callable[..., Array]] = {
    "simpleMatching": lambda a, b, c, d, _: (a + d) / (a + b + c + d),
    "jaccard": lambda a, b, c, d, _: a / (a + b + c),
    "tanimoto": lambda a, b, c, d, _: (a + d) / (a + 2 * (b + c) + d),
    "binarySimilarity": lambda a, b, c, d, p: (
        (p[0] * a + p[1] * b + p[2] * c + p[3] * d) / (p[4] * a + p[5] * b + p[6] * c + p[7] * d)
    ),
}


@dataclass(frozen=True, slots=True)
class Points:
    """
    What rows are compared with: centres, or training instances.

    Args:
        fields: How each field compares.
        points: Shape [points, fields]; NaN where one lacks a field's value.
    """

    measure: Measure
    fields: tuple[Compared, ...]
    points: Array

    def __call__(self, x: Array, adjust: Array | None) -> Array:
        """
        Return each row's measure to each point.

        Args:
            x: Shape [rows, fields]; NaN where missing.
            adjust: What to multiply the sums of a row by, for its missing fields. Shape [rows].
        """
        measure = self.measure
        if measure.is_binary:
            return measure.counted(x, self.points)
        total = np.zeros((len(x), len(self.points)))
        for place, field in enumerate(self.fields):
            gap = field(x[:, [place]], self.points[None, :, place])
            part = measure.part(gap, field.weight)
            # A field that a row lacks takes no part in its sum.
            part = np.where(np.isnan(part), 0.0, part)
            total = np.maximum(total, part) if measure.name == "chebychev" else total + part
        if adjust is not None:
            with np.errstate(invalid="ignore"):
                total = total * adjust[:, None]
        return measure.whole(total)

    def single(self) -> Callable[[list[float], float | None], Array]:
        """Return a closure that measures one row: its values, and its adjustment or None."""
        measure, fields = self.measure, self.fields
        alike = len({(each.function, each.scale) for each in fields}) == 1
        if measure.is_binary or not alike:

            def anyhow(values: list[float], adjust: float | None) -> Array:
                found = self(np.array([values]), None if adjust is None else np.array([adjust]))
                return np.asarray(found[0])

            return anyhow
        compare, columns = fields[0], np.ascontiguousarray(self.points.T)
        weights = np.array([[each.weight] for each in fields])
        join = np.maximum.reduce if measure.name == "chebychev" else np.add.reduce
        has_holes = bool(np.isnan(columns).any())

        def at_once(values: list[float], adjust: float | None) -> Array:
            part = measure.part(compare(np.array(values)[:, None], columns), weights)
            if has_holes or adjust is not None:
                part = np.where(np.isnan(part), 0.0, part)
            # By columns: added up in the order in which a batch adds.
            total = join(part, axis=0)
            return measure.whole(total if adjust is None else total * adjust)

        return at_once
