"""The bodies of ``:classify`` and ``:regress``: JSON objects to serialized tf.Examples.

TensorFlow is not needed: an Example is a small protobuf message.

Source: tensorflow_serving/util/json_tensor.cc (FillClassifyRegressRequestFromJson,
AddValueToFeature) and servables/tensorflow/util.cc (InputToSerializedExampleTensor).
"""

from __future__ import annotations

from typing import Any

from martlet.errors import InvalidInput
from martlet.tensors import Tensor
from martlet.wire.elements import strings
from martlet.wire.tfserving.messages import Example
from martlet.wire.tfserving.values import is_b64, kind, shown, unb64

_LISTS = {"bytes": "bytes_list", "float": "float_list", "int64": "int64_list"}


def examples_of(document: dict[str, Any]) -> Tensor:
    """
    Return the serialized Examples of *document*, its context put before each: a string [n].

    Raises:
        InvalidInput: in upstream's words.
    """
    context = b""
    if "context" in document:
        context = example(document["context"])
    if "examples" not in document:
        raise InvalidInput(
            f"JSON Value: {shown(document)} When method is classify, key 'examples' is expected "
            "and was not found"
        )
    given = document["examples"]
    if type(given) is not list:
        raise InvalidInput(
            f"JSON Value: {shown(document)} Expecting 'examples' value to be an list/array"
        )
    if not given:
        raise InvalidInput(f"JSON Value: {shown(document)} 'examples' value is an empty array")
    return strings([context + example(each) for each in given])


def of_input(given: Any) -> Tensor:
    """
    Return the serialized Examples of a ``tensorflow.serving.Input``: a string [n].

    Raises:
        InvalidInput: there is none.
    """
    which = given.WhichOneof("kind")
    if which is None or not getattr(given, which).examples:
        raise InvalidInput("Input is empty.")
    found = getattr(given, which)
    context = found.context.SerializeToString() if which == "example_list_with_context" else b""
    return strings([context + each.SerializeToString() for each in found.examples])


def example(given: Any) -> bytes:
    """
    Return the JSON object *given* as a serialized Example: a feature for each key.

    Raises:
        InvalidInput: it is no object, or a value is no feature.
    """
    if type(given) is not dict:
        raise InvalidInput(f"Example must be JSON object but got JSON {kind(given)}")
    made = Example()
    made.features.SetInParent()
    for name, content in given.items():
        feature = made.features.feature[name.encode("utf-8", "replace").decode()]
        _fill(name, content if type(content) is list else [content], feature)
    found: bytes = made.SerializeToString()
    return found


def _fill(name: str, values: list[Any], feature: Any) -> None:
    chosen = ""
    found: list[Any] = []
    for value in values:
        wanted, plain = _element(name, value)
        if chosen and wanted != chosen:
            raise InvalidInput(
                f"Unexpected element type in feature: {name} expecting type: {chosen}"
            )
        chosen = wanted
        found.append(plain)
    if chosen:
        getattr(feature, _LISTS[chosen]).value.extend(found)


def _element(name: str, value: Any) -> tuple[str, Any]:
    """Return which list *value* belongs to, and the value as that list holds it."""
    if isinstance(value, bool):
        return "int64", int(value)
    if isinstance(value, int):
        if value >= 2**63:
            raise InvalidInput(f"Feature: {name} has uint64 element. Only int64_t is supported.")
        return "int64", value
    if isinstance(value, float):
        return "float", value
    if isinstance(value, str):
        return "bytes", value.encode("utf-8", "surrogateescape")
    if is_b64(value):
        return "bytes", unb64(value)
    raise InvalidInput(f"Feature: {name} has element with unexpected JSON type: {kind(value)}")
