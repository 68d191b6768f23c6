"""The one door to the models: every protocol, the recommender and jobs predict through it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, MutableSequence
from contextlib import contextmanager
from typing import NamedTuple

from numpy.typing import ArrayLike

from martlet.errors import MartletError, NotAvailable
from martlet.names import ModelRef
from martlet.servable import DEFAULT_SIGNATURE, Servable, check_inputs
from martlet.serving.lane import Lane
from martlet.serving.traffic import Content, Table, Variant
from martlet.tensors import Tensor


class Prediction(NamedTuple):
    """What a model answered, and which version of it did."""

    name: str
    version: int
    outputs: dict[str, Tensor]


class Engine:
    """
    Answers from the table whose number is in force.

    Any thread may call it. Which number is in force is one word, read at every request; the
    workers of a server share it, so that all of them turn to a new table at the same moment.

    Args:
        force: The word. Its owner writes a number after every engine has prepared that table.
    """

    def __init__(self, force: MutableSequence[int] | memoryview | None = None) -> None:
        self._force: MutableSequence[int] | memoryview = [0] if force is None else force
        self._prepared: dict[int, Table] = {0: Table()}
        self._number = 0
        self._table = self._prepared[0]
        self._lock = threading.Lock()

    def prepare(self, number: int, table: Table) -> None:
        """Be ready to answer from *table* once *number* is in force. Numbers only rise."""
        with self._lock:
            self._prepared[number] = table

    def publish(self, table: Table) -> None:
        """Answer from *table* from now on: for an engine that shares its word with nobody."""
        number = max(self._prepared) + 1
        self.prepare(number, table)
        self._force[0] = number

    @property
    def force(self) -> MutableSequence[int] | memoryview:
        """The word: what was made for the table of one number is valid while the word is that."""
        return self._force

    @property
    def number(self) -> int:
        """The number of the table last answered from."""
        return self._number

    @property
    def table(self) -> Table:
        """The table in force. A request reads it once."""
        if self._force[0] != self._number:
            self._turn()
        return self._table

    def _turn(self) -> None:
        with self._lock:
            number = self._force[0]
            # A worker that is starting may lag behind: it listens only once it has prepared.
            if number in self._prepared:
                # In this order: a reader without the lock must not get the new number and the old
                # table.
                self._table = self._prepared[number]
                self._number = number
                for old in [each for each in self._prepared if each < number]:
                    del self._prepared[old]

    def lane(self, ref: ModelRef) -> Lane | None:
        """Return the lane of the variant that *ref* names; None: no variant answers to it."""
        try:
            return self.table.variant(ref).lane
        except MartletError:
            return None

    @contextmanager
    def lease(self, ref: ModelRef) -> Iterator[Variant[Servable]]:
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

    def acquire(self, ref: ModelRef) -> Variant[Servable]:
        """Take a lease on the variant that *ref* names; the caller must ``release`` it."""
        variant = self.table.variant(ref)
        return variant if variant.acquire() else self._next(variant, self._variant, ref)

    def acquire_recommender(self, ref: ModelRef) -> Variant[object]:
        """Take a lease on the recommender that *ref* names; the caller must ``release`` it."""
        variant = self.table.recommender(ref)
        return variant if variant.acquire() else self._next(variant, self._recommender, ref)

    def _variant(self, ref: ModelRef) -> Variant[Servable]:
        return self.table.variant(ref)

    def _recommender(self, ref: ModelRef) -> Variant[object]:
        return self.table.recommender(ref)

    @staticmethod
    def _next(
        variant: Variant[Content], find: Callable[[ModelRef], Variant[Content]], ref: ModelRef
    ) -> Variant[Content]:
        """Lease the successor of *variant*, which began to drain after the table was read."""
        while (following := find(ref)) is not variant:
            if following.acquire():
                return following
            # It has been replaced as well.
            variant = following
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
    variant: Variant[Servable],
    inputs: Mapping[str, ArrayLike],
    signature_name: str = DEFAULT_SIGNATURE,
) -> Prediction:
    """Check *inputs* and predict with *variant*, which the caller holds a lease on."""
    outputs = outputs_of(variant.servable, inputs, signature_name)
    return Prediction(variant.name, variant.version, outputs)


def outputs_of(
    servable: Servable, inputs: Mapping[str, ArrayLike], signature_name: str
) -> dict[str, Tensor]:
    """Check *inputs* and predict; the caller holds a lease on the variant of *servable*."""
    signature = servable.signatures.get(signature_name)
    if signature is not None and signature.fits(inputs):
        return servable.predict(inputs, signature_name)
    called, checked = check_inputs(servable, signature_name, inputs)
    return servable.predict(checked, called)
