"""A version in processes of its own, as many as it has calls at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from queue import LifoQueue

from martlet.servable import DEFAULT_SIGNATURE, Servable
from martlet.tensors import Signature, Tensor, Tensors


class Pool:
    """
    Servables that are the same, of which each call takes one that is free.

    Args:
        open_one: Opens one. Each is opened at once: a version is ready when all are.
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
        # The last one used is the one whose caches are warm.
        self._free: LifoQueue[Servable] = LifoQueue()
        for each in self._all:
            self._free.put(each)

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """Those of each."""
        return self._all[0].signatures

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """Predict with one that is free, once there is one."""
        chosen = self._free.get()
        try:
            return chosen.predict(inputs, signature_name)
        finally:
            self._free.put(chosen)

    def close(self) -> None:
        """Close each."""
        for each in self._all:
            each.close()
