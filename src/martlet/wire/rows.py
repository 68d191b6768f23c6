"""The short way from a ``:predict`` body to tensors: JSON read once, straight into columns.

A :class:`RowPlan` is compiled from a signature when a version loads, and reads bodies of the
shape that clients send. For anything else, valid or not, it returns None, and the complete
reader decides what the body is and what to say of it::

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

from typing import Any

import numpy as np

from martlet.native import find
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import DType, Signature, Tensor

# The order of Kind in native/rows.c.
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
_MOST_INPUTS = 4096


class RowPlan:
    """How the bodies of one signature are read. Any number of threads may use one."""

    __slots__ = ("_dtypes", "_names", "_native")

    def __init__(self, names: list[str], dtypes: list[np.dtype[Any]], native: Any) -> None:
        self._names = names
        self._dtypes = dtypes
        self._native = native

    @classmethod
    def compile(cls, signature: Signature, name: str = DEFAULT_SIGNATURE) -> RowPlan | None:
        """
        Return the plan of *signature*, called *name*.

        None where there is no short way: the compiled part is missing, an input is of a type
        that JSON cannot write (float16), or is called ``b64``.
        """
        native = find("rows")
        specs = signature.inputs
        if native is None or not 0 < len(specs) <= _MOST_INPUTS or "b64" in specs:
            return None
        if any(each.dtype not in _KINDS for each in specs.values()):
            return None
        plan = native.Plan(
            tuple(each.encode("utf-8", "surrogatepass") for each in specs),
            name.encode("utf-8", "surrogatepass"),
            name == DEFAULT_SIGNATURE,
            bytes(_KINDS.index(each.dtype) for each in specs.values()),
        )
        return cls(list(specs), [each.dtype.numpy for each in specs.values()], plan)

    def decode(self, body: bytes | memoryview) -> tuple[dict[str, Tensor], bool] | None:
        """
        Return the tensors of *body*, and whether they came by row; None: use the complete reader.

        The body has ``instances`` (objects, or bare values of the one input) or ``inputs``, may
        name this plan's signature, and no more. Tensors are in the signature's order, have the
        shapes of the lists, and are the caller's to change. Time is linear, memory at most six
        times the body (strings are Python's).
        """
        found = self._native.decode(body)
        if found is None:
            return None
        by_row, columns, shapes = found
        tensors: dict[str, Tensor] = {}
        # All four have one length: the plan gives a column and a shape an input.
        for name, dtype, data, shape in zip(self._names, self._dtypes, columns, shapes):  # noqa: B905
            if type(data) is list:
                strings = np.empty(len(data), object)
                strings[:] = data
                tensors[name] = strings.reshape(shape)
            else:
                tensors[name] = np.ndarray(shape, dtype, data)
        return tensors, by_row
