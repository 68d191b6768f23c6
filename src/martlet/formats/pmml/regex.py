"""Java's and XQuery's regular expressions, as PMML holds them, for Python's ``re``."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache

# Java's classes are ASCII's, except where a flag asks for all of Unicode.
_ASCII = {"w": "[a-zA-Z0-9_]", "d": "[0-9]", "s": r"[ \t\n\x0b\f\r]"}
_UNICODE = {"w": r"\w", "d": r"\d", "s": r"\s"}
_POSIX = {
    "Lower": "a-z",
    "Upper": "A-Z",
    "ASCII": r"\x00-\x7f",
    "Alpha": "a-zA-Z",
    "Digit": "0-9",
    "Alnum": "a-zA-Z0-9",
    "Punct": r"!-/:-@\[-`{-~",
    "Graph": "!-~",
    "Print": " -~",
    "Blank": r" \t",
    "Cntrl": r"\x00-\x1f\x7f",
    "XDigit": "0-9a-fA-F",
    "Space": r" \t\n\x0b\f\r",
}
_SPOKEN = {
    "Alphabetic": ("L", "Nl"),
    "Letter": ("L",),
    "Uppercase": ("Lu",),
    "Lowercase": ("Ll",),
    "Titlecase": ("Lt",),
    "Punctuation": ("P",),
    "Digit": ("Nd",),
    "White_Space": ("Z",),
    "Control": ("Cc",),
}
_SCRIPTS = {
    "Arabic": "ARABIC",
    "Cyrillic": "CYRILLIC",
    "Greek": "GREEK",
    "Han": "CJK UNIFIED",
    "Hangul": "HANGUL",
    "Hebrew": "HEBREW",
    "Hiragana": "HIRAGANA",
    "Katakana": "KATAKANA",
    "Latin": "LATIN",
    "Thai": "THAI",
}
"""How the names of a script's characters start."""
_ESCAPES = {
    "h": r"[ \t\xa0\u1680\u180e\u2000-\u200a\u202f\u205f\u3000]",
    "R": r"(?:\r\n|[\n-\r\x85\u2028\u2029])",
    "z": r"\Z",
    "Z": r"(?=\n?\Z)",
    "e": r"\x1b",
}
_PROPERTY = re.compile(r"\\([pP])(?:\{\^?(?:Is|general_category=)?(\w+)\}|(\w))")
_NAMED = re.compile(r"\(\?<(\w+)>")
_BACK = re.compile(r"\\k<(\w+)>")
_FLAGS = re.compile(r"\(\?([a-zA-Z]+)\)")
_QUOTED = re.compile(r"\\Q(.*?)(?:\\E|\Z)", re.DOTALL)
_CODE = re.compile(r"\\x\{([0-9a-fA-F]+)\}")
_REPLACED = re.compile(r"\\(.)|\$(\d+)|\$\{(\w+)\}|(\\)", re.DOTALL)


@cache
def pattern(regex: str, flags: int = 0) -> re.Pattern[str]:
    """
    Return *regex*, written for Java or XQuery, compiled.

    Raises:
        ValueError: it is none that Python's ``re`` can run.
    """
    try:
        return re.compile(_Translation(regex).run(), flags)
    except (re.error, IndexError, OverflowError) as exc:
        raise ValueError(f"{regex!r} is not a regular expression: {exc}") from None


def template(replacement: str) -> str:
    """Return a replacement written with Java's ``$1`` as Python's ``\\g<1>``."""

    def one(found: re.Match[str]) -> str:
        if found[1] is not None:
            return "\\\\" if found[1] == "\\" else found[1]
        if found[4] is not None:
            return "\\\\"
        return rf"\g<{found[2] or found[3]}>"

    return _REPLACED.sub(one, replacement)


