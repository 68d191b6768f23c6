"""What a stage does with a value it cannot use: refuse it, drop the row, or keep it apart."""

from __future__ import annotations

from enum import Enum

from martlet.errors import UnsupportedModel


class Invalid(Enum):
    """Spark's ``handleInvalid``."""

    ERROR = "error"
    SKIP = "skip"
    KEEP = "keep"

    @classmethod
    def named(cls, name: str, stage: str) -> Invalid:
        """
        Return the way called *name*.

        Raises:
            UnsupportedModel: there is none.
        """
        try:
            return cls(name)
        except ValueError:
            raise UnsupportedModel(
                f"{stage}: handleInvalid is {name!r}; known are error, skip and keep"
            ) from None
