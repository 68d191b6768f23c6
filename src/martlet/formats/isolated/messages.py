"""What the two ends of a channel tell each other, as plain values: signatures and errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from martlet import errors
from martlet.errors import MartletError, ServableFailed, UnsupportedModel
from martlet.tensors import DType, Signature, Spec


def described(signatures: Mapping[str, Signature]) -> Any:
    """Return *signatures* as plain values, which `signatures_of` reads."""

    def spec(s: Spec) -> dict[str, Any]:
        return {f.name: getattr(s, f.name) for f in fields(s)} | {"dtype": s.dtype.value}

    return {
        name: {
            "inputs": [spec(s) for s in signature.inputs.values()],
            "outputs": [spec(s) for s in signature.outputs.values()],
            "also": signature.also,
        }
        for name, signature in signatures.items()
    }


def signatures_of(told: Any) -> dict[str, Signature]:
    """Return the signatures that `described` made plain values of."""

    def spec(parts: dict[str, Any]) -> Spec:
        shape = None if parts["shape"] is None else tuple(map(int, parts["shape"]))
        return Spec(**parts | {"dtype": DType(parts["dtype"]), "shape": shape})

    return {
        name: Signature.of(
            [spec(s) for s in each["inputs"]],
            [spec(s) for s in each["outputs"]],
            also=each["also"],
        )
        for name, each in told.items()
    }


def error_of(told: Mapping[str, Any]) -> MartletError:
    """Return the error that the other process met; its kind is one of ours, whatever it says."""
    kind = getattr(errors, str(told["error"]), ServableFailed)
    known = isinstance(kind, type) and issubclass(kind, MartletError)
    if not known or kind is errors.MissingExtra:
        kind = UnsupportedModel
    return kind(str(told["message"]))
