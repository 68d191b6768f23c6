"""What a model's signatures look like to a client: SignatureDefs, as JSON or packed in an Any.

Source: tensorflow_serving/servables/tensorflow/get_model_metadata_impl.cc and
testdata/half_plus_two_model_metadata.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from martlet.tensors import Signature, Spec
from martlet.wire.tfserving import messages
from martlet.wire.tfserving.dtypes import NUMBERS

FIELD = "signature_def"
"""The one metadata field there is."""

_METHOD = "tensorflow/serving/"


def signature_def_map(signatures: Mapping[str, Signature]) -> Any:
    """Return *signatures* as a SignatureDefMap: the file's own words, where it has them."""
    found = messages.SignatureDefMap()
    for name, signature in signatures.items():
        found.signature_def[name].CopyFrom(signature_def(signature))
    return found


def signature_def(signature: Signature) -> Any:
    """Return *signature* as a SignatureDef."""
    if signature.definition:
        return messages.SignatureDef.FromString(signature.definition)
    found = messages.SignatureDef(method_name=_METHOD + signature.method)
    for specs, infos in ((signature.inputs, found.inputs), (signature.outputs, found.outputs)):
        for name, spec in specs.items():
            _describe(spec, infos[name])
    return found


def _describe(spec: Spec, info: Any) -> None:
    info.name = f"{spec.name}:0"
    info.dtype = NUMBERS[spec.dtype]
    if spec.shape is None:
        info.tensor_shape.unknown_rank = True
        return
    info.tensor_shape.SetInParent()
    for size in spec.shape:
        info.tensor_shape.dim.add(size=size)


def metadata_json(name: str, version: int, signatures: Mapping[str, Signature]) -> bytes:
    """Return the body of ``GET .../metadata``: every field is written, empty ones too."""
    from google.protobuf.json_format import MessageToDict

    definitions = MessageToDict(
        signature_def_map(signatures),
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )
    return orjson.dumps(
        {
            "model_spec": {"name": name, "signature_name": "", "version": str(version)},
            "metadata": {FIELD: definitions},
        },
        option=orjson.OPT_INDENT_2,
    )
