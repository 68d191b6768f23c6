"""The replies of ``:predict``: tensors to JSON, by row or by column.

Numbers below a million are written by orjson, in C; the rest, with NaN and the infinities, by
``floats``. Both are read back as the same numbers.

Source: tensorflow_serving/util/json_tensor.cc (MakeJsonFromTensors).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from martlet.errors import InvalidInput
from martlet.tensors import Tensor
from martlet.wire.elements import in_one_piece
from martlet.wire.tfserving import floats

_NUMPY = orjson.OPT_SERIALIZE_NUMPY


def predictions(outputs: Mapping[str, Tensor]) -> bytes:
    """
    Return ``{"predictions": [...]}``, an element for each row.

    Raises:
        InvalidInput: an output has no rows, not as many as the others, or no form in JSON.
    """
    if len(outputs) == 1:
        [(name, only)] = outputs.items()
        if only.ndim == 0:
            raise InvalidInput(f"Tensor name: {name} has no shape information ")
        return BY_ROW + _json(name, only) + b"}"
    rows = _batch(outputs)
    if rows == 0:
        return b'{"predictions":[]}'
    if all(map(_plain, outputs.values())):
        names = tuple(outputs)
        columns = zip(*map(_by_row, outputs.values()), strict=True)
        return orjson.dumps(
            {"predictions": [dict(zip(names, row, strict=True)) for row in columns]},
            option=_NUMPY,
        )
    # One text for each row of each output, then woven together.
    written = [
        [orjson.dumps(name) + b":" + each for each in _rows(name, value)]
        for name, value in outputs.items()
    ]
    objects = b"},{".join(b",".join(row) for row in zip(*written, strict=True))
    return b'{"predictions":[{' + objects + b"}]}"


def outputs(values: Mapping[str, Tensor]) -> bytes:
    """
    Return ``{"outputs": ...}``: the one output bare, or an object of them.

    Raises:
        InvalidInput: an output has no form in JSON, or there is none.
    """
    if not values:
        raise InvalidInput("Cannot convert empty tensor map to JSON")
    if len(values) == 1:
        [(name, only)] = values.items()
        return BY_COLUMN + _json(name, only) + b"}"
    parts = (orjson.dumps(name) + b":" + _json(name, each) for name, each in values.items())
    return b'{"outputs":{' + b",".join(parts) + b"}}"


BY_ROW, BY_COLUMN = b'{"predictions":', b'{"outputs":'
"""What the reply of the only output begins with."""


def _batch(values: Mapping[str, Tensor]) -> int:
    """Return the rows that all of *values* have."""
    if not values:
        raise InvalidInput("Cannot convert empty tensor map to JSON")
    rows = -1
    for name, value in values.items():
        if value.ndim == 0:
            raise InvalidInput(f"Tensor name: {name} has no shape information ")
        if rows >= 0 and value.shape[0] != rows:
            raise InvalidInput(
                f"Tensor name: {name} has inconsistent batch size: {value.shape[0]} "
                f"expecting: {rows}"
            )
        rows = value.shape[0]
    return rows


def _plain(value: Tensor) -> bool:
    """Whether orjson may write *value* itself."""
    kind = value.dtype.kind
    if kind == "f":
        return value.itemsize > 2 and floats.is_plain(value.ravel())
    return kind in "iub"


def _by_row(value: Tensor) -> Any:
    """Return *value* as a sequence of what orjson writes: of numpy's scalars it knows not all."""
    if value.ndim == 1 and value.dtype.kind != "f":
        return value.tolist()
    return in_one_piece(value)


# What orjson writes otherwise than it should: no number at all, a million and more.
_ODD = re.compile(rb"null|[\[,-][0-9]{7}|e[0-9]")
_FEW = 32


def _json(name: str, value: Tensor) -> bytes:
    if value.size == 0:
        return _hollow(value.shape)
    if value.size <= _FEW and value.dtype.char in "fd" and value.shape:
        # Of a few numbers, a look at the text costs less than two reductions.
        try:
            text = orjson.dumps(value, option=_NUMPY)
        except orjson.JSONEncodeError:
            value = in_one_piece(value)
            text = orjson.dumps(value, option=_NUMPY)
        if _ODD.search(text) is None:
            return text
    if _plain(value):
        value = in_one_piece(value)
        if value.ndim == 0:
            return orjson.dumps(value.reshape(1), option=_NUMPY)[1:-1]
        return orjson.dumps(value, option=_NUMPY)
    if value.dtype.kind in "OSU":
        return _dumps(name, _words(name, value))
    return _nested(_texts(value), value.shape)


def _rows(name: str, value: Tensor) -> list[bytes]:
    """Return the JSON of each row of *value*."""
    if value.dtype.kind in "OSU":
        return [_dumps(name, row) for row in _words(name, value)]
    texts = _texts(value)
    size = value[0].size
    return [
        _nested(texts[at : at + size], value.shape[1:])
        for at in range(0, size * value.shape[0], size or 1)
    ] or [_nested(texts, value.shape[1:])] * value.shape[0]


def _texts(value: Tensor) -> Tensor:
    """Return each element's text, in order: bytes in an object array of rank 1."""
    flat = value.ravel()
    kind = value.dtype.kind
    if kind == "f":
        return floats.texts(flat)
    if kind not in "iub":
        raise InvalidInput(f"Failed to write JSON value for tensor type: {value.dtype.name}")
    found: Tensor = np.empty(flat.size, object)
    if flat.size:
        found[:] = orjson.dumps(in_one_piece(flat), option=_NUMPY)[1:-1].split(b",")
    return found


def _nested(texts: Tensor, shape: tuple[int, ...]) -> bytes:
    """Return *texts* in the brackets of *shape*."""
    if not shape:
        return bytes(texts[0])
    parts = texts.tolist()
    for size in reversed(shape):
        if size == 0:
            return _hollow(shape)
        parts = [
            b"[" + b",".join(parts[at : at + size]) + b"]" for at in range(0, len(parts), size)
        ]
    return bytes(parts[0])


def _hollow(shape: tuple[int, ...]) -> bytes:
    """Return the brackets of a *shape* that holds nothing."""
    text = b"[]"
    for size in reversed(shape[: shape.index(0)]):
        text = b"[" + ((text + b",") * size)[:-1] + b"]"
    return text


def _words(name: str, value: Tensor) -> Any:
    """Return *value*, of strings, as lists: text, or base64 where the name ends in ``_bytes``."""
    flat = value.ravel().tolist()
    if name.endswith("_bytes"):
        flat = [
            {"b64": base64.b64encode(v if isinstance(v, bytes) else str(v).encode()).decode()}
            for v in flat
        ]
    else:
        flat = [_text(name, v) for v in flat]
    found: Tensor = np.empty(len(flat), object)
    found[:] = flat
    return found.reshape(value.shape).tolist()


def _text(name: str, value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidInput(
            f"Failed to write JSON value for tensor {name}: it holds bytes that are not UTF-8; "
            "an output whose name ends in _bytes is written as base64, and gRPC takes any bytes"
        ) from None


def _dumps(name: str, value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError as exc:
        raise InvalidInput(f"Failed to write JSON value for tensor {name}: {exc}") from None
