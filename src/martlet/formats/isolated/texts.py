"""Text between two processes: as codes of values that both have (dictionary encoding)."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from martlet.tensors import Tensor

Codes = NDArray[np.uint32]
Texts = Sequence[str | bytes | None]

MOST_VALUES, MOST_CHARACTERS = 1 << 15, 1 << 22
"""Of what both sides keep: who sends forgets all before there are more."""

# What will not come again is not worth keeping: documents, and a batch in which much is new.
_LONG = 256  # characters
_MANY, _MUCH = 64, 0.25
_MOST_PASSED = 64  # batches that are not looked at after one that was not worth it


class Encoder:
    """
    Makes codes of text; each value is told to the other side once.

    Text is what is ``str`` or ``bytes``; anything else is missing.
    """

    def __init__(self) -> None:
        self._codes: dict[str | bytes | None, int] = {}
        self._characters = 0
        self._patience: dict[tuple[str, ...], _Patience] = {}

    def encode(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Codes], bytes] | None:
        """
        Return each tensor's codes, and what the other side has to learn first (``b""``: nothing).

        None: it is not worth keeping, and is to be sent as it is.

        Raises:
            UnicodeError: a text is none: it holds half of a character.
        """
        patience = self._patience.setdefault(tuple(tensors), _Patience())
        if patience.passes():
            return None
        lists = [each.ravel().tolist() for each in tensors.values()]
        told = b""
        try:
            codes = list(map(self._looked_up, lists))
        except (KeyError, TypeError):  # a value is new, or no text
            lists = [list(map(_text_or_none, values)) for values in lists]
            new = [value for value in set(chain(*lists)) if value not in self._codes]
            much = len(new) > max(_MANY, _MUCH * sum(map(len, lists)))
            if much or _longest(new) > _LONG or not self._room_for(new):
                patience.lose()
                return None
            told = self._learnt(new)
            codes = list(map(self._looked_up, lists))
        patience.lost = 0
        found = zip(tensors.items(), codes, strict=True)
        return {name: each.reshape(tensor.shape) for (name, tensor), each in found}, told

    def _looked_up(self, values: list[Any]) -> Codes:
        return np.fromiter(map(self._codes.__getitem__, values), np.uint32, len(values))

    def _room_for(self, new: Texts) -> bool:
        """Return whether there is room for *new*; if there is not, forget all."""
        self._characters += _characters(new)
        if len(self._codes) + len(new) <= MOST_VALUES and self._characters <= MOST_CHARACTERS:
            return True
        self._codes.clear()
        self._characters = 0
        return False

    def _learnt(self, new: Texts) -> bytes:
        begun = len(self._codes)
        told = dumped([begun, list(map(packed, new))])
        self._codes.update(zip(new, range(begun, begun + len(new)), strict=True))
        return told


class _Patience:
    """After batches of a kind that were not worth it, more and more of them are not looked at."""

    def __init__(self) -> None:
        self.lost = self._to_pass = 0

    def passes(self) -> bool:
        self._to_pass -= 1
        return self._to_pass >= 0

    def lose(self) -> None:
        self.lost += 1
        self._to_pass = min(2**self.lost, _MOST_PASSED)


class Decoder:
    """Makes text of the codes that the other side's encoder made."""

    def __init__(self) -> None:
        self._values = np.empty(16, object)
        self._count = self._characters = 0

    def learn(self, told: Any) -> None:
        """
        Keep the values that the encoder told.

        Raises:
            TypeError, ValueError: no encoder tells that.
        """
        begun, given = told
        if begun == 0:
            self._values, self._count, self._characters = np.empty(16, object), 0, 0
        values = list(map(unpacked, given))
        count = self._count + len(values)
        self._characters += _characters(values)
        if begun != self._count or count > MOST_VALUES or self._characters > MOST_CHARACTERS:
            raise ValueError(f"{len(values)} values that come after {begun}")
        if count > len(self._values):
            grown = np.empty(max(count, 2 * len(self._values)), object)
            grown[: self._count] = self._values[: self._count]
            self._values = grown
        self._values[self._count : count] = values
        self._count = count

    def decode(self, codes: Codes) -> Tensor:
        """
        Return the text of *codes*, which the other side may change meanwhile.

        Raises:
            IndexError: one of them was never told.
        """
        known = self._values[: self._count]
        found: Tensor = known.take(codes.ravel())  # which copies them before it looks
        return found.reshape(codes.shape)


def packed(value: Any) -> Any:
    """Return as JSON what is text, else None."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return [base64.b64encode(value).decode()]
    return value if isinstance(value, str) else None


def unpacked(value: Any) -> str | bytes | None:
    """
    Return what ``packed`` was given; of bytes that are UTF-8, the text.

    Raises:
        TypeError, ValueError: it was given nothing that makes this.
    """
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise TypeError(f"{type(value).__name__} as text")
    (found,) = value
    return base64.b64decode(found, validate=True)


def dumped(told: Any) -> bytes:
    """
    Return *told* as JSON.

    Raises:
        UnicodeError: a text is none: it holds half of a character.
    """
    try:
        return orjson.dumps(told)
    except orjson.JSONEncodeError as exc:
        raise UnicodeError(str(exc)) from exc


def _text_or_none(value: Any) -> str | bytes | None:
    return value if isinstance(value, str | bytes) else None


def _characters(values: Texts) -> int:
    return sum(len(value) for value in values if value is not None)


def _longest(values: Texts) -> int:
    return max((len(value) for value in values if value is not None), default=0)
