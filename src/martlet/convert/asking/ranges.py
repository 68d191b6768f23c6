"""What values the inputs of a model may hold, found by running it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from martlet.convert.asking.constants import Constants
from martlet.errors import MartletError, UnsupportedModel
from martlet.servable import DEFAULT_SIGNATURE, Servable, signature_of
from martlet.tensors import DType, Signature, Spec, Tensor, Tensors

_INNER = (1, 5, 2, 8, 32)
"""Sizes tried for the free axes after the first (lengths of a sequence)."""
_LENGTHS, _LONGEST = 16, 512
"""How many more sizes, of those that the file names, are tried; and the largest of them."""
_NARROW = 16
"""If two inputs declare no shape, all widths of both up to this one are tried."""
_USUAL = 10
"""Numbers nearer to zero are drawn anyway."""
_SHAPELESS = 6
"""With so many inputs without a shape, or fewer, each combination of them is tried."""
_SLOW_S = 1.0
"""If one row takes longer, the input is a size, not an id: no larger number is tried."""


@dataclass(frozen=True, slots=True)
class Range:
    """
    What one input may hold.

    Args:
        low, high: The least and greatest whole number that the model answers; None where it
            answers whatever the dtype holds, and for floats and text.
        nan: Whether the model answers NaN (floats), or a missing value (text).
        values: Values seen in logged rows, or words found in the file. May be empty.
        named: Numbers that the file names and the input may hold: keys, thresholds.
        declared: Whether the model itself declares that it refuses other values.
    """

    low: int | None = None
    high: int | None = None
    nan: bool = False
    values: tuple[object, ...] = ()
    named: tuple[int | float, ...] = ()
    declared: bool = False

    def __str__(self) -> str:
        if self.low is None and self.high is None:
            return "any"
        low = "lowest" if self.low is None else self.low
        return f"{low} to {'highest' if self.high is None else self.high}"


@dataclass(frozen=True, slots=True)
class Domain:
    """
    What a signature may be asked.

    Args:
        name: The signature's.
        signature: Its inputs and outputs.
        inner: The size given to free axes after the first.
        base: One row that the model answers.
        ranges: By input.
    """

    name: str
    signature: Signature
    inner: int
    base: Tensors
    ranges: Mapping[str, Range] = field(default_factory=dict)

    def shape(self, spec: Spec, rows: int) -> tuple[int, ...]:
        """Return the shape of *rows* rows of *spec*; where it declares none, as a row it took."""
        if spec.shape is None and spec.name in self.base:
            return (rows, *self.base[spec.name].shape[1:])
        return shape_of(spec, rows, self.inner)


def shape_of(spec: Spec, rows: int, inner: int) -> tuple[int, ...]:
    """Return the shape of *rows* rows, a free inner axis having *inner* elements."""
    sizes = (-1,) if spec.shape is None else spec.shape
    return tuple(
        size if size != -1 else rows if axis == 0 else inner for axis, size in enumerate(sizes)
    )


def domain_of(
    servable: Servable,
    name: str = "",
    *,
    constants: Constants = Constants(),
    logged: Tensors | None = None,
) -> Domain:
    """
    Return what the signature *name* of *servable* may be asked, found by asking it.

    Args:
        name: Of the signature; "" for the default one.
        constants: What the file names.
        logged: Real rows, if there are any: their values are realistic by definition.

    Raises:
        UnsupportedModel: it takes no rows, or no row that was tried is answered; says what the
            model said.
    """
    name = name or default_signature(servable)
    signature = signature_of(servable, name)
    for spec in signature.inputs.values():
        if spec.required and spec.shape and spec.shape[0] != -1:
            raise UnsupportedModel(f"the first axis of {spec.name!r} ({spec}) is not that of rows")
    inner, base = _base(servable, name, signature, constants, logged)
    ranges = {
        spec.name: _range(servable, name, spec, base, constants, logged)
        for spec in signature.inputs.values()
        if spec.name in base
    }
    return Domain(name, signature, inner, base, ranges)


def default_signature(servable: Servable) -> str:
    """Return the signature that a caller who names none means."""
    names = [n for n, signature in servable.signatures.items() if signature.inputs]
    if not names:
        raise UnsupportedModel("the model has no signature with inputs")
    return DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in names else names[0]


def answers(servable: Servable, name: str, inputs: Tensors) -> dict[str, Tensor] | None:
    """Return what *servable* answers, or None where it refuses."""
    try:
        return servable.predict(dict(inputs), name)
    except MartletError:
        return None


def _base(
    servable: Servable,
    name: str,
    signature: Signature,
    constants: Constants,
    logged: Tensors | None,
) -> tuple[int, Tensors]:
    """Return an inner size and one row that the model answers; if possible, also three of it."""
    refusal: MartletError | None = None
    alone: tuple[int, Tensors] | None = None
    for inner, row in _candidates(signature, constants, declared_values(servable), logged):
        try:
            servable.predict(row, name)
        except MartletError as exc:
            refusal = refusal or exc
        else:
            # One row may be broadcast to any size; three may not, so try three.
            if _is_answered_by_row(servable, name, row):
                return inner, row
            alone = alone or (inner, row)
    if alone is not None:
        return alone
    raise UnsupportedModel(
        f"the model answers none of the rows that were tried ({refusal}); give real rows with "
        "--rows FILE"
    ) from refusal


def _is_answered_by_row(servable: Servable, name: str, row: Tensors) -> bool:
    found = answers(
        servable, name, {n: np.repeat(v, 3, 0) if v.ndim else v for n, v in row.items()}
    )
    return found is not None and any(each.ndim and len(each) == 3 for each in found.values())


def _candidates(
    signature: Signature,
    constants: Constants,
    known: Mapping[str, Sequence[Any]],
    logged: Tensors | None,
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    if logged:
        inner = next((v.shape[1] for v in logged.values() if v.ndim > 1), 1)
        for at in range(min(8, min(map(len, logged.values())))):
            yield inner, {each: value[at : at + 1] for each, value in logged.items()}
    texts = ["", *constants.words[:1], "0", "a"]
    # Optional inputs are left out, unless all are optional.
    every = list(signature.inputs.values())
    specs = [spec for spec in every if spec.required] or every
    free = any(-1 in (spec.shape or ())[1:] for spec in specs)
    has_text = any(spec.dtype is DType.STRING for spec in specs)
    lengths = [int(n) for n in constants.numbers if n == int(n) and 1 < n <= _LONGEST]
    inners = list(dict.fromkeys((*_INNER, *lengths[:_LENGTHS])))
    for widths, inner, text, number in product(
        _widths([spec.name for spec in specs if spec.shape is None], inners),
        inners if free else (1,),
        texts if has_text else ("",),
        (1, 0),
    ):
        row = {
            spec.name: filled(
                spec,
                known.get(spec.name, [text if spec.dtype is DType.STRING else number])[0],
                1,
                inner,
            )
            for spec in specs
        }
        for each, width in widths.items():
            row[each] = np.repeat(row[each][:, None], width, axis=1)
        yield inner, row


def _widths(names: Sequence[str], inners: Sequence[int]) -> Iterator[dict[str, int]]:
    """
    Give ways in which inputs that declare no shape may be rows of several numbers, by their widths.

    An input that is left out takes one number a row. All are alike first; then all ways are tried
    as far as that is some thousands.
    """
    yield {}
    for width in inners:
        yield dict.fromkeys(names, width)
    if not 1 < len(names) <= _SHAPELESS:
        return
    for some in range(1, 1 << len(names)):
        wide = [name for at, name in enumerate(names) if some >> at & 1]
        # Longer histories first: with one of a single item a model shows little.
        for width in (*inners[1:], *inners[:1]):
            yield dict.fromkeys(wide, width)
    each = dict.fromkeys((*range(_NARROW + 1), *inners))
    for widths in product(each, repeat=2) if len(names) == 2 else ():
        yield {name: width for name, width in zip(names, widths, strict=True) if width}


def declared_values(servable: Servable) -> Mapping[str, Sequence[Any]]:
    """Return values that *servable* itself says its inputs may hold; no list is empty."""
    found: Mapping[str, Sequence[Any]] = getattr(servable, "vocabularies", {})
    return {name: values for name, values in found.items() if len(values)}


def filled(spec: Spec, value: object, rows: int, inner: int) -> Tensor:
    """Return an array that fits *spec* and holds nothing but *value*."""
    found: Tensor = np.full(shape_of(spec, rows, inner), value, spec.dtype.numpy)
    return found


def _range(
    servable: Servable,
    name: str,
    spec: Spec,
    base: Tensors,
    constants: Constants,
    logged: Tensors | None,
) -> Range:
    def answered(value: object) -> bool:
        try:
            row = {**base, spec.name: np.full(base[spec.name].shape, value, spec.dtype.numpy)}
        except (OverflowError, ValueError):
            return False
        return answers(servable, name, row) is not None

    declared = tuple(declared_values(servable).get(spec.name, ()))
    seen: tuple[object, ...] = declared
    if logged is not None and spec.name in logged:
        seen = tuple(_distinct(logged[spec.name]))
    elif spec.dtype is DType.STRING and not declared:
        seen = constants.words
    if spec.dtype is DType.STRING:
        return Range(nan=spec.nullable and answered(None), values=seen)
    if spec.dtype.is_float:
        floats = tuple(float(n) for n in constants.numbers if abs(n) >= _USUAL)
        return Range(nan=answered(np.nan), values=seen, named=floats, declared=bool(declared))
    if not spec.dtype.is_integer:
        return Range(values=seen)
    limits = np.iinfo(spec.dtype.numpy)
    start = int(base[spec.name].flat[0]) if base[spec.name].size else 0
    high = _end(answered, start, int(limits.max))
    low = _end(answered, start, int(limits.min))
    least, most = (limits.min if low is None else low), (limits.max if high is None else high)
    numbers = (n for n in constants.numbers if abs(n) >= _USUAL and n == int(n))
    whole = tuple(int(n) for n in numbers if least <= n <= most)
    return Range(low, high, values=seen, named=whole)


def _end(answered: object, start: int, last: int) -> int | None:
    """Return the furthest number from *start* towards *last* that is answered; None: *last* is."""
    assert callable(answered)
    sign = 1 if last > start else -1
    good, step = start, 1
    # Outwards by doubling, so that an input that is a size turns out slow while it is still small;
    # then by halving between the last number answered and the first refused.
    while good != last:
        tried = start + sign * step
        if (last - tried) * sign < 0:
            tried = last
        begun = time.perf_counter()
        if not answered(tried):
            break
        good, step = tried, step * 2
        if time.perf_counter() - begun > _SLOW_S:
            return good
    else:
        return None
    bad = tried
    while abs(bad - good) > 1:
        middle = (good + bad) // 2
        if answered(middle):
            good = middle
        else:
            bad = middle
    return good


def _distinct(values: Tensor, most: int = 1000) -> list[object]:
    found = list(dict.fromkeys(values.ravel().tolist()))
    step = -(-len(found) // most)
    return found[::step] if found else []
