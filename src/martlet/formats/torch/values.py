"""What PyTorch's modules take and give, as arrays by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from martlet.errors import InvalidInput, ServableFailed
from martlet.tensors import Tensor


def tensor(torch: Any, array: Tensor, copies: bool = False) -> Any:
    """Return *array* as a tensor: over the same memory where that may be, else a copy."""
    if copies or not array.flags.writeable:
        return torch.tensor(array)
    try:
        return torch.from_numpy(array)
    except ValueError:  # of strides that PyTorch has not
        return torch.tensor(array)


def tensors(torch: Any, arrays: Sequence[Tensor]) -> list[Any]:
    """Return :func:`tensor` of each, without a call each where PyTorch takes them all."""
    share, copied = torch.from_numpy, torch.tensor
    try:
        return [share(each) if each.flags.writeable else copied(each) for each in arrays]
    except ValueError:
        return [tensor(torch, each) for each in arrays]


def named(torch: Any, found: Any, name: str = "output", top: bool = True) -> dict[str, Tensor]:
    """
    Return what a module gave as arrays by name; bfloat16, which numpy has not, as float32.

    A dictionary and a named tuple give their own names, a tuple ``output_0`` and so on; what is
    within one another has their names joined by ``_``. None gives nothing.

    Raises:
        ServableFailed: a part is neither a tensor nor a number.
    """
    if isinstance(found, torch.Tensor):
        return {name: (found.float() if found.dtype == torch.bfloat16 else found).numpy()}
    if found is None:
        return {}
    if isinstance(found, bool | int | float):
        return {name: np.asarray(found)}
    if isinstance(found, dict):
        parts = found
    elif isinstance(found, tuple | list):
        parts = dict(zip(getattr(found, "_fields", range(len(found))), found, strict=True))
    else:
        raise ServableFailed(f"the model gave a {type(found).__name__}, which no tensor holds")
    flat: dict[str, Tensor] = {}
    for key, value in parts.items():
        own = key if top and isinstance(key, str) else f"{name}_{key}"
        flat |= named(torch, value, own, top=False)
    return flat


def translated(exc: Exception) -> InvalidInput | ServableFailed:
    """Return what an error of PyTorch is in our tree."""
    text = str(exc)
    last = text.strip().splitlines()[-1] if text.strip() else "RuntimeError"
    marks = ("out of range", "out of bounds", "IndexError", "must match", "cannot be multiplied")
    if any(mark in text for mark in marks):
        return InvalidInput(f"the model refuses these values: {last}")
    return ServableFailed(f"PyTorch failed: {last}")
