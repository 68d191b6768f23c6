"""What a TorchScript module takes where its graph does not tell: found by running it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from martlet.formats.torch.script_graph import Argument
from martlet.tensors import DType, Spec, Tensor

_MOST = 100  # attempts
_MIXES = 40
_ROWS, _RANKS = (2, 8, 32), ((), (1,), (3, 1), (64,))
_VALUES = (0, 1)  # a sequence of no steps, a divisor of 0: what zeros break runs on ones

Runs = Callable[[list[Argument], dict[str, Tensor]], bool]
"""Whether the module runs on these tensors, with its arguments understood so."""


def samples(inputs: list[Spec]) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Yield zeros and ones for *inputs*, of several numbers of rows, and ranks if none is told."""
    for value, rows, unknown in itertools.product(_VALUES, _ROWS, _RANKS):
        yield rows, _filled(value, inputs, rows, itertools.repeat(unknown))


def mixed(inputs: list[Spec]) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Yield as *samples* does, by number of rows, each in turn of another rank and width."""
    unknown = sum(s.shape is None for s in inputs)
    for value, rows in itertools.product(_VALUES, _ROWS):
        alike = ((each,) * unknown for each in _RANKS if unknown)
        every = itertools.product((*_RANKS, (2,), (65,)), repeat=unknown)
        unlike = (each for each in every if len(set(each)) != 1 or each[0] not in _RANKS)
        for ranks in itertools.islice(itertools.chain(alike, unlike), _MIXES):
            yield rows, _filled(value, inputs, rows, ranks)


def _filled(
    value: int, inputs: list[Spec], rows: int, ranks: Iterable[tuple[int, ...]]
) -> dict[str, Tensor]:
    left = iter(ranks)
    found = {}
    for spec in inputs:
        shape = (rows, *next(left)) if spec.shape is None else spec.shape
        sizes = [rows if d == -1 else d for d in shape]
        filling = "" if spec.dtype is DType.STRING else value
        found[spec.name] = np.full(sizes, filling, spec.dtype.numpy)
    return found


def settled(arguments: list[Argument], precisions: set[str], runs: Runs) -> list[Argument]:
    """
    Return *arguments* with dtypes under which the module runs; as they are where none is found.

    Operators refuse others than theirs: an index that is no integer, a condition that is no
    boolean, rows of another precision than the weights. float32 is what is tried first.

    Args:
        precisions: Of the module's weights, by PyTorch's names.
    """
    found = next((a for a in _attempts(arguments, precisions) if _any(a, runs)), arguments)
    for at, each in enumerate(arguments):  # what need not be otherwise is float32
        attempt = [*found[:at], each, *found[at + 1 :]]
        if found[at] != each and _any(attempt, runs):
            found = attempt
    for at, each in enumerate(found):
        if any(not spec.required for spec in each.specs) and not each.plain:
            others = [other for other in found if other is not each]
            for kind in _kinds(precisions):
                tried = _as(each, kind)
                given = [tried, *[o for o in others if all(s.required for s in o.specs)]]
                attempt = [*found[:at], tried, *found[at + 1 :]]
                inputs = [spec for argument in given for spec in argument.specs]
                if any(runs(attempt, sample) for _, sample in samples(inputs)):
                    found = attempt
                    break
    return found


def _any(arguments: list[Argument], runs: Runs) -> bool:
    inputs = [spec for each in arguments for spec in each.specs if spec.required]
    return any(runs(arguments, sample) for _, sample in samples(inputs))


def _kinds(precisions: set[str]) -> list[str]:
    return ["", *sorted(precisions - {"float32"}), "int64", "bool"]


def _attempts(arguments: list[Argument], precisions: set[str]) -> Iterator[list[Argument]]:
    """Yield *arguments* as they are, then with other dtypes for those that are float32."""
    loose = [each for each in arguments if _is_loose(each) and each.specs[0].required]
    kinds = _kinds(precisions)
    alike = ((kind,) * len(loose) for kind in kinds)
    mixed = itertools.product(kinds, repeat=len(loose))
    for chosen in itertools.islice(itertools.chain(alike, mixed), _MOST):
        by_name = dict(zip((each.specs[0].name for each in loose), chosen, strict=True))
        yield [
            _as(each, by_name.get(each.specs[0].name, "")) if each.specs else each
            for each in arguments
        ]


def _is_loose(argument: Argument) -> bool:
    return any(spec.dtype is DType.FLOAT32 for spec in argument.specs) and not argument.plain


def _as(argument: Argument, kind: str) -> Argument:
    """Return *argument* with *kind* for float32; what numpy has not is rounded to."""
    if not kind or not _is_loose(argument):
        return argument
    known = kind in (each.value for each in DType)
    dtype = DType(kind) if known else DType.FLOAT32
    specs = [
        replace(spec, dtype=dtype) if spec.dtype is DType.FLOAT32 else spec
        for spec in argument.specs
    ]
    return replace(argument, specs=specs, rounded="" if known else kind)
