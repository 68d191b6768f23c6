"""Examples that a version carries with it: it answers them rightly before it answers anybody."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from martlet.errors import InvalidInput, UnsupportedModel
from martlet.servable import DEFAULT_SIGNATURE, Servable, check_inputs, signature_of
from martlet.tensors import DType, Signature, Spec, Tensor

FILE = "golden.json"
"""In a version's folder; for a version that is one file, beside it as ``NAME.golden.json``."""


@dataclass(frozen=True, slots=True)
class Example:
    """Inputs, and the outputs that they must give, as JSON has them."""

    signature_name: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Golden:
    """
    What a version must answer.

    Args:
        rtol, atol: A float may be off by ``atol + rtol * |expected|``; all else must be equal.
    """

    examples: tuple[Example, ...]
    rtol: float = 1e-5
    atol: float = 1e-6


def find(path: Path) -> Path | None:
    """Return where the golden examples of the version at *path* are, if it has any."""
    file = path / FILE if path.is_dir() else path.with_name(f"{path.name}.{FILE}")
    return file if file.is_file() else None


def read(file: Path) -> Golden:
    """
    Return the examples in *file*: ``{"examples": [{"signature"?, "inputs", "outputs"}], "rtol"?}``.

    Raises:
        UnsupportedModel: it is written otherwise.
    """
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        examples = tuple(
            Example(
                each.get("signature", DEFAULT_SIGNATURE),
                _some(each, "inputs", Mapping),
                _some(each, "outputs", Mapping),
            )
            for each in _some(document, "examples", list)
        )
        golden = Golden(examples)
        return Golden(
            examples,
            _tolerance(document, "rtol", golden.rtol),
            _tolerance(document, "atol", golden.atol),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise UnsupportedModel(
            f"{file} does not hold golden examples ({type(exc).__name__}: {exc}); wanted is "
            '{"examples": [{"inputs": {...}, "outputs": {...}}]}'
        ) from exc


def _some(holder: Mapping[str, Any], key: str, kind: type[Any]) -> Any:
    """Return what is under *key*, which must hold something: else nothing would be checked."""
    found = holder[key]
    if not isinstance(found, kind) or not found:
        raise ValueError(f"{key!r} holds no {'examples' if kind is list else 'tensors by name'}")
    return found


def _tolerance(document: Mapping[str, Any], key: str, default: float) -> float:
    value = float(document.get(key, default))
    if not 0 <= value < math.inf:
        raise ValueError(f"{key!r} is {value}; a number from 0 on is wanted")
    return value


def check(servable: Servable, golden: Golden, where: str) -> int:
    """
    Have *servable* answer every example, and return how many there were.

    Raises:
        UnsupportedModel: an answer is wrong; says which, where, what came and what was wanted.
        ServableFailed: the model's own code raised.
    """
    for number, example in enumerate(golden.examples, 1):
        for fault in _faults(servable, example, golden):
            raise UnsupportedModel(f"{where}: golden example {number}: {fault}")
    return len(golden.examples)


def check_runs(servable: Servable, inputs: Mapping[str, Any], where: str) -> None:
    """
    Have *servable* answer an example of which nobody wrote down the outputs.

    Raises:
        UnsupportedModel: the answer is not what the signature says.
        ServableFailed: the model's own code raised.
    """
    name = DEFAULT_SIGNATURE
    if name not in servable.signatures:
        name = next(iter(servable.signatures))
    called, checked = check_inputs(servable, name, inputs)
    for fault in _shape_faults(servable.signatures[called], servable.predict(checked, called)):
        raise UnsupportedModel(f"{where}: its own example: {fault}")


def _faults(servable: Servable, example: Example, golden: Golden) -> Iterator[str]:
    try:
        signature = signature_of(servable, example.signature_name)
        given = {name: _array(v, signature.inputs.get(name)) for name, v in example.inputs.items()}
        called, checked = check_inputs(servable, example.signature_name, given)
    except InvalidInput as exc:
        yield f"its inputs do not fit: {exc}"
        return
    outputs = servable.predict(checked, called)
    yield from _shape_faults(servable.signatures[called], outputs)
    for name, wanted in example.outputs.items():
        if name not in outputs:
            yield f"there is no output {name!r}; the outputs are {', '.join(map(repr, outputs))}"
            return
        yield from _value_faults(name, outputs[name], wanted, golden)


def _array(value: Any, spec: Spec | None) -> Tensor:
    try:
        return np.asarray(value, None if spec is None else spec.dtype.numpy)
    except (ValueError, TypeError, OverflowError) as exc:
        raise InvalidInput(f"{value!r} is not {spec}: {exc}") from None


def _shape_faults(signature: Signature, outputs: Mapping[str, Tensor]) -> Iterator[str]:
    for name, spec in signature.outputs.items():
        if name not in outputs:
            yield f"output {name!r} of the signature is missing"
            continue
        found = outputs[name]
        if DType.of(found.dtype) is not spec.dtype:
            yield f"output {name!r} is {found.dtype}; the signature says {spec}"
        if spec.shape is not None and spec.enforced and len(spec.shape) != found.ndim:
            yield f"output {name!r} has shape {list(found.shape)}; the signature says {spec}"


def _value_faults(name: str, found: Tensor, wanted: Any, golden: Golden) -> Iterator[str]:
    try:
        expected = np.asarray(wanted, object if found.dtype.kind in "OSU" else None)
        if found.dtype.kind == "f":
            expected = expected.astype(np.float64)
    except (ValueError, TypeError) as exc:
        yield f"what is expected of output {name!r} is not a tensor of {found.dtype}: {exc}"
        return
    if expected.shape != found.shape:
        yield (
            f"output {name!r} has shape {list(found.shape)}; {list(expected.shape)} was expected"
        )
        return
    if found.dtype.kind == "f":
        same = np.isclose(found, expected, golden.rtol, golden.atol, equal_nan=True)
    else:
        same = np.asarray(_text(found) == _text(expected))
    if not same.all():
        place = tuple(int(axis) for axis in np.argwhere(~same)[0])
        off = f" (off by more than {golden.atol:g} + {golden.rtol:g} of it)"
        yield (
            f"output {name!r} at {list(place)} is {found[place]!s}; {expected[place]!s} was "
            f"expected{off if found.dtype.kind == 'f' else ''}"
        )


def _text(values: Tensor) -> Tensor:
    if values.dtype.kind != "O":
        return values
    decode = [v.decode(errors="replace") if isinstance(v, bytes) else v for v in values.ravel()]
    found = np.empty(len(decode), object)
    found[:] = decode
    return found.reshape(values.shape)
