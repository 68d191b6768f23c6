"""What every client can do, whichever protocol it speaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, Self

from numpy.typing import ArrayLike

from martlet.client.reply import Prediction


class Client(Protocol):
    """A server, asked from any number of threads. Close it, or use it in a ``with`` block."""

    def predict(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        timeout_s: float | None = None,
        signature_name: str | None = None,
    ) -> Prediction:
        """
        Return what *model* (``name``, ``name@3`` or ``name@label``) answers.

        Args:
            inputs: By name; lists become arrays as numpy makes them.
            timeout_s: After which it is given up; None waits as long as it takes.
            signature_name: Of which signature of the model; None: the one it shows, which is the
                default one where there is one.

        Raises:
            MartletError: the one that the server raised.
            NotAvailable: nobody listens there, or the connection broke.
            DeadlineExceeded: *timeout_s* has passed.
        """
        ...

    def ready(self) -> bool:
        """Return whether the server answers, and with every model that it should."""
        ...

    def close(self) -> None:
        """Close its connections."""
        ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(Protocol):
    """As ``Client``, for one event loop."""

    async def predict(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        timeout_s: float | None = None,
        signature_name: str | None = None,
    ) -> Prediction:
        """Return what *model* answers; as ``Client.predict``."""
        ...

    async def ready(self) -> bool:
        """Return whether the server answers, and with every model that it should."""
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
