"""martlet's own API: the bodies of ``:recommend`` and ``:rank``, to values and back.

``POST /v1/recommenders/films:recommend`` takes::

    {"user": 42, "size": 10, "context": {"device": "tv"}, "history": [318, 50], "exclude": [1]}

where ``user`` is the word that the declaration calls its unit (``unit`` always works too); only it
is usual, and even it may be absent. ``POST /v1/models/ctr:rank`` takes what all items share once,
and a column an input::

    {"context": {"user_id": 4242}, "items": {"item_id": [1, 2, 3], "price": [9.5, 3.0, 7.25]}}

or, where a recommender joins the features, no more than the keys::

    {"recommender": "films", "user": 42, "items": [1, 2, 3]}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from martlet.errors import InvalidInput
from martlet.tensors import DType, Signature, Spec, Tensor, repeated
from martlet.wire.document import Document
from martlet.wire.elements import in_one_piece

_RECOMMEND = {"unit", "size", "context", "history", "exclude"}
_RANK = {"context", "items", "signature_name", "output"}
_JOINED = {"unit", "recommender", "items", "context", "history"}


@dataclass(frozen=True, slots=True)
class RecommendRequest:
    """What ``:recommend`` was asked, checked for type; whether the values exist is seen later."""

    unit: int | str | None
    size: int | None
    context: Mapping[str, Any]
    history: NDArray[Any] | None
    exclude: NDArray[Any] | None


def recommend_request(document: Document, unit: str) -> RecommendRequest:
    """
    Read a ``:recommend`` body.

    Args:
        unit: What the declaration calls its unit: the body's key for it.

    Raises:
        InvalidInput: a key is unknown, or its value of the wrong type.
    """
    _no_others(document, {unit, *_RECOMMEND})
    size = document.get("size")
    if size is not None and not _is_integer(size):
        raise InvalidInput(f"'size' is {size!r}; a whole number is wanted")
    return RecommendRequest(
        unit=_unit(document, unit),
        size=size,
        context=_context(document),
        history=_keys(document, "history"),
        exclude=_keys(document, "exclude"),
    )


@dataclass(frozen=True, slots=True)
class JoinedRankRequest:
    """A ``:rank`` whose features a recommender joins."""

    recommender: str
    unit: int | str | None
    items: NDArray[Any]
    context: Mapping[str, Any]
    history: NDArray[Any] | None


def is_joined(document: Document) -> bool:
    """Whether a ``:rank`` body leaves the features to a recommender."""
    return "recommender" in document


def joined_rank_request(document: Document, unit: str) -> JoinedRankRequest:
    """
    Read a ``:rank`` body that names a recommender; as ``recommend_request``.

    Raises:
        InvalidInput: a key is missing, unknown, or of the wrong type.
    """
    _no_others(document, {unit, *_JOINED})
    items = _keys(document, "items")
    if items is None or len(items) == 0:
        raise InvalidInput("'items' is missing or empty; a list of item keys is wanted")
    return JoinedRankRequest(
        recommender=recommender_name(document),
        unit=_unit(document, unit),
        items=items,
        context=_context(document),
        history=_keys(document, "history"),
    )


def recommender_name(document: Document) -> str:
    """
    Return the recommender that a ``:rank`` body names.

    Raises:
        InvalidInput: the name is not text.
    """
    name = document["recommender"]
    if not isinstance(name, str):
        raise InvalidInput(f"'recommender' is {name!r}; its name is wanted")
    return name


def text_of(document: Document, key: str, default: str) -> str:
    """
    Return the text under *key*, or *default* where it is absent.

    Raises:
        InvalidInput: it is something else.
    """
    value = document.get(key, default)
    if not isinstance(value, str):
        raise InvalidInput(f"{key!r} is {_sample(value)}; text is wanted")
    return value


def names_of(document: Document) -> set[str]:
    """Return the names of the inputs that a ``:rank`` body brings, for one item or for all."""
    parts = (document.get("context"), document.get("items"))
    return {name for part in parts if isinstance(part, dict) for name in part}


def rank_inputs(document: Document, signature: Signature) -> dict[str, Tensor]:
    """
    Return the signature's inputs from a ``:rank`` body, each with one row an item.

    A value in ``context`` is one row that all items share: a scalar, or one row's own list. A
    value in ``items`` has a row for each item.

    Raises:
        InvalidInput: an input is missing, given twice or unknown; rows differ in number; or a
            value does not fit the input's dtype or shape.
    """
    _no_others(document, _RANK)
    context, items = _context(document), document.get("items")
    if not isinstance(items, dict) or not items:
        raise InvalidInput(
            "'items' is missing or empty; a column of values for each input is wanted, as in "
            '{"item_id": [1, 2, 3]}'
        )
    counts = {name: len(v) if isinstance(v, list) else -1 for name, v in items.items()}
    n = next(iter(counts.values()))
    if n == 0:
        raise InvalidInput(f"items[{next(iter(items))!r}] is empty; one item at least is wanted")
    for name, count in counts.items():
        if count == -1:
            raise InvalidInput(f"items[{name!r}] is {_sample(items[name])}; a list is wanted")
        if count != n:
            first = next(iter(counts))
            raise InvalidInput(
                f"items[{name!r}] has {count} values and items[{first!r}] has {n}: one for each "
                "item is wanted"
            )
    twice = context.keys() & items.keys()
    if twice:
        raise InvalidInput(f"{sorted(twice)[0]!r} is in 'context' and in 'items'; give it once")
    inputs: dict[str, Tensor] = {}
    for name, spec in signature.inputs.items():
        if name in items:
            inputs[name] = _rows(spec, items[name], n)
        elif name in context:
            inputs[name] = _shared(spec, context[name], n)
    for name in (*items, *context):
        if name not in signature.inputs:
            known = ", ".join(map(repr, signature.inputs))
            raise InvalidInput(f"the model has no input {name!r}; its inputs are {known}")
    return inputs


def _rows(spec: Spec, values: list[Any], n: int) -> Tensor:
    array = _array(spec, values)
    if spec.shape is not None and array.ndim == 1 and len(spec.shape) == 2:
        return array.reshape(n, 1)
    return array


def _shared(spec: Spec, value: Any, n: int) -> Tensor:
    """Return *value*, one row that came bare (4242, [0.5]) or as one of rows ([[0.5]]), n times."""
    row = _array(spec, value)
    rank = 1 if spec.shape is None else len(spec.shape)
    if rank == 0:
        return row
    if row.ndim == 0:
        # A bare scalar is a row of one, however deep.
        row = row.reshape((1,) * rank)
    elif row.ndim == rank - 1:
        row = row.reshape((1, *row.shape))
    if row.ndim != rank or len(row) != 1:
        raise InvalidInput(
            f"context[{spec.name!r}] has shape {list(row.shape)}; one row of {spec} is wanted"
        )
    return repeated(row, n)


def _array(spec: Spec, value: Any) -> Tensor:
    wanted = spec.dtype.numpy
    try:
        found = np.array(value, dtype=object if spec.dtype is DType.STRING else None)
    except ValueError:
        raise InvalidInput(f"{spec.name!r} is a ragged list; {spec} is wanted") from None
    if spec.dtype is DType.STRING:
        kinds = (str, int, float) if spec.takes_numbers else str
        if not all(isinstance(each, kinds) for each in found.ravel()):
            raise InvalidInput(f"{spec.name!r} holds more than text; {spec} is wanted")
        return found
    kind = "b" if spec.dtype is DType.BOOL else "iu" if spec.dtype.is_integer else "iuf"
    if found.size == 0:
        return found.astype(wanted)
    if found.dtype.kind not in kind:
        raise InvalidInput(f"{spec.name!r} holds {_sample(value)}; {spec} is wanted")
    if spec.dtype.is_integer:
        info = np.iinfo(wanted)
        if found.min() < info.min or found.max() > info.max:
            raise _beyond(spec)
    with np.errstate(over="ignore"):
        cast = found.astype(wanted)
    if spec.dtype.is_float and not np.isfinite(cast).all():
        raise _beyond(spec)
    return cast


def _beyond(spec: Spec) -> InvalidInput:
    return InvalidInput(f"{spec.name!r} holds a value beyond {spec.dtype.value}")


def _sample(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _no_others(document: Document, known: set[str]) -> None:
    for key in document:
        if key not in known:
            raise InvalidInput(f"the body has {key!r}; it takes {', '.join(sorted(known))}")


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _unit(document: Document, unit: str) -> int | str | None:
    if unit in document and "unit" in document and unit != "unit":
        raise InvalidInput(f"the body has both {unit!r} and 'unit'; give one")
    value = document.get(unit, document.get("unit"))
    if value is not None and not (_is_integer(value) or isinstance(value, str)):
        raise InvalidInput(f"{unit!r} is {value!r}; a whole number or text is wanted")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise InvalidInput(f"{unit!r} is {value}, beyond 64 bits")
    return value


def _context(document: Document) -> Mapping[str, Any]:
    context = document.get("context", {})
    if not isinstance(context, dict):
        raise InvalidInput(f"'context' is {_sample(context)}; an object of values is wanted")
    return context


def _keys(document: Document, name: str) -> NDArray[Any] | None:
    """Return a list of item keys as int64 [n], or an object array of str; None if absent."""
    values = document.get(name)
    if values is None:
        return None
    if isinstance(values, list):
        if not values:
            return np.empty(0, np.int64)
        kinds = set(map(type, values))
        if kinds == {int}:
            try:
                return np.array(values, dtype=np.int64)
            except OverflowError:
                raise InvalidInput(f"{name!r} holds a key beyond 64 bits") from None
        if kinds == {str}:
            return np.array(values, dtype=object)
    raise InvalidInput(
        f"{name!r} is {_sample(values)}; a list of item keys is wanted, all numbers or all text"
    )


def slate_reply(
    recommender: str,
    unit: tuple[str, int | str | None],
    columns: Mapping[str, NDArray[Any]],
    sources: Sequence[str],
    about: Mapping[str, Any],
) -> bytes:
    """
    Return the body that answers ``:recommend``.

    Args:
        columns: ``item``, ``score`` and the reply's features, each [n].
        sources: Of each item.
        about: What else is said of the slate as a whole.
    """
    names = [*columns, "source"]
    plain = [_plain(values) for values in columns.values()]
    items = [dict(zip(names, row, strict=True)) for row in zip(*plain, sources, strict=True)]
    name, key = unit
    return orjson.dumps({"recommender": recommender, name: key, **about, "items": items})


def scores_reply(model: str, version: int, scores: NDArray[Any]) -> bytes:
    """
    Return the body that answers ``:rank``: the scores in the order of the items.

    Raises:
        InvalidInput: they are text: another output is the score.
    """
    if scores.dtype.kind not in "fiub":
        raise InvalidInput("that output holds text; name in 'output' the one that is the score")
    values: Any = in_one_piece(scores)
    if scores.dtype.kind == "f" and not np.isfinite(scores).all():
        values = _plain(scores)
    return orjson.dumps(
        {"model": model, "version": version, "scores": values},
        option=orjson.OPT_SERIALIZE_NUMPY,
    )


def scores_begin(model: str, version: int) -> bytes:
    """Return what ``scores_reply`` begins with, up to the scores; a brace follows them."""
    return orjson.dumps({"model": model, "version": version})[:-1] + b',"scores":'


def _plain(values: NDArray[Any]) -> list[Any]:
    """Return *values* as JSON has them: a float that is not a number is null."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        holed = values.astype(object)
        holed[~np.isfinite(values)] = None
        return list(holed.tolist())
    return list(values.tolist())
