"""Names of models, versions and labels, written ``ctr``, ``ctr@3``, ``ctr@stable``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from martlet.errors import InvalidInput

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}")
_MAX_VERSION = 2**63 - 1


def check_name(name: str, kind: str = "model") -> str:
    """
    Return *name* if it may name a model, label or recommender.

    A name becomes a path and a URL segment, so it is 1 to 128 of ``A-Z a-z 0-9 _ . -`` and
    starts with a letter, digit or underscore.

    Raises:
        InvalidInput: it may not.
    """
    if _NAME.fullmatch(name) is None:
        raise InvalidInput(
            f"{name!r} cannot name a {kind}: use 1 to 128 letters, digits, '_', '-' or '.', "
            "starting with a letter, digit or '_'"
        )
    return name


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model and a version of it: by number, by label, or (neither) the latest that answers."""

    name: str
    version: int | None = None
    label: str | None = None

    @classmethod
    def parse(cls, text: str) -> ModelRef:
        """
        Read ``name``, ``name@3`` or ``name@label``.

        Raises:
            InvalidInput: a part is not a name.

        >>> ModelRef.parse("ctr@3")
        ModelRef(name='ctr', version=3, label=None)
        >>> str(ModelRef.parse("ctr@stable"))
        'ctr@stable'
        """
        name, at, which = text.partition("@")
        check_name(name)
        if not at:
            return cls(name)
        if which.isascii() and which.isdigit():
            return cls(name, version=read_version(which))
        return cls(name, label=check_name(which, "label"))

    def __str__(self) -> str:
        which = self.label if self.version is None else self.version
        return self.name if which is None else f"{self.name}@{which}"


def read_version(digits: str) -> int:
    """
    Return the version that *digits* write.

    Raises:
        InvalidInput: it is out of range.
    """
    # Python refuses to read thousands of digits, with an error of its own.
    significant = digits.lstrip("0")
    if len(significant) > len(str(_MAX_VERSION)):
        raise InvalidInput(
            f"a version of {len(significant)} digits is out of range: use 0 to {_MAX_VERSION}"
        )
    return check_version(int(significant or "0"))


def check_version(version: int) -> int:
    """
    Return *version* if it may number a version: 0 to 2**63 - 1, as TensorFlow Serving's int64.

    Raises:
        InvalidInput: it may not.
    """
    if not 0 <= version <= _MAX_VERSION:
        raise InvalidInput(f"version {version} is out of range: use 0 to {_MAX_VERSION}")
    return version
