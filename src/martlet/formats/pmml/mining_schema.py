"""The MiningSchema: which fields a model takes, and what it does with the values that are odd.

In this order: invalid values, then outliers among the valid ones, then missing ones.

Source: PMML 4.4.1, MiningSchema.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.formats.pmml.column import (
    Column,
    Mask,
    blank,
    fill,
    reasons,
)
from martlet.formats.pmml.dictionary import BAD, DataField
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.frame import Frame, Record, RowError, Single
from martlet.formats.pmml.scope import Field, Scope
from martlet.formats.pmml.values import DOUBLE, FLOAT, DataType, Value, parse, text_of

_USAGES = (
    "active",
    "target",
    "predicted",
    "supplementary",
    "group",
    "order",
    "frequencyWeight",
    "analysisWeight",
)
_INVALID = ("returnInvalid", "asIs", "asMissing", "asValue")
_OUTLIERS = ("asIs", "asMissingValues", "asExtremeValues")


@dataclass(frozen=True, slots=True)
class MiningField:
    """
    One line of a MiningSchema.

    Args:
        invalid: ``invalidValueTreatment`` as written; None where it is not.
        invalid_value, missing_value: The replacements, of the field's type.
    """

    name: str
    usage: str
    optype: str | None
    outliers: str
    low: float | None
    high: float | None
    invalid: str | None
    invalid_value: Value
    missing_value: Value
    refuse_missing: bool

    @classmethod
    def of(cls, element: Element, field: DataField | Field | None) -> MiningField:
        """Read a MiningField whose values are *field*'s (None: nobody says of what type)."""

        def value(name: str) -> Value:
            text = element.get(name)
            if text is None or field is None:
                return text
            try:
                return parse(text, field.type)
            except ValueError as exc:
                raise element.error(f"has a malformed {name}: {exc}") from None

        def margin(name: str) -> float | None:
            return element.number(name) if element.get(name) is not None else None

        treatment = element.get("invalidValueTreatment")
        if treatment is not None:
            element.choice("invalidValueTreatment", _INVALID)
        return cls(
            element.need("name"),
            element.choice("usageType", _USAGES, "active"),
            element.get("optype"),
            element.choice("outliers", _OUTLIERS, "asIs"),
            margin("lowValue"),
            margin("highValue"),
            treatment,
            value("invalidValueReplacement"),
            value("missingValueReplacement"),
            element.get("missingValueTreatment") == "returnInvalid",
        )

    @property
    def is_target(self) -> bool:
        return self.usage in ("target", "predicted")

    @property
    def treats(self) -> bool:
        """Whether it changes any value."""
        return (
            self.outliers != "asIs"
            or self.invalid is not None
            or self.missing_value is not None
            or self.refuse_missing
        )


@dataclass(frozen=True, slots=True)
class Treatment:
    """
    What a model makes of one field's values.

    Args:
        kind: The values' type.
        data: The declared type and domain; None for a field that the file computes.
        strict: Whether a value outside the domain is refused where the schema says nothing.
    """

    mining: MiningField
    kind: DataType
    data: DataField | None
    strict: bool

    @property
    def on_invalid(self) -> str:
        """What an invalid value becomes."""
        given = self.mining.invalid or ("returnInvalid" if self.strict else "asIs")
        if given == "asValue" and self.mining.invalid_value is None:
            return "asIs"
        return given

    def apply(self, column: Column, bad: Mask | None, raw: NDArray[Any] | None) -> Column:
        """
        Return the treated *column*.

        Args:
            bad: Where the value is not of the field's type.
            raw: What came, for the reason of a refused value.
        """
        mining, refused = self.mining, None
        if mining.refuse_missing and column.missing is not None:
            refused = reasons(column.missing, f"field {mining.name!r} is missing")
        wrong = self._where_wrong(column, bad)
        column = self._outliers(column, wrong)
        column = self._invalid(column, wrong, bad, raw)
        if mining.missing_value is not None and column.missing is not None:
            column = fill(column, column.missing, mining.missing_value)
        return column.with_errors(refused)

    def _where_wrong(self, column: Column, bad: Mask | None) -> Mask | None:
        """Return where *column* is invalid or of the wrong type (*bad*); None: nowhere."""
        wrong = self.data.where_invalid(column) if self.data is not None else None
        if bad is not None:
            wrong = bad if wrong is None else wrong | bad
        return wrong if wrong is not None and wrong.any() else None

    def _outliers(self, column: Column, wrong: Mask | None) -> Column:
        mining = self.mining
        if mining.outliers == "asIs" or column.levels is not None:
            return column
        low = -np.inf if mining.low is None else mining.low
        high = np.inf if mining.high is None else mining.high
        beyond = (column.values < low) | (column.values > high)
        if wrong is not None:
            beyond &= ~wrong
        if mining.outliers == "asMissingValues":
            return blank(column, beyond)
        kept = np.clip(column.values.astype(np.float64), low, high).astype(column.values.dtype)
        return replace(column, values=np.where(beyond, kept, column.values))

    def _invalid(
        self, column: Column, wrong: Mask | None, bad: Mask | None, raw: NDArray[Any] | None
    ) -> Column:
        mining, treatment = self.mining, self.on_invalid
        if treatment == "asIs" and mining.invalid_value is None:
            wrong = bad  # what is of another type cannot stay as it is
        if wrong is None:
            return column
        if treatment == "asMissing":
            return blank(column, wrong)
        if mining.invalid_value is not None and treatment in ("asIs", "asValue"):
            return fill(column, wrong, mining.invalid_value)
        data = self.data
        assert data is not None
        shown = column.objects() if raw is None else raw.tolist()
        return column.with_errors(reasons(wrong, lambda row: refusal(data, shown[row])))

    def single_value(self, value: Value, raw: Any) -> Value:
        """Return the treated *value* of one row."""
        mining = self.mining
        if value is None:
            if mining.refuse_missing:
                raise RowError(f"field {mining.name!r} is missing")
        else:
            is_valid = value is not BAD and (self.data is None or self.data.is_valid(value))
            asis = self.on_invalid == "asIs" and mining.invalid_value is None
            if not is_valid and (value is BAD or not asis):
                value = self._wrong(raw)
            elif is_valid and mining.outliers != "asIs" and isinstance(value, int | float):
                value = self._outlier(value)
        return mining.missing_value if value is None else value

    def _outlier(self, value: float) -> Value:
        mining = self.mining
        beyond = mining.low is not None and value < mining.low
        above = mining.high is not None and value > mining.high
        if not beyond and not above:
            return value
        if mining.outliers == "asMissingValues":
            return None
        margin = mining.low if beyond else mining.high
        assert margin is not None, "what is beyond a margin has one"
        # As a column holds it: an integer's margin loses its fraction.
        return self.kind.numpy(margin).item()

    def _wrong(self, raw: Any) -> Value:
        treatment = self.on_invalid
        if treatment == "asMissing":
            return None
        if self.mining.invalid_value is not None and treatment in ("asIs", "asValue"):
            return self.mining.invalid_value
        assert self.data is not None
        raise RowError(refusal(self.data, raw))


