"""The short way from an infer request to tensors: JSON or binary, read once, straight into columns.

As ``wire/rows``: whatever is unusual is left to the complete reader, ``request.read``. What both
read, they read the same: the test of this module holds them against each other.
"""

from __future__ import annotations

from collections.abc import Callable

from martlet.native import find
from martlet.tensors import Signature, Tensor
from martlet.wire.rows import packed

Found = tuple[dict[str, Tensor], bool, bytes]
"""Tensors by name in the signature's order, whether the output goes back in binary, and what the
reply says of the request: its id, as a member of the JSON object."""

Decode = Callable[..., Found | None]
"""``decode(body, length)``, where *length* is the Inference-Header-Content-Length as it came, left
out where none did."""


def compile_plan(signature: Signature) -> Decode | None:
    """
    Return what reads the common requests of *signature*: all inputs, the only output or all.

    None where there is no short way: the compiled part is missing, there are several outputs, or
    the signature has another form.
    """
    native, inputs = find("infer"), packed(signature)
    if native is None or inputs is None or len(signature.outputs) != 1 or signature.also:
        return None
    (output,) = signature.outputs
    decode: Decode = native.Plan(inputs, output.encode("utf-8", "surrogatepass")).decode
    return decode
