"""The bodies of ``:predict``: JSON to named tensors, by row or by column.

Source: tensorflow_serving/util/json_tensor.cc (FillPredictRequestFromJson).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from operator import itemgetter
from typing import Any

import orjson

from martlet.errors import InvalidInput, MartletError
from martlet.tensors import Signature, Tensor
from martlet.wire.tfserving import rapidjson
from martlet.wire.tfserving.values import is_b64, shown, tensor

_QUOTED = {
    name: b'"%b"' % name.encode()
    for name in ("instances", "inputs", "signature_name", "examples", "context")
}

_MOST_NARROWER = 64  # sets of inputs that are kept of a signature with optional ones


def parse_object(body: bytes) -> dict[str, Any]:
    """
    Return the JSON object that *body* holds.

    Raises:
        InvalidInput: it holds none.
    """
    if not body:
        raise InvalidInput("JSON Parse error: The document is empty")
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = rapidjson.parse(body)
    else:
        # orjson keeps the last of two equal keys, upstream the first.
        if type(found) is dict:
            for name in found:
                if name in _QUOTED and body.count(_QUOTED[name]) > 1:
                    found = rapidjson.parse(body)
                    break
    if type(found) is not dict:
        raise InvalidInput(f"JSON Value: {shown(found)} Is not object")
    return found


def signature_name_of(document: dict[str, Any]) -> str:
    """
    Return the signature that *document* names; "" where it names none.

    Raises:
        InvalidInput: the name is not a string.
    """
    name = document.get("signature_name", "")
    if type(name) is not str:
        raise InvalidInput(
            f"JSON Value: {shown(document)} not formatted correctly. "
            "'signature_name' key must be a string value."
        )
    return name


def names_of(document: dict[str, Any]) -> set[str] | None:
    """Return the names of the inputs that *document* brings; None: it brings values without one."""
    rows = document.get("instances")
    given = rows[0] if type(rows) is list and rows else document.get("inputs")
    return set(given) if type(given) is dict and not is_b64(given) else None


class PredictDecoder:
    """
    Reads the inputs of one signature; made once for a signature, used for each request.

    Args:
        signature: Whose inputs are read.
        name: Of the signature, for messages.
    """

    __slots__ = ("_keys", "_name", "_names", "_narrower", "_required", "_row", "_signature")

    def __init__(self, signature: Signature, name: str) -> None:
        self._signature = signature
        self._name = name
        self._names = list(signature.inputs)
        self._keys = set(self._names)
        self._row: Callable[[Any], Any] = (
            itemgetter(*self._names) if self._names else lambda _: None
        )
        self._required = {name for name, spec in signature.inputs.items() if spec.required}
        self._narrower: dict[frozenset[str], PredictDecoder] = {}

    def decode(self, document: dict[str, Any]) -> tuple[dict[str, Tensor], bool]:
        """
        Return the tensors of *document*, and whether they came by row.

        Raises:
            InvalidInput: in upstream's words.
            Unimplemented: JSON has no form of an input's dtype.
        """
        if len(self._required) < len(self._names):
            brought = names_of(document)
            if brought and self._required <= brought < self._keys:
                return self._without(frozenset(brought)).decode(document)
        if not self._names:
            raise InvalidInput(f"Failed to get input map for signature: {self._name or 'DEFAULT'}")
        instances = document.get("instances", _ABSENT)
        inputs = document.get("inputs", _ABSENT)
        if instances is _ABSENT:
            if inputs is _ABSENT:
                raise InvalidInput("Missing 'inputs' or 'instances' key")
            return self._columns(inputs), False
        if inputs is not _ABSENT:
            raise InvalidInput(
                f"JSON Value: {shown(document)} Not formatted correctly expecting only one of "
                "'inputs' or 'instances' keys to exist"
            )
        if type(instances) is not list:
            raise InvalidInput(
                f"JSON Value: {shown(document)} Expecting 'instances' to be an list/array"
            )
        if not instances:
            raise InvalidInput(f"JSON Value: {shown(document)} No values in 'instances' array")
        return self._rows(instances), True

    def _without(self, brought: frozenset[str]) -> PredictDecoder:
        """Return the decoder of a signature that has no input but those *brought*."""
        found = self._narrower.get(brought)
        if found is None:
            inputs = {n: spec for n, spec in self._signature.inputs.items() if n in brought}
            found = PredictDecoder(replace(self._signature, inputs=inputs), self._name)
            if len(self._narrower) < _MOST_NARROWER:
                self._narrower[brought] = found
        return found

    def _rows(self, instances: list[Any]) -> dict[str, Tensor]:
        first = instances[0]
        objects = type(first) is dict and not is_b64(first)
        if not objects:
            if len(self._names) > 1:
                raise InvalidInput(
                    "instances is a plain list, but expecting list of objects as multiple input "
                    "tensors required as per tensorinfo_map"
                )
            try:
                return {self._names[0]: self._tensor(self._names[0], instances)}
            except MartletError:
                self._explain_rows(instances, objects)
                raise
        try:
            if {len(self._names)}.issuperset(map(len, instances)):
                return self._objects(instances)
        except (KeyError, TypeError, MartletError):
            self._explain_rows(instances, objects)
            raise
        self._explain_rows(instances, objects)
        raise InvalidInput("the objects of 'instances' do not all have the signature's inputs")

    def _objects(self, instances: list[Any]) -> dict[str, Tensor]:
        rows = map(self._row, instances)
        if len(self._names) == 1:
            return {self._names[0]: self._tensor(self._names[0], list(rows))}
        columns = zip(*rows, strict=True)
        return {
            name: self._tensor(name, list(column))
            for name, column in zip(self._names, columns, strict=True)
        }

    def _tensor(self, name: str, value: Any) -> Tensor:
        spec = self._signature.inputs[name]
        found = tensor(value, spec.dtype, spec.takes_numbers, spec.nullable)
        if found.shape == (0,) and spec.enforced and spec.shape and spec.shape[0] == -1:
            # No rows: of a list without an element nothing says how long a row would be.
            return found.reshape(0, *(max(size, 0) for size in spec.shape[1:]))
        return found

    def _columns(self, inputs: Any) -> dict[str, Tensor]:
        if type(inputs) is not dict or is_b64(inputs):
            if len(self._names) > 1:
                raise InvalidInput(
                    "inputs is a plain value/list, but expecting an object as multiple input "
                    "tensors required as per tensorinfo_map"
                )
            return {self._names[0]: self._tensor(self._names[0], inputs)}
        found = {}
        for name in self._names:
            if name not in inputs:
                raise InvalidInput(f"Missing named input: {name} in 'inputs' object.")
            try:
                found[name] = self._tensor(name, inputs[name])
            except MartletError as exc:  # in upstream's words, which leave out whose value it is
                raise type(exc)(f"input {name!r}: {exc}") from None
        return found

    # -- what upstream says of rows that do not fit --------------------------------------------

    def _explain_rows(self, instances: list[Any], objects: bool) -> None:
        """
        Walk the rows in upstream's order and raise its first complaint.

        Raises:
            InvalidInput: always, save where upstream would find no fault.
        """
        shapes: dict[str, list[int]] = {}
        for index, row in enumerate(instances):
            is_object = type(row) is dict and not is_b64(row)
            if is_object != objects:
                raise InvalidInput(
                    f"Expecting {'object but got list' if objects else 'value/list but got object'}"
                    f" at item {index} of input list"
                )
            where = f"Failed to process element: {index}"
            if not objects:
                self._explain_item(self._names[0], row, shapes, where)
                continue
            for key, value in row.items():
                self._explain_item(key, value, shapes, f"{where} key: {key}")
            if row.keys() != self._keys:
                raise InvalidInput(
                    f"{where} of 'instances' list. JSON object: {shown(row)} "
                    f"keys must be equal to: {','.join(sorted(self._names))}"
                )

    def _explain_item(
        self, name: str, value: Any, shapes: dict[str, list[int]], where: str
    ) -> None:
        try:
            self._check_item(name, value, shapes)
        except MartletError as exc:
            code = exc.code.name
            raise InvalidInput(f"{where} of 'instances' list. Error: {code}: {exc}") from None

    def _check_item(self, name: str, value: Any, shapes: dict[str, list[int]]) -> None:
        if name not in self._keys:
            raise InvalidInput(f"JSON object: does not have named input: {name}")
        spec = self._signature.inputs[name]
        found = tensor(value, spec.dtype, spec.takes_numbers, spec.nullable)
        expected = shapes.setdefault(name, list(found.shape))
        size = 1
        for each in expected:
            size *= each
        if found.size != size:
            raise InvalidInput(f"Expecting tensor size: {size} but got: {found.size}")
        if list(found.shape) != expected:
            raise InvalidInput(
                f"Expecting shape {_brackets(expected)} but got: {_brackets(list(found.shape))}"
            )


def _brackets(shape: list[int]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"


_ABSENT: Any = object()
