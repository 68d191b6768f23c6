"""One table of a TOML file, read key by key with messages that say where and what is wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from martlet.errors import InvalidInput
from martlet.recommend.declaration import Scalar


class Part:
    """One TOML table, read key by key; ``finish`` then refuses keys that were not read."""

    def __init__(self, content: object, where: str) -> None:
        if not isinstance(content, dict):
            raise InvalidInput(f"{where} is {_kind(content)}; a table of keys is wanted")
        self._content: dict[str, Any] = content
        self._read: set[str] = set()
        self.where = where

    def __contains__(self, key: str) -> bool:
        return key in self._content

    def names(self) -> list[str]:
        return list(self._content)

    def part(self, key: str) -> Part:
        self._read.add(key)
        return Part(self._content.get(key, {}), f"{self.where} [{key}]")

    def parts(self, key: str) -> list[Part]:
        self._read.add(key)
        content = self._content.get(key, [])
        if not isinstance(content, list):
            raise InvalidInput(f"{self.where}: write [[{key}]], with two brackets: it is a list")
        return [
            Part(each, f"{self.where} [[{key}]] number {i}") for i, each in enumerate(content, 1)
        ]

    def _get(self, key: str, default: object, accept: Callable[[Any], bool], what: str) -> Any:
        self._read.add(key)
        if key not in self._content:
            if default is None:
                raise InvalidInput(f"{self.where} lacks {key!r}: {what} is wanted")
            return default
        value = self._content[key]
        if not accept(value):
            raise InvalidInput(f"{self.where}: {key!r} is {value!r}; {what} is wanted")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        found: str = self._get(key, default, lambda v: isinstance(v, str), "text")
        return found

    def texts(self, key: str) -> list[str]:
        found: list[str] = self._get(
            key,
            [],
            lambda v: isinstance(v, list) and all(isinstance(each, str) for each in v),
            "a list of text",
        )
        return found

    def number(self, key: str, default: int | None, least: int) -> int:
        found: int = self._get(
            key,
            default,
            lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= least,
            f"a whole number of {least} or more",
        )
        return found

    def share(self, key: str) -> float:
        found: float = self._get(
            key,
            None,
            lambda v: isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v <= 1,
            "a number from 0 to 1",
        )
        return float(found)

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        named = [each for each in choices if each]
        found: str = self._get(key, choices[0], lambda v: v in named, " or ".join(map(repr, named)))
        return found

    def scalar(self, key: str, default: Scalar | None = None) -> Scalar:
        found: Scalar = self._get(
            key, default, lambda v: isinstance(v, Scalar), "text, a number or a truth value"
        )
        return found

    def raw(self, key: str) -> Any:
        self._read.add(key)
        return self._content.get(key)

    def finish(self) -> None:
        """Refuse a key that has not been read: it is misspelt, or in the wrong table."""
        unknown = [key for key in self._content if key not in self._read]
        if unknown:
            known = ", ".join(sorted(self._read))
            raise InvalidInput(f"{self.where} does not take {unknown[0]!r}; it takes: {known}")


def _kind(value: object) -> str:
    return f"{type(value).__name__} {value!r}"
