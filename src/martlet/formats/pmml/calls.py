"""Built-in functions of numbers and of text, called with expressions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from martlet.formats.pmml.column import (
    Column,
    Mask,
    Reasons,
    all_errors,
    any_missing,
    blank,
    first,
    of_objects,
    reasons,
)
from martlet.formats.pmml.expressions import (
    ConstantValue,
    Expression,
    distinct,
)
from martlet.formats.pmml.frame import Frame, Record, RowError, Single
from martlet.formats.pmml.functions import Fold, Numeric, held
from martlet.formats.pmml.text_functions import Pointwise
from martlet.formats.pmml.values import (
    DOUBLE,
    STRING,
    DataType,
    Value,
    convert,
    text_of,
)


@dataclass(frozen=True, slots=True)
class NumericCall:
    """
    A function of numbers.

    Args:
        undefined: What a result that is undefined becomes, as ``invalidValueTreatment`` says:
            a failure of the row, NaN (``asIs``), or nothing (``asMissing``).
    """

    name: str
    function: Numeric
    arguments: tuple[Expression, ...]
    type: DataType
    undefined: str = "returnInvalid"

    def column(self, frame: Frame) -> Column:
        sources = [each.column(frame) for each in self.arguments]
        arrays = [each.values for each in sources]
        if self.function.widen:
            arrays = [a.astype(self.type.numpy, copy=False) for a in arrays]
        with np.errstate(all="ignore"):
            values = self.function.vector(*arrays)
        missing = any_missing(sources)
        errors = all_errors(sources)
        if not self.function.lenient:
            errors = first(errors, lacking(self.name, missing))
        found = Column(self.type, values, missing, errors)
        if values.dtype.kind == "f" and self.undefined != "asIs":
            bad = np.isnan(values)
            if self.type.numpy is np.int64:
                bad |= ~(np.abs(values) < 2.0**63)
            if bad.any():
                if missing is not None:
                    bad &= ~missing
                if self.undefined == "asMissing":
                    found = blank(found, bad)
                else:
                    found = found.with_errors(reasons(bad, self._reason(arrays)))
                if self.type.numpy is np.int64:
                    values = np.where(bad, 0, values)
        if values.dtype != self.type.numpy:
            with np.errstate(all="ignore"):
                values = values.astype(self.type.numpy)
        return replace(found, values=values)

    def _reason(self, arrays: list[np.ndarray]) -> Callable[[int], str]:
        def why(row: int) -> str:
            return f"{self.name} is undefined for {', '.join(str(a[row]) for a in arrays)}"

        return why

    def single(self) -> Single:
        name, call = self.name, held(self.function.scalar, self.type)
        if self.undefined != "returnInvalid":
            call = _undefined_as(math.nan if self.undefined == "asIs" else None, call)
        lenient = self.function.lenient
        reads = [each.single() for each in self.arguments]
        if self.type is DOUBLE and name in "+-*/" and self.undefined == "returnInvalid":
            by = self._by_constant(reads[0])
            if by is not None:
                return by
            if name != "/":
                return _arithmetic(name, reads)
        if len(reads) == 1:
            (read,) = reads

            def one(record: Record) -> Value:
                x = read(record)
                if x is None:
                    raise RowError(LACKING.format(name))
                try:
                    return call(x)
                except RowError as exc:
                    raise RowError(f"{name} {exc}") from None

            return one

        def many(record: Record) -> Value:
            values = [read(record) for read in reads]
            if None in values:
                if lenient:
                    return None
                raise RowError(LACKING.format(name))
            try:
                return call(*values)
            except RowError as exc:
                raise RowError(f"{name} {exc}") from None

        return many

    def _by_constant(self, read: Single) -> Single | None:
        """Return the closure of a double and a constant: only NaN leaves it undefined."""
        number, constant = self.arguments
        if not isinstance(constant, ConstantValue) or not isinstance(constant.value, int | float):
            return None
        c, name = float(constant.value), self.name
        if number.type is not DOUBLE or not math.isfinite(c) or (name in "*/" and c == 0):
            return None

        def odd(x: float | None) -> None:
            if x is not None:
                raise RowError(f"{name} is undefined for {x}, {c}")

        def add(record: Record) -> Value:
            x = read(record)
            return odd(x) if x is None or x != x else x + c

        def subtract(record: Record) -> Value:
            x = read(record)
            return odd(x) if x is None or x != x else x - c

        def multiply(record: Record) -> Value:
            x = read(record)
            return odd(x) if x is None or x != x else x * c

        def divide(record: Record) -> Value:
            x = read(record)
            return odd(x) if x is None or x != x else x / c

        return {"+": add, "-": subtract, "*": multiply, "/": divide}[name]


def _undefined_as(stand_in: Value, call: Callable[..., Value]) -> Callable[..., Value]:
    def tried(*values: Value) -> Value:
        try:
            return call(*values)
        except RowError:
            return stand_in

    return tried


LACKING = "{} has a missing argument"
UNDEFINED = "{} has an argument that is undefined"


def lacking(name: str, missing: Mask | None) -> Reasons | None:
    """Return why the rows of *missing* have no answer: *name* needs all its arguments."""
    return None if missing is None else reasons(missing, LACKING.format(name))


def _arithmetic(name: str, reads: list[Single]) -> Single:
    """Return a double's sum, difference or product: only infinities can leave it undefined."""
    one, other = reads

    def told(found: float, a: float, b: float) -> float:
        if found != found:
            raise RowError(f"{name} is undefined for {a}, {b}")
        return float(found)

    def add(record: Record) -> Value:
        a, b = one(record), other(record)
        return None if a is None or b is None else told(a + b, a, b)

    def subtract(record: Record) -> Value:
        a, b = one(record), other(record)
        return None if a is None or b is None else told(a - b, a, b)

    def multiply(record: Record) -> Value:
        a, b = one(record), other(record)
        return None if a is None or b is None else told(a * b, a, b)

    return {"+": add, "-": subtract, "*": multiply}[name]


