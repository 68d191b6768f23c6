"""The seam that all else turns on: a loaded version that can predict."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol, runtime_checkable

from numpy.typing import ArrayLike

from martlet.errors import InvalidInput
from martlet.tensors import Signature, Tensor, Tensors

DEFAULT_SIGNATURE = "serving_default"


@runtime_checkable
class Servable(Protocol):
    """
    A loaded version of a model.

    A format's ``load`` makes one; the engine calls it. ``predict`` may be called from several
    threads at once and keeps nothing of a request. What wraps a servable (a batcher, another
    process) is a servable too, so nobody downstream asks which it holds.
    """

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """The ways to call it, by name; fixed for its life. Never empty."""
        ...

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """
        Return every output of the signature, by name.

        The caller has checked *inputs* against the signature: names, dtypes and shapes are right.

        Raises:
            InvalidInput: a value cannot be scored (an id outside its table).
            ServableFailed: the model's own code raised; the cause is chained.
        """
        ...

    def close(self) -> None:
        """Free what it holds. Called once, when nobody uses it any more."""
        ...


def signature_of(servable: Servable, name: str) -> Signature:
    """
    Return the signature called *name*.

    Raises:
        InvalidInput: there is none; the text lists those there are.
    """
    try:
        return servable.signatures[name]
    except KeyError:
        known = ", ".join(map(repr, servable.signatures))
        raise InvalidInput(f"no signature {name!r}; available: {known}") from None


def check_inputs(
    servable: Servable, name: str, inputs: Mapping[str, ArrayLike]
) -> tuple[str, dict[str, Tensor]]:
    """
    Return the signature to call and *inputs* checked against it.

    It is the one called *name*, or the one that it names as ``also`` when exactly the inputs of
    that one came (a table's columns by name, or its matrix).

    Raises:
        InvalidInput: no such signature, or an input does not fit it.
    """
    signature_of(servable, name)
    called = form_of(servable, name, inputs.keys())
    return called, servable.signatures[called].check(inputs)


def form_of(servable: Servable, name: str, given: Collection[str] | None) -> str:
    """
    Return the signature to call for the one called *name*, which there is: itself or its ``also``.

    Args:
        given: The names of the inputs that came; None: one came, and brought no name.
    """
    signature = servable.signatures[name]
    if not signature.also:
        return name
    other = servable.signatures[signature.also]
    if given is None:
        fits = len(signature.inputs) > 1 and len(other.inputs) == 1
    else:
        given = set(given)
        fits = given != signature.inputs.keys() and given == other.inputs.keys()
    return signature.also if fits else name


class Checked:
    """A servable for callers who have checked nothing: the check, then the servable within."""

    def __init__(self, servable: Servable) -> None:
        self._servable = servable

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """Those of the servable within."""
        return self._servable.signatures

    def predict(
        self, inputs: Mapping[str, ArrayLike], signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """
        Check *inputs*, then predict.

        Raises:
            InvalidInput: an input is missing, unknown, or of the wrong dtype or shape.
            ServableFailed: the model's own code raised.
        """
        called, checked = check_inputs(self._servable, signature_name, inputs)
        return self._servable.predict(checked, called)

    def close(self) -> None:
        """Close the servable within."""
        self._servable.close()

    def __enter__(self) -> Checked:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
