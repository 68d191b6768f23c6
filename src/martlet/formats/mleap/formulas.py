"""MLeap's operations of arithmetic and of tables: from nodes to stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats.mleap.bundle import Node
from martlet.formats.mleap.ports import Reader, in_out, inputs, invalid, outputs
from martlet.formats.stages.invalid import Invalid
from martlet.formats.stages.patterns import regex
from martlet.formats.stages.stage import Kind, Port, Stage
from martlet.formats.stages.vectors import Dense, Floats

_UNARY: Mapping[str, Callable[[Floats], Floats]] = {
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "log": np.log, "exp": np.exp, "abs": np.abs,
    "sqrt": np.sqrt, "logit": lambda x: -np.log(1.0 / x - 1.0), "floor": np.floor,
    "ceil": np.ceil, "round_of": lambda x: _rounded(x),
}  # fmt: skip
_BINARY: Mapping[str, Callable[[Floats, Floats], Floats]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "rem": np.fmod, "pow": np.power,
    **dict.fromkeys(("logn", "log_n"), lambda x, base: np.log(x) / np.log(base)),
    "min": np.minimum, "max": np.maximum,
}  # fmt: skip


def _rounded(x: Floats) -> Floats:
    """Round halves up, as Java does, within 64 bits; a missing value is 0."""
    whole = np.floor(x)
    nearest = np.clip(whole + (x - whole >= 0.5), -(2.0**63), 2.0**63)
    return np.where(np.isnan(x), 0.0, nearest)


def _quiet(function: Callable[..., Floats]) -> Callable[..., Floats]:
    def run(*columns: Floats) -> Floats:
        with np.errstate(all="ignore"):
            return np.asarray(function(*columns))

    return run


def math_unary(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    name = str(node.need("operation"))
    if name not in _UNARY:
        raise UnsupportedModel(f"{node.label}: the operation {name!r} is not supported")
    source, output = in_out(node)
    return [
        Stage(
            node.label,
            (Port(source, Kind.NUMBER),),
            (Port(output, Kind.NUMBER),),
            _quiet(_UNARY[name]),
        )
    ]


def math_binary(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    """Either side may be a constant of the file."""
    name = str(node.need("operation"))
    if name not in _BINARY:
        raise UnsupportedModel(f"{node.label}: the operation {name!r} is not supported")
    function = _BINARY[name]
    left, right = node.port("input_a"), node.port("input_b")
    sides: list[str | float] = [left or float(node.need("da")), right or float(node.need("db"))]
    columns = [each for each in sides if isinstance(each, str)]
    if not columns:
        raise UnsupportedModel(f"{node.label} has no input")

    def run(*given: Floats) -> Floats:
        rest = list(given)
        both = [rest.pop(0) if isinstance(each, str) else np.float64(each) for each in sides]
        return function(np.asarray(both[0]), np.asarray(both[1]))

    return [
        Stage(
            node.label,
            tuple(Port(each, Kind.NUMBER) for each in columns),
            (Port(outputs(node)[0], Kind.NUMBER),),
            _quiet(run),
        )
    ]


def coalesce(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    sources = inputs(node)

    def run(*columns: Floats) -> Floats:
        found = columns[-1]
        for each in reversed(columns[:-1]):
            found = np.where(np.isnan(each), found, each)
        return found

    return [
        Stage(
            node.label,
            tuple(Port(each, Kind.NUMBER) for each in sources),
            (Port(outputs(node)[0], Kind.NUMBER),),
            run,
        )
    ]


def string_map(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    values = [float(v) for v in node.need("values")]
    table = dict(zip(node.need("labels"), values, strict=True))
    source, output = in_out(node)
    keep = invalid(node) is Invalid.KEEP
    default = float(node.get("default_value") or 0.0)

    def run(column: Any) -> Floats:
        find = table.get
        found = [find(v, default if keep else None) for v in column.tolist()]
        if None in found:
            value = column[found.index(None)]
            raise InvalidInput(f"column {source!r} holds {value!r}, which the map lacks")
        return np.array(found, dtype=np.float64)

    return [Stage(node.label, (Port(source, Kind.TEXT),), (Port(output, Kind.NUMBER),), run)]


def regex_indexer(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    """The index of the first pattern that is found in the text, int32."""
    patterns = [regex(node.label, each) for each in node.need("regexes")]
    indices = [int(each) for each in node.need("indices")]
    table = list(zip(patterns, indices, strict=True))
    default = node.get("default_value")
    source, output = in_out(node)

    def index(text: Any) -> int:
        for pattern, found in table:
            if text is not None and pattern.search(text):
                return found
        if default is None or text is None:
            raise InvalidInput(f"column {source!r} holds {text!r}, which no pattern finds")
        return int(default)

    def run(column: Any) -> Any:
        return np.array([index(each) for each in column.tolist()], dtype=np.int32)

    return [Stage(node.label, (Port(source, Kind.TEXT),), (Port(output, Kind.INTEGER),), run)]


def sklearn_polynomial(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    """
    Each product is spelled out: ``x0``, ``x0^2``, ``x0 x1``; ``1`` is the constant.

    The exponents are read from the text; nothing in it is run.
    """
    terms = [_exponents(node, each) for each in _terms(node)]
    source, output = in_out(node)

    def run(column: Any) -> Dense:
        values = column.dense()
        out = np.ones((len(values), len(terms)))
        for j, term in enumerate(terms):
            for element, exponent in term:
                if element >= values.shape[1]:
                    raise InvalidInput(f"column {source!r} has no element {element}")
                out[:, j] *= values[:, element] ** exponent
        return Dense(out)

    return [
        Stage(
            node.label,
            (Port(source, Kind.VECTOR),),
            (Port(output, Kind.VECTOR, len(terms)),),
            run,
        )
    ]


def _terms(node: Node) -> list[str]:
    found = node.need("combinations")
    listed = found if isinstance(found, list) else str(found).strip("[]").split(",")
    return [str(each).strip().strip("'\"") for each in listed]


def _exponents(node: Node, term: str) -> list[tuple[int, int]]:
    found = []
    for factor in term.split():
        if factor == "1":
            continue
        name, _, power = factor.partition("^")
        if not (name.startswith("x") and name[1:].isdigit() and (power or "1").isdigit()):
            raise UnsupportedModel(f"{node.label}: {term!r} is no product of elements")
        found.append((int(name[1:]), int(power or 1)))
    return found


READERS: Mapping[str, Reader] = {
    "math_unary": math_unary,
    "math_binary": math_binary,
    "coalesce": coalesce,
    "string_map": string_map,
    "regex_indexer": regex_indexer,
    "sklearn_polynomial_expansion": sklearn_polynomial,
}