@dataclass(frozen=True, slots=True)
class FoldCall:
    """
    A function of any number of numbers that leaves out the missing ones.

    Args:
        undefined: As of :class:`NumericCall`.
    """

    name: str
    function: Fold
    arguments: tuple[Expression, ...]
    type: DataType
    undefined: str = "returnInvalid"

    def column(self, frame: Frame) -> Column:
        sources = [each.column(frame) for each in self.arguments]
        if any(_is_collection(each) for each in sources):
            return self._of_collections(sources)
        table = np.stack([each.cast(DOUBLE).floats() for each in sources])
        nothing = np.isnan(table)
        gone: Mask = np.asarray(nothing.all(axis=0))
        bad: Mask | None = None
        if nothing.any():
            table[:, gone] = 0.0
            known = np.stack([each.known() for each in sources])
            # A NaN that is known is undefined: its argument's Apply takes it as it is.
            bad = np.asarray((nothing & known).any(axis=0))
            if not self.function.spoiled:
                bad = bad & gone
            gone = np.asarray(~known.any(axis=0))
        with np.errstate(all="ignore"):
            values = self.function.vector(table).astype(self.type.numpy)
        missing: Mask | None = gone if gone.any() else None
        found = Column(self.type, values, missing, all_errors(sources))
        return found if bad is None or not bad.any() else self._treated(found, bad)

    def _treated(self, found: Column, bad: Mask) -> Column:
        """Return what is *found* with the *bad* rows, which are undefined, treated."""
        match self.undefined:
            case "asIs" if found.values.dtype.kind == "f":
                return replace(found, values=np.where(bad, np.nan, found.values))
            case "asMissing":
                return blank(found, bad)
            case _:
                return found.with_errors(reasons(bad, UNDEFINED.format(self.name)))

    def _of_collections(self, sources: list[Column]) -> Column:
        rows = [flat(row) for row in zip(*(each.objects() for each in sources), strict=True)]
        found = [self.function.scalar(row) if row else None for row in rows]
        return of_objects(found, self.type).with_errors(all_errors(sources))

    def single(self) -> Single:
        reads = [each.single() for each in self.arguments]
        call, kind, name, undefined = self.function.scalar, self.type, self.name, self.undefined
        spoiled = self.function.spoiled

        def fold(record: Record) -> Value:
            values = [v for v in [read(record) for read in reads] if v is not None]
            if any(isinstance(v, tuple) for v in values):
                values = flat(values)
            if any(v != v for v in values):
                left = [v for v in values if v == v]
                if spoiled or not left:
                    if undefined == "returnInvalid":
                        raise RowError(UNDEFINED.format(name))
                    return None if undefined == "asMissing" else math.nan
                values = left
            return convert(call(values), kind) if values else None

        return fold


