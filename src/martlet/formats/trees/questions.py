"""What a node of a tree may ask of a row: tests in three-valued logic, as values may be missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Comparison = Literal["<", "<=", ">", ">=", "==", "!="]


@dataclass(frozen=True, slots=True)
class Compare:
    """Whether a feature's value stands so to *value*; unknown where it is missing."""

    feature: int
    operator: Comparison
    value: float


@dataclass(frozen=True, slots=True)
class Member:
    """Whether a feature's value is one of *codes*, integers >= 0; unknown where it is missing."""

    feature: int
    codes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Missing:
    """Whether a feature's value is missing; never unknown."""

    feature: int


@dataclass(frozen=True, slots=True)
class Not:
    """The contrary; unknown where the part is."""

    part: Predicate


@dataclass(frozen=True, slots=True)
class And:
    """Whether every part holds: false if one is false, else unknown if one is unknown."""

    parts: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Whether one part holds: true if one is true, else unknown if one is unknown."""

    parts: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Xor:
    """Whether an odd number of parts holds; unknown if one is unknown."""

    parts: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Surrogate:
    """What the first part says that is not unknown."""

    parts: tuple[Predicate, ...]


Predicate = bool | Compare | Member | Missing | Not | And | Or | Xor | Surrogate
"""A test in three-valued logic; True and False are themselves."""


_CONTRARY: dict[Comparison, Comparison] = {
    "<": ">=",
    "<=": ">",
    ">": "<=",
    ">=": "<",
    "==": "!=",
    "!=": "==",
}


def is_contrary(one: Predicate, other: Predicate) -> bool:
    """Whether *other* holds exactly where *one* does not, and is unknown where *one* is."""
    match one, other:
        case Compare(), Compare():
            return other == Compare(one.feature, _CONTRARY[one.operator], one.value)
        case Not(part), _:
            return part == other
        case _, Not(part):
            return part == one
    return False
