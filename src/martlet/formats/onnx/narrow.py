"""ONNX's element types that numpy has not, cast where a graph begins and ends to ones it has."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from martlet.formats.onnx.file import ELEMENT_TYPES, OnnxFile, node_of, value_info

# Each with its number in TensorProto.DataType, and a type that holds all its values.
_WIDER = {
    "bfloat16": (16, "float"),
    "float8e4m3fn": (17, "float"),
    "float8e4m3fnuz": (18, "float"),
    "float8e5m2": (19, "float"),
    "float8e5m2fnuz": (20, "float"),
    "uint4": (21, "uint8"),
    "int4": (22, "int8"),
    "float8e8m0": (24, "float"),
    "uint2": (25, "uint8"),
    "int2": (26, "int8"),
}
_TENSOR = re.compile(r"tensor\((\w+)\)")


def narrow(node: Any) -> str:
    """Return the type of a session's input or output where numpy has it not; else ""."""
    match = _TENSOR.fullmatch(node.type)
    return match[1] if match is not None and match[1] in _WIDER else ""


def widened(file: OnnxFile, session: Any) -> tuple[bytes, dict[str, str]]:
    """
    Return the graph with casts at its narrow ends, and what these ends were called before.

    What goes in is rounded to the narrow type, as the graph would have it.

    Args:
        session: Of the graph as it is.
    """
    given = [each for each in session.get_inputs() if narrow(each)]
    told = [each for each in session.get_outputs() if narrow(each)]
    content = file.edited(
        inputs=_ends(file.inputs, given),
        outputs=_ends(file.outputs, told),
        before=[_cast(_outer(n), n.name, _WIDER[narrow(n)][0]) for n in given],
        after=[_cast(n.name, _outer(n), ELEMENT_TYPES[_WIDER[narrow(n)][1]]) for n in told],
    )
    return content, {_outer(each): each.name for each in [*given, *told]}


def _outer(node: Any) -> str:
    return f"martlet/{node.name}"


def _ends(known: dict[str, bytes], narrow_ones: Sequence[Any]) -> list[bytes]:
    found = dict(known)
    for node in narrow_ones:
        sizes = [
            d if isinstance(d, int) else d or f"{node.name}/{i}" for i, d in enumerate(node.shape)
        ]
        wide = ELEMENT_TYPES[_WIDER[narrow(node)][1]]
        found[node.name] = value_info(_outer(node), wide, sizes)
    return list(found.values())


def _cast(source: str, target: str, to: int) -> bytes:
    return node_of("Cast", [source], [target], {"to": to})
