"""What PFA calls an exception: a number and a sentence, or the user's own."""

from __future__ import annotations


class Failure(Exception):
    """
    A PFA exception while an engine runs.

    Args:
        code: PFA's number of it; a user's own number, or None where the user gave none.
        text: What went wrong.
        user: Whether the document raised it itself, with ``error``.
    """

    def __init__(self, code: int | None, text: str, user: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.user = user

    def __str__(self) -> str:
        number = "" if self.code is None else f" (#{self.code})"
        return f"{self.text}{number}"
