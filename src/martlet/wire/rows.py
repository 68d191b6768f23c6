"""The short way from a ``:predict`` or ``:rank`` body to tensors: JSON straight into columns.

A :class:`RowPlan` is compiled from a signature when a version loads, and reads bodies of the
shape that clients send and the model takes. For anything else, valid or not, it returns None, and
the complete reader decides what the body is and what to say of it::

    plan = RowPlan.compile(signature, name)
    ...
    found = None if plan is None else plan.decode(body)
    if found is None:
        document = parse_object(body)  # tfserving.requests, and its errors
        found = PredictDecoder(signature, name).decode(document)
    tensors, by_row = found

What both read, they read the same: the test of this module holds them against each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from martlet.native import find
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import DType, Signature, Tensor, repeated

# The order of Kind in native/columns.h.
_KINDS = [
    DType.BOOL,
    DType.INT8,
    DType.INT16,
    DType.INT32,
    DType.INT64,
    DType.UINT8,
    DType.UINT16,
    DType.UINT32,
    DType.UINT64,
    DType.FLOAT32,
    DType.FLOAT64,
    DType.STRING,
]
_MOST_INPUTS, _MOST_RANK = 4096, 8

Found = tuple[dict[str, Tensor], bool]
"""Tensors by name in the signature's order, and whether they came by row."""


class RowPlan:
    """
    How the bodies of one signature are read. Any number of threads may use one.

    Args:
        decode: Returns what a body holds; None: use the complete reader. The body has
            ``instances`` (objects, or bare values of the one input) or ``inputs``, may name this
            plan's signature, and no more; its tensors have the shapes of the lists, which are
            shapes that the signature takes, and are the caller's to change. Time is linear,
            memory at most six times the body (strings are Python's).
        decode_rank: The same of a ``:rank`` body with ``context`` and ``items``, and no more; it
            never came by row. What all items share may be there once (see ``repeated``).
    """

    __slots__ = ("decode", "decode_rank")

    def __init__(
        self,
        decode: Callable[[bytes | memoryview], Found | None],
        decode_rank: Callable[[bytes | memoryview], Found | None],
    ) -> None:
        self.decode = decode
        self.decode_rank = decode_rank

    @classmethod
    def compile(cls, signature: Signature, name: str = DEFAULT_SIGNATURE) -> RowPlan | None:
        """
        Return the plan of *signature*, called *name*.

        None where there is no short way: the compiled part is missing, an input is of a type
        that JSON cannot write (float16), or is called ``b64``.
        """
        native, inputs = find("rows"), packed(signature)
        if native is None or inputs is None or "b64" in signature.inputs:
            return None
        word = name.encode("utf-8", "surrogatepass")
        plan = native.Plan(inputs, word, name == DEFAULT_SIGNATURE, repeated)
        return cls(plan.decode, plan.decode_rank)


def packed(signature: Signature) -> tuple[Any, ...] | None:
    """
    Return what ``native/columns.h`` must know of *signature*'s inputs.

    None where it cannot read them: one is of a type that JSON cannot write, or there are too many.
    """
    specs = list(signature.inputs.values())
    if not 0 < len(specs) <= _MOST_INPUTS:
        return None
    if any(each.dtype not in _KINDS or len(each.shape or ()) > _MOST_RANK for each in specs):
        return None
    # Where another form of the signature may be meant, it is the inputs that came which tell.
    needed = [each.required or bool(signature.also) for each in specs]
    return (
        tuple(each.name.encode("utf-8", "surrogatepass") for each in specs),
        bytes(_KINDS.index(each.dtype) for each in specs),
        tuple(each.shape for each in specs),
        bytes(each.enforced and each.shape is not None for each in specs),
        bytes(needed),
        tuple(each.name for each in specs),
        tuple(_strings if each.dtype is DType.STRING else np.ndarray for each in specs),
        tuple(each.dtype.numpy for each in specs),
    )


def _strings(shape: tuple[int, ...], dtype: np.dtype[Any], data: list[str]) -> Tensor:
    found = np.empty(len(data), dtype)
    found[:] = data
    return found.reshape(shape)
