"""The one door to the models: every protocol, the recommender and jobs predict through it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from numpy.typing import ArrayLike

from martlet.errors import NotAvailable
from martlet.names import ModelRef
from martlet.servable import DEFAULT_SIGNATURE, signature_of
from martlet.serving.traffic import Table, Variant
from martlet.tensors import Tensor


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model answered, and which version of it did."""

    name: str
    version: int
    outputs: dict[str, Tensor]


class Engine:
    """
    Answers from the table that the manager published last.

    Any thread may call it. The table is swapped by one assignment, so a request sees the whole
    of one table or the whole of the next.
    """

    def __init__(self, table: Table | None = None) -> None:
        self.table = table if table is not None else Table()

    def publish(self, table: Table) -> None:
        """Answer from *table* from now on. The caller drains what is no longer in it."""
        self.table = table

    @contextmanager
    def lease(self, ref: ModelRef) -> Iterator[Variant]:
        """
        Hold the variant that *ref* names: it is not closed before the block ends.

        Raises:
            ModelNotFound: no such model, version or label answers.
        """
        variant = self.acquire(ref)
        try:
            yield variant
        finally:
            variant.release()

    def acquire(self, ref: ModelRef) -> Variant:
        """Take a lease on the variant that *ref* names; the caller must ``release`` it."""
        variant = self.table.variant(ref)
        if variant.acquire():
            return variant
        # It began to drain between the two lines: the table has been replaced since.
        variant = self.table.variant(ref)
        if variant.acquire():
            return variant
        raise NotAvailable(f"{ref} is being replaced; try again")

    def predict(
        self,
        ref: ModelRef,
        inputs: Mapping[str, ArrayLike],
        signature_name: str = DEFAULT_SIGNATURE,
    ) -> Prediction:
        """
        Check *inputs* against the signature and return every output of it.

        Raises:
            ModelNotFound: no such model, version or label answers.
            InvalidInput: no such signature, or an input does not fit it.
            ServableFailed: the model's own code raised.
        """
        variant = self.acquire(ref)
        try:
            return score(variant, inputs, signature_name)
        finally:
            variant.release()


def score(
    variant: Variant,
    inputs: Mapping[str, ArrayLike],
    signature_name: str = DEFAULT_SIGNATURE,
) -> Prediction:
    """Check *inputs* and predict with *variant*, which the caller holds a lease on."""
    servable = variant.servable
    checked = signature_of(servable, signature_name).check(inputs)
    outputs = servable.predict(checked, signature_name)
    return Prediction(variant.name, variant.version, outputs)
