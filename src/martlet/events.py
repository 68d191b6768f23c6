"""What the house says happened, to whoever keeps count: after the answer, and at little cost."""

from __future__ import annotations

from typing import Protocol

from martlet.errors import Code


class Sink(Protocol):
    """Hears of every answer. Called from any thread; must return at once and never raise."""

    def answered(
        self,
        door: str,
        api: str,
        model: str,
        version: int,
        code: Code | None,
        rows: int,
        total_ns: int,
        model_ns: int,
        /,
    ) -> None:
        """
        Note one answer.

        Args:
            door: ``REST`` or ``GRPC``.
            api: The method, as the protocol calls it: ``predict``, ``Predict``, ``ModelInfer``.
            version: That answered; 0 where none did.
            code: Of the error; None: it went well.
            rows: Scored.
            total_ns: From the parsed request head to the written body.
            model_ns: Of them, in the model.
        """
        ...


class Nobody:
    """A sink that keeps nothing."""

    def answered(self, *_: object) -> None:
        """Keep nothing."""


NOBODY = Nobody()
