"""Warm-up: a version answers its own recorded requests before it answers any client.

Source: tensorflow_serving/servables/tensorflow/saved_model_warmup_util.cc.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from martlet.errors import MartletError, Unimplemented, UnsupportedModel
from martlet.servable import DEFAULT_SIGNATURE, Servable, signature_of
from martlet.servers import tfserving_calls
from martlet.serving.traffic import Variant
from martlet.wire.tfserving import examples, predict, warmup


def warm_up(servable: Servable, folder: Path, times: int = 1) -> int:
    """
    Replay the records beside the model in *folder*, if there are any; return how many.

    Args:
        times: How often each record is replayed.

    Raises:
        UnsupportedModel: the file is broken, or a record fails: the version must not serve.
    """
    file = folder / warmup.FILE
    if not file.is_file():
        return 0
    records = warmup.read(file.read_bytes())
    for index, record in enumerate(records):
        try:
            for _ in range(times):
                _replay(servable, record)
        except MartletError as exc:
            raise UnsupportedModel(f"the warm-up record {index} of {file} failed: {exc}") from exc
    return len(records)


def _replay(servable: Servable, record: Any) -> None:
    which = record.WhichOneof("log_type")
    match which:
        case None:
            return
        case "predict_log":
            _predict(servable, record.predict_log.request)
        case "classify_log":
            request = record.classify_log.request
            _ask(servable, "classify", request.model_spec, request.input)
        case "regress_log":
            request = record.regress_log.request
            _ask(servable, "regress", request.model_spec, request.input)
        case "multi_inference_log":
            request = record.multi_inference_log.request
            for task in request.tasks:
                kind = task.method_name.rpartition("/")[2]
                _ask(servable, kind, task.model_spec, request.input)
        case _:
            raise Unimplemented(f"Unsupported log_type for warmup: {which}")


def _predict(servable: Servable, request: Any) -> None:
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = signature_of(servable, name)
    inputs = predict.inputs(request, signature)
    servable.predict(signature.check(inputs), name)


def _ask(servable: Servable, kind: str, spec: Any, given: Any) -> None:
    # Whatever name the record has, this version answers it.
    variant = Variant("warm-up", 0, servable)
    asked = {"classify": tfserving_calls.classify, "regress": tfserving_calls.regress}
    if kind not in asked:
        raise Unimplemented(f"Unsupported signature method_name: {kind}")
    asked[kind](variant, spec.signature_name, examples.of_input(given))
