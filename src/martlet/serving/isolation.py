"""A version in processes of its own, as many as it has calls at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from queue import LifoQueue

from martlet.servable import DEFAULT_SIGNATURE, Servable
from martlet.tensors import Signature, Tensor, Tensors


class Pool:
    """
    Equal servables; each call takes one that is free.

    Args:
        open_one: Opens one. All are opened now: a version is ready when all of them are.
        count: How many.
    """

    def __init__(self, open_one: Callable[[], Servable], count: int) -> None:
        self._all: list[Servable] = []
        try:
            for _ in range(count):
                self._all.append(open_one())
        except BaseException:
            self.close()
            raise
        # Last in, first out: the one used last has warm caches.
        self._free: LifoQueue[Servable] = LifoQueue()
        for each in self._all:
            self._free.put(each)

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """Those of the servables, which are equal."""
        return self._all[0].signatures

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """Predict with a free one; wait until one is."""
        chosen = self._free.get()
        try:
            return chosen.predict(inputs, signature_name)
        finally:
            self._free.put(chosen)

    def close(self) -> None:
        """Close each."""
        for each in self._all:
            each.close()