@dataclass(frozen=True, slots=True)
class Given:
    """The origin of an input's field: what the caller gave in the slot *raw*, treated."""

    raw: int
    treatment: Treatment


@dataclass(frozen=True, slots=True)
class Inherited:
    """The origin of a field that an inner model treats anew."""

    source: Field
    treatment: Treatment


def refusal(data: DataField, raw: Any) -> str:
    """Return why *raw* is no value of *data*: which field, what came, what is allowed."""
    if isinstance(raw, bytes):
        raw = raw.decode(errors="replace")
    shown = repr(raw) if isinstance(raw, str) else text_of(raw).removesuffix(".0")
    return f"field {data.name!r} cannot be {shown}; allowed is {data.describe()}"


def input_field(data: DataField, mining: MiningField, scope: Scope, raw: int) -> Field:
    """Return the field of what the caller gives in the slot *raw*, treated."""
    treatment = Treatment(mining, data.type, data, strict=True)

    def column(frame: Frame) -> Column:
        given = frame[raw]
        found, bad = data.read(given)
        return treatment.apply(found, bad, given)

    program = scope.world.program
    slot = program.slot(column, _single(treatment, data, raw))
    program.origins[slot] = Given(raw, treatment)
    if _is_as_given(treatment, data):
        program.as_given[slot] = raw
        if data.type is DOUBLE:
            program.cheap.add(slot)
    lets_in = data.restricted and treatment.on_invalid == "asIs" and mining.invalid_value is None
    return Field(
        data.name,
        slot,
        data.type,
        mining.optype or data.optype,
        data.valid,
        data if lets_in else None,
    )


def _is_as_given(treatment: Treatment, data: DataField) -> bool:
    """Whether the field of a float is that float, missing where it is NaN."""
    mining = treatment.mining
    return (
        data.type in (DOUBLE, FLOAT)
        and not data.restricted
        and not data.missing_floats
        and mining.missing_value is None
        and not mining.refuse_missing
        and mining.outliers == "asIs"
    )


def _single(treatment: Treatment, data: DataField, raw: int) -> Single:
    read = data.single()
    plain = (
        not data.restricted
        and not treatment.mining.refuse_missing
        and treatment.mining.outliers == "asIs"
    )
    replacement = treatment.mining.missing_value
    treated = treatment.single_value

    def simple(record: Record) -> Value:
        given = record[raw]
        value = read(given)
        if value is None:
            return replacement
        return treated(value, given) if value is BAD else value

    def full(record: Record) -> Value:
        given = record[raw]
        return treated(read(given), given)

    if data.type is DOUBLE and _is_as_given(treatment, data):

        def as_given(record: Record) -> Value:
            given = record[raw]
            if type(given) is float:
                return given if given == given else None
            return full(record)

        return as_given
    # A text that is listed as valid is what it is; most are.
    listed = frozenset(data.valid) - data.missing - data.invalid if data.type.is_text else None
    if listed and treatment.mining.outliers == "asIs":

        def known(record: Record) -> Value:
            given = record[raw]
            return given if type(given) is str and given in listed else full(record)

        return known
    return simple if plain else full


def inherited_field(
    source: Field, data: DataField | None, mining: MiningField, scope: Scope
) -> Field:
    """Return a field that an inner model takes from around it: *source*, treated anew."""
    optype = mining.optype or source.optype
    if not mining.treats:
        return replace(source, optype=optype)
    treatment = Treatment(mining, source.type, data, strict=False)
    read = scope.reader(source)

    def column(frame: Frame) -> Column:
        return treatment.apply(frame[source.slot], None, None)

    def single(record: Record) -> Value:
        value = read(record)
        return treatment.single_value(value, value)

    slot = scope.world.program.slot(column, single)
    scope.world.program.origins[slot] = Inherited(source, treatment)
    return replace(source, slot=slot, optype=optype)
