"""The calls of TensorFlow Serving's API that REST and gRPC share, over one engine.

Source: tensorflow_serving/model_servers/server_core.cc, core/basic_manager.cc,
servables/tensorflow/{classifier,regressor,predict_util}.cc.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from martlet.errors import InvalidInput, MartletError, ModelNotFound, NotAvailable
from martlet.names import ModelRef
from martlet.servable import DEFAULT_SIGNATURE, Servable
from martlet.serving.engine import Engine, score
from martlet.serving.traffic import Table, Variant
from martlet.states import VersionStatus
from martlet.tensors import Signature, Tensor
from martlet.wire.tfserving import inference, status


def acquire(engine: Engine, ref: ModelRef) -> Variant[Servable]:
    """
    Take a lease on the variant that *ref* names; the caller must ``release`` it.

    Raises:
        ModelNotFound, InvalidInput: nothing answers to it, in upstream's words.
        NotAvailable: it is being replaced.
    """
    try:
        return engine.acquire(ref)
    except ModelNotFound:
        raise unknown(ref) from None
    except NotAvailable:
        # Known, but no version answers yet: upstream's clients wait for these very words.
        model = engine.table.models.get(ref.name)
        if model is None or not model.variants:
            raise unknown(ref) from None
        raise


class Seat:
    """The variant that answers to one name, looked up again only when the table has changed."""

    __slots__ = ("_engine", "_ref", "_table", "_variant")

    def __init__(self, engine: Engine, ref: ModelRef) -> None:
        self._engine = engine
        self._ref = ref
        self._table: Table | None = None
        self._variant: Variant[Servable] | None = None

    def acquire(self) -> Variant[Servable]:
        """Take a lease on it; the caller must ``release`` it. Raises as ``acquire``."""
        table = self._engine.table
        if table is self._table and self._variant is not None and self._variant.acquire():
            return self._variant
        self._variant = acquire(self._engine, self._ref)
        self._table = table
        return self._variant


@contextmanager
def lease(engine: Engine, ref: ModelRef) -> Iterator[Variant[Servable]]:
    """Hold the variant that *ref* names for the block. Raises as ``acquire``."""
    variant = acquire(engine, ref)
    try:
        yield variant
    finally:
        variant.release()


def unknown(ref: ModelRef) -> MartletError:
    """Return upstream's error for a name, version or label that nothing answers to."""
    if ref.label is not None:
        return InvalidInput(f"Unrecognized servable version label: {ref.label}")
    which = "Latest" if ref.version is None else "Specific"
    version = "" if ref.version is None else f", {ref.version}"
    return ModelNotFound(f"Servable not found for request: {which}({ref.name}{version})")


def statuses(engine: Engine, ref: ModelRef) -> list[VersionStatus]:
    """
    Return the states of *ref*'s versions, highest first. A label narrows nothing.

    Raises:
        ModelNotFound: no such model or version was ever seen.
    """
    model = engine.table.models.get(ref.name)
    # Upstream's clients know a message as that of an error.
    told = [
        each if each.error is not None else replace(each, message="")
        for each in (model.told if model is not None else ())
    ]
    return status.choose(ref.name, told, ref.version)


def signature_of(variant: Variant[Servable], name: str) -> Signature:
    """
    Return the signature that *name* names for classify and regress; "" is the default.

    Raises:
        InvalidInput: there is none, in upstream's words.
    """
    found = variant.servable.signatures.get(name or DEFAULT_SIGNATURE)
    if found is None:
        raise InvalidInput(f"No signature was found with the name: {name or DEFAULT_SIGNATURE}")
    return found


def classify(variant: Variant[Servable], name: str, examples: Tensor) -> inference.Classes:
    """
    Return the classes of *examples*, serialized tf.Examples [n].

    Raises:
        InvalidInput: the signature does not classify, or an Example does not fit it.
        ServableFailed: the model's own code raised.
    """
    outputs = _ask(variant, name, examples, inference.check_classify)
    return inference.classes(outputs, len(examples))


def regress(variant: Variant[Servable], name: str, examples: Tensor) -> Tensor:
    """
    Return the value of each of *examples*, serialized tf.Examples [n]: float32 [n].

    Raises:
        InvalidInput: the signature is not a regression, or an Example does not fit it.
        ServableFailed: the model's own code raised.
    """
    outputs = _ask(variant, name, examples, inference.check_regress)
    return inference.regressions(outputs, len(examples))


def _ask(
    variant: Variant[Servable], name: str, examples: Tensor, check: Callable[[Signature], None]
) -> Mapping[str, Tensor]:
    check(signature_of(variant, name))
    return score(variant, {inference.INPUTS: examples}, name or DEFAULT_SIGNATURE).outputs
