"""The calls of the Open Inference Protocol that REST and gRPC share, over one engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter_ns

from martlet import deadline
from martlet.errors import InvalidInput
from martlet.names import ModelRef, read_version
from martlet.servable import DEFAULT_SIGNATURE, Servable, form_of
from martlet.serving.traffic import Variant
from martlet.tensors import Signature, Tensor
from martlet.wire.openinference.request import InferRequest, check


def ref_of(name: str, version: str | None) -> ModelRef:
    """
    Return the model that *name* and *version* name: digits are a version, other text a label.

    Raises:
        InvalidInput: the version is out of range.

    >>> [str(ref_of("ctr", version)) for version in ("3", "stable", "")]
    ['ctr@3', 'ctr@stable', 'ctr']
    """
    if not version:
        return ModelRef(name)
    if version.isascii() and version.isdigit():
        return ModelRef(name, version=read_version(version))
    return ModelRef(name, label=version)


def signature_of(servable: Servable, name: str | None = None) -> tuple[str, Signature]:
    """
    Return the signature called *name*; None: the one that the protocol can show, which is the
    default one, else the first.

    Raises:
        InvalidInput: there is none of that name.
    """
    signatures = servable.signatures
    if name is None:
        name = DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in signatures else next(iter(signatures))
    if name not in signatures:
        known = ", ".join(map(repr, signatures))
        raise InvalidInput(f"no signature is named {name!r}; the signatures are {known}")
    return name, signatures[name]


def bare_signature_of(servable: Servable, name: str | None) -> Signature:
    """Return the signature called *name*, in the form for an only tensor without a name."""
    name, _ = signature_of(servable, name)
    return servable.signatures[form_of(servable, name, None)]


@dataclass(frozen=True, slots=True)
class Inferred:
    """Outputs, and how long the model took for how many rows."""

    outputs: Mapping[str, Tensor]
    rows: int
    model_ns: int


def infer(variant: Variant[Servable], request: InferRequest) -> Inferred:
    """
    Return what *variant*, which the caller holds a lease on, answers *request*.

    Raises:
        InvalidInput: an input or a wanted output does not fit the signature, or there is no such
            signature.
        ServableFailed: the model's own code raised.
    """
    shown, _ = signature_of(variant.servable, request.signature_name)
    name = form_of(variant.servable, shown, request.inputs.keys())
    signature = variant.servable.signatures[name]
    inputs = check(request.inputs, signature)
    for wanted in request.outputs:
        if wanted.name not in signature.outputs:
            known = ", ".join(map(repr, signature.outputs))
            raise InvalidInput(f"no output is named {wanted.name!r}; the outputs are {known}")
    started = perf_counter_ns()
    if request.timeout_us:
        with deadline.within(request.timeout_us / 1e6):
            outputs = variant.servable.predict(inputs, name)
    else:
        outputs = variant.servable.predict(inputs, name)
    model_ns = perf_counter_ns() - started
    rows = next((len(each) for each in inputs.values() if each.ndim), 1)
    return Inferred(outputs, rows, model_ns)
