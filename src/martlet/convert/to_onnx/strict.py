"""A model as an ONNX file can answer it: what a converted file is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from martlet.convert.asking.ranges import declared_values
from martlet.errors import InvalidInput
from martlet.formats.trees.forest import Grown
from martlet.servable import DEFAULT_SIGNATURE, Servable
from martlet.tensors import DType, Signature, Spec, Tensor, Tensors

REASON = "_reason"


class Strict:
    """
    *servable*, without what ONNX has no way to say.

    Text cannot be missing in ONNX: with *empty*, "" stands for it in an input; a row for which an
    output of text is missing is refused. A row for which the model has
    no answer, but a reason in an output of its own (PMML), is refused, and so is one with a value
    that a field forbids, even where the model's answer does not ask for it.
    """

    def __init__(self, servable: Servable, *, empty: bool = False) -> None:
        self._servable = servable
        self._empty = empty
        self.signatures: Mapping[str, Signature] = {
            name: Signature.of(
                [_plain(spec) for spec in each.inputs.values()],
                [spec for spec in each.outputs.values() if spec.name != REASON],
            )
            for name, each in servable.signatures.items()
        }

    @property
    def vocabularies(self) -> Mapping[str, Sequence[Any]]:
        """The values that the model says its inputs may hold."""
        return declared_values(self._servable)

    @property
    def grown(self) -> Grown | None:
        """Its trees, where it is made of trees alone: each branch of them is asked."""
        found: Grown | None = getattr(self._servable, "grown", None)
        return found

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """
        Ask the model.

        Raises:
            InvalidInput: a row has no answer; says the model's reason.
        """
        if self._empty:
            inputs = {name: _with_missing(value) for name, value in inputs.items()}
        refusals: Callable[[Tensors], Tensor] | None
        refusals = getattr(self._servable, "refusals", None)
        asked = np.array([]) if refusals is None else refusals(inputs)
        found = self._servable.predict(inputs, signature_name)
        for why in [*asked.tolist(), *found.pop(REASON, np.array([])).tolist()]:
            if why is not None:
                raise InvalidInput(why)
        for name, value in found.items():
            if value.dtype.kind == "O" and None in value.reshape(-1).tolist():
                raise InvalidInput(f"output {name!r} is missing, and ONNX has no missing text")
        return found

    def close(self) -> None:
        """Close the model."""
        self._servable.close()


def _plain(spec: Spec) -> Spec:
    text = spec.dtype is DType.STRING
    return replace(spec, required=True, nullable=spec.nullable and not text, takes_numbers=False)


def _with_missing(values: Tensor) -> Tensor:
    if values.dtype.kind != "O":
        return values
    found = values.copy()
    found[[each == "" for each in values.reshape(-1).tolist()]] = None
    return found
