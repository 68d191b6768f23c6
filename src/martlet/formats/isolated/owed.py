"""An answer that a model's process owes: whoever asks the same next is given it."""

from __future__ import annotations

from dataclasses import dataclass

from martlet.tensors import Tensor, Tensors


@dataclass(frozen=True, slots=True)
class Owed:
    """A question that the process has been asked, and not answered when its loop had to go on."""

    inputs: Tensors
    signature_name: str

    @classmethod
    def of(cls, inputs: Tensors, signature_name: str) -> Owed:
        return cls({name: value.copy() for name, value in inputs.items()}, signature_name)

    def answers(self, inputs: Tensors, signature_name: str) -> bool:
        """Whether its answer is that to *inputs*, to the last bit."""
        return (
            signature_name == self.signature_name
            and inputs.keys() == self.inputs.keys()
            and all(_are_same(value, self.inputs[name]) for name, value in inputs.items())
        )


def _are_same(one: Tensor, other: Tensor) -> bool:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    if one.dtype.hasobject:
        return bool(one.tolist() == other.tolist())
    return one.tobytes() == other.tobytes()