class _Translation:
    """One regular expression, read from left to right."""

    def __init__(self, regex: str) -> None:
        self.regex, self.at = regex, 0
        self.classes = _UNICODE if re.match(r"\(\?[a-zA-Z]*[uU]", regex) else _ASCII

    def run(self) -> str:
        pieces: list[str] = []
        while self.at < len(self.regex):
            pieces.append(self._piece(is_start=not pieces))
        return "".join(pieces)

    def _took(self, found: re.Match[str] | None) -> re.Match[str] | None:
        if found is not None:
            self.at = found.end()
        return found

    def _piece(self, is_start: bool) -> str:
        regex = self.regex
        if regex[self.at] == "[":
            self.at += 1
            return self._bracket()
        if regex[self.at] == "\\":
            return self._escape()
        if named := self._took(_NAMED.match(regex, self.at)):
            return f"(?P<{named[1]}>"
        if flagged := self._took(_FLAGS.match(regex, self.at)):
            # Java's d, u and U have no twin here: Python folds all of Unicode.
            letters = "".join(c for c in flagged[1] if c not in "duU")
            if not letters:
                return ""
            if is_start:
                return f"(?{letters})"
            raise ValueError(f"{regex!r} sets flags in its midst, which is not supported")
        self.at += 1
        return regex[self.at - 1]

    def _escape(self) -> str:
        """Translate what a backslash starts, outside of brackets or as a class of its own."""
        regex = self.regex
        if found := self._took(_PROPERTY.match(regex, self.at)):
            inside = _members(found[2] or found[3])
            return f"[{'^' if found[1] == 'P' else ''}{inside}]"
        if found := self._took(_BACK.match(regex, self.at)):
            return f"(?P={found[1]})"
        if found := self._took(_QUOTED.match(regex, self.at)):
            return re.escape(found[1])
        if found := self._took(_CODE.match(regex, self.at)):
            return re.escape(chr(int(found[1], 16)))
        letter = regex[self.at + 1]
        self.at += 2
        if letter in self.classes:
            return self.classes[letter]
        if letter.lower() in self.classes and letter in "WDS":
            simple = self.classes[letter.lower()]
            return f"[^{simple[1:]}" if simple[0] == "[" else f"\\{letter}"
        if letter.isalpha() and letter not in "abBAfnrtvxu" and letter not in _ESCAPES:
            raise ValueError(f"{regex!r} holds \\{letter}, which is not supported")
        return _ESCAPES.get(letter, f"\\{letter}")

    def _bracket(self) -> str:
        """Translate a character class whose ``[`` has been read: a union, or an intersection."""
        regex = self.regex
        negated = regex[self.at] == "^"
        self.at += negated
        found: list[str] = []
        members, is_first = "", True
        others: list[str] = []
        while is_first or regex[self.at] != "]":
            is_first = False
            if regex.startswith("&&", self.at):
                self.at += 2
                found.append(_union(members, others))
                members, others = "", []
            elif regex[self.at] == "[":
                self.at += 1
                others.append(self._bracket())
            elif regex[self.at] == "\\":
                piece = self._escape()
                if piece[0] == "[":
                    others.append(piece)
                else:
                    members += piece
            else:
                # Python warns of what may mean more in later versions.
                members += "\\" * (regex[self.at] in "&~|") + regex[self.at]
                self.at += 1
        self.at += 1
        found.append(_union(members, others))
        if len(found) == 1:
            return _negated(found[0]) if negated else found[0]
        both = f"(?:{''.join(f'(?={each})' for each in found[:-1])}{found[-1]})"
        return _negated(both) if negated else both


def _union(members: str, others: list[str]) -> str:
    whole = members + "".join(each[1:-1] for each in others if _is_plain(each))
    parts = [each for each in others if not _is_plain(each)]
    if whole:
        parts.insert(0, f"[{whole}]")
    return parts[0] if len(parts) == 1 else f"(?:{'|'.join(parts)})"


def _is_plain(piece: str) -> bool:
    return piece[0] == "[" and piece[1] != "^"


def _negated(piece: str) -> str:
    if piece[0] == "[":
        return f"[{piece[2:]}" if piece[1] == "^" else f"[^{piece[1:]}"
    return f"(?:(?!{piece})[\\s\\S])"


@cache
def _members(name: str) -> str:
    """Return the characters that ``\\p{name}`` stands for, as they are written in brackets."""
    if name in _POSIX:
        return _POSIX[name]
    name = name.removeprefix("Is")
    if name in _SCRIPTS:
        return _ranges(lambda c: unicodedata.name(c, "").startswith(_SCRIPTS[name]))
    kinds = _SPOKEN.get(name, (name,))
    if not all(re.fullmatch(r"[CLMNPSZ][a-z]?", kind) for kind in kinds):
        raise ValueError(f"\\p{{{name}}} is not a supported character class")
    return _ranges(lambda c: unicodedata.category(c).startswith(kinds))


def _ranges(holds: Callable[[str], bool]) -> str:
    found: list[str] = []
    start = -1
    for code in range(0x30000):
        if holds(chr(code)):
            start = code if start < 0 else start
        elif start >= 0:
            found.append(f"\\U{start:08x}-\\U{code - 1:08x}")
            start = -1
    if not found:
        raise ValueError("a character class that holds nothing")
    return "".join(found)