def _is_collection(column: Column) -> bool:
    return column.levels is not None and any(isinstance(v, tuple) for v in column.levels[:1])


def flat(values: object) -> list[Value]:
    """Return the numbers in *values*, collections opened, the missing left out."""
    found: list[Value] = []
    for each in values:  # type: ignore[attr-defined] # any iterable of values and tuples
        found.extend(each if isinstance(each, tuple) else [each])
    return [each for each in found if each is not None]


@dataclass(frozen=True, slots=True)
class PointwiseCall:
    """A function of plain values, computed once for each distinct combination in a column."""

    name: str
    function: Pointwise
    arguments: tuple[Expression, ...]

    @property
    def type(self) -> DataType:
        return self.function.result

    def column(self, frame: Frame) -> Column:
        sources = [each.column(frame) for each in self.arguments]
        missing = any_missing(sources)
        keys, codes = distinct(sources)
        found: list[Value] = []
        refused: dict[int, str] = {}
        for number, key in enumerate(keys):
            try:
                found.append(None if None in key else self._call(key))
            except RowError as exc:
                found.append(None)
                refused[number] = str(exc)
        column = of_objects(found, self.type).take(codes)
        if missing is not None:
            column = blank(column, missing)
        errors = first(all_errors(sources), lacking(self.name, missing))
        if refused:
            bad = np.isin(codes, list(refused))
            if missing is not None:
                bad &= ~missing
            errors = all_errors(
                [column.with_errors(errors), column.with_errors(self._why(bad, codes, refused))]
            )
        return column.with_errors(errors)

    @staticmethod
    def _why(bad: Mask, codes: np.ndarray, refused: dict[int, str]) -> np.ndarray | None:
        return reasons(bad, lambda row: refused[int(codes[row])])

    def _call(self, key: tuple[Value, ...]) -> Value:
        try:
            return self.function.scalar(*key)
        except (ValueError, OverflowError) as exc:
            raise RowError(f"{self.name}: {exc}") from None

    def single(self) -> Single:
        reads = [each.single() for each in self.arguments]
        name, call = self.name, self._call

        def pointwise(record: Record) -> Value:
            key = tuple([read(record) for read in reads])
            if None in key:
                raise RowError(LACKING.format(name))
            return call(key)

        return pointwise


@dataclass(frozen=True, slots=True)
class Concat:
    """The texts of the arguments, one after the other; the missing left out."""

    arguments: tuple[Expression, ...]
    type: DataType = STRING

    def column(self, frame: Frame) -> Column:
        sources = [each.column(frame).cast(STRING) for each in self.arguments]
        keys, codes = distinct(sources)
        joined = ["".join(part for part in key if part is not None) for key in keys]
        return of_objects(joined, STRING).take(codes).with_errors(all_errors(sources))

    def single(self) -> Single:
        reads = [(each.single(), each.type) for each in self.arguments]

        def concat(record: Record) -> Value:
            values = [(read(record), kind) for read, kind in reads]
            return "".join(text_of(v, kind) for v, kind in values if v is not None)

        return concat
