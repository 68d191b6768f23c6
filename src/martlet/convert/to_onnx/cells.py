"""PMML's values as ONNX: numbers that may be missing, text that is given, text of a known list."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from martlet.convert.to_onnx.writer import ML, Graph, Value
from martlet.errors import UnsupportedModel
from martlet.formats.pmml.values import FLOAT, DataType
from martlet.tensors import DType


@dataclass(frozen=True)
class Number:
    """Numbers, NaN where missing. Shape [rows]."""

    graph: Graph
    value: Value
    kind: DataType

    def number(self) -> Number:
        return self

    def text(self) -> Value:
        raise UnsupportedModel(f"a {self.kind} that is shown as text")

    def missing(self) -> Value:
        return self.value.is_nan()

    def rounded(self) -> Number:
        """The numbers as their type holds them."""
        if self.kind != FLOAT:
            return self
        return replace(self, value=self.value.cast(DType.FLOAT32).float64())

    def blank(self, where: Value) -> Number:
        return replace(self, value=self.graph.where(where, np.nan, self.value))

    def filled(self, where: Value, value: Any) -> Number:
        return replace(self, value=self.graph.where(where, float(value), self.value))

    def refused(self, where: Value, why: str) -> Number:
        return replace(self, value=self.graph.refused(self.value, where, why))

    def looked_up(self, table: Mapping[Any, float], other: float, missing: float) -> Value:
        """Return what *table* has for each value; *other* where nothing."""
        numbers = {float(k): v for k, v in table.items() if not isinstance(k, str)}
        found: Any = other
        if numbers:
            same = self.value.as_column().equals(np.array([list(numbers)])).float64()
            values = (same @ np.array([list(numbers.values())], np.float64).T).column(0)
            found = self.graph.where(same.reduce("ReduceMax") > 0.5, values, other)
        return self.graph.where(self.missing(), missing, found)


@dataclass(frozen=True)
class Text:
    """Text that the caller gives. Shape [rows]."""

    graph: Graph
    value: Value
    gone: Value

    def number(self) -> Number:
        raise UnsupportedModel("text that is used as a number")

    def text(self) -> Value:
        return self.graph.refused(self.value, self.gone, "a text is missing")

    def missing(self) -> Value:
        return self.gone

    def blank(self, where: Value) -> Text:
        return replace(self, gone=self.gone | where)

    def filled(self, where: Value, value: Any) -> Text:
        instead = self.graph.constant(np.array([str(value)], object))
        return replace(
            self, value=self.graph.where(where, instead, self.value), gone=self.gone & ~where
        )

    def refused(self, where: Value, why: str) -> Text:
        return replace(self, value=self.graph.refused(self.value, where, why))

    def looked_up(self, table: Mapping[Any, float], other: float, missing: float) -> Value:
        """Return what *table* has for each text; *other* where nothing."""
        texts = {str(k): v for k, v in table.items()}
        found: Any = other
        if texts:
            place = self.graph.call(
                "LabelEncoder", self.value, domain=ML, keys_strings=list(texts),
                values_int64s=list(range(len(texts))), default_int64=len(texts),
            )  # fmt: skip
            values = np.array([*texts.values(), other], np.float64)
            found = self.graph.call("Gather", values, place, axis=0)
        return self.graph.where(self.gone, missing, found)


@dataclass(frozen=True)
class Coded:
    """Text of a known list, by its place in it; None in the list is missing. Shape [rows]."""

    graph: Graph
    code: Value
    levels: Sequence[str | None]

    def number(self) -> Number:
        raise UnsupportedModel("text that is used as a number")

    def text(self) -> Value:
        shown = np.array([level or "" for level in self.levels], object)
        found = self.graph.call("Gather", shown, self.code, axis=0)
        if None not in self.levels:
            return found
        return self.graph.refused(found, self.missing(), "a text is missing")

    def missing(self) -> Value:
        return self._gathered([float(level is None) for level in self.levels]) > 0.5

    def blank(self, where: Value) -> Coded:
        return self._put(where, None)

    def filled(self, where: Value, value: Any) -> Coded:
        return self._put(where, str(value))

    def _put(self, where: Value, level: str | None) -> Coded:
        levels = [*self.levels, level]
        place = self.graph.constant(np.array(len(self.levels), np.int64))
        return replace(self, code=self.graph.where(where, place, self.code), levels=levels)

    def refused(self, where: Value, why: str) -> Coded:
        return replace(self, code=self.graph.refused(self.code, where, why))

    def looked_up(self, table: Mapping[Any, float], other: float, missing: float) -> Value:
        """Return what *table* has for each text; *other* where nothing."""
        return self._gathered(
            [missing if level is None else table.get(level, other) for level in self.levels]
        )

    def parsed(self, parse: Callable[[str], float], kind: DataType) -> Number:
        """
        Return the numbers that the texts write.

        Raises:
            UnsupportedModel: one writes none.
        """
        try:
            numbers = [np.nan if level is None else parse(level) for level in self.levels]
        except (ValueError, TypeError) as exc:
            raise UnsupportedModel(f"a text that is no {kind}: {exc}") from None
        return Number(self.graph, self._gathered(numbers), kind)

    def _gathered(self, values: Sequence[float]) -> Value:
        return self.graph.call("Gather", np.array(values, np.float64), self.code, axis=0)


Cell = Number | Text | Coded
