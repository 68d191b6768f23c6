"""The order of values, as Avro has it: by the places of symbols, by the fields of records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from martlet.formats.pfa.types import NULL, Array, Enum, Fixed, Map, Primitive, Record, Type, Union
from martlet.formats.pfa.values import Convert, test


def key_of(of: Type) -> Convert | None:
    """
    Return the function from a value to what Python orders as PFA orders the values.

    None: the values themselves are so ordered.
    """
    if isinstance(of, Primitive | Fixed):
        return None if of != NULL else (lambda v: 0)
    if isinstance(of, Enum):
        return lambda v: v.place
    if isinstance(of, Array):
        item = key_of(of.items)
        return None if item is None else lambda v: [item(each) for each in v]
    return lambda v: _key(of, v)


@dataclass(frozen=True, slots=True)
class _Descending:
    key: Any

    def __lt__(self, other: _Descending) -> bool:
        return bool(other.key < self.key)


def _key(of: Type, v: Any) -> Any:
    if isinstance(of, Record):
        return [
            _Descending(_key(each, v[name]))
            if of.orders.get(name) == "descending"
            else _key(each, v[name])
            for name, each in of.fields.items()
            if of.orders.get(name) != "ignore"
        ]
    if isinstance(of, Map):
        return sorted((k, _key(of.values, each)) for k, each in v.items())
    if isinstance(of, Union):
        for i, each in enumerate(of.types):
            if test(each)(v):
                return (i, _key(each, v))
        return (len(of.types), 0)
    if isinstance(of, Array):
        return [_key(of.items, each) for each in v]
    if isinstance(of, Enum):
        return v.place
    return 0 if v is None else v
