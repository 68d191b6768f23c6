"""Events: what is reported of each answer, to whatever counts them, at little cost."""

from __future__ import annotations

from typing import Protocol

from martlet.errors import Code


class Sink(Protocol):
    """Is told of every answer. Called from any thread; must return at once and never raise."""

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
            model: Its name.
            version: The version that answered; 0 where none did.
            code: The error's; None: no error.
            rows: How many rows were scored.
            total_ns: Nanoseconds from the parsed request head to the written body.
            model_ns: How many of those the model took.
        """
        ...


class Nobody:
    """A sink that keeps nothing."""

    def answered(self, *_: object) -> None:
        """Keep nothing."""


NOBODY = Nobody()
