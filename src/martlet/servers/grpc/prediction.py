"""``tensorflow.serving.PredictionService``: Predict, Classify, Regress, MultiInference, metadata.

Source: tensorflow_serving/model_servers/prediction_service_impl.cc and
servables/tensorflow/{predict_util,multi_inference,get_model_metadata_impl}.cc.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter_ns
from typing import Any

import grpc

from martlet.errors import InvalidInput, MartletError, Unimplemented, WrongState
from martlet.events import NOBODY, Sink
from martlet.names import ModelRef
from martlet.servable import DEFAULT_SIGNATURE, form_of
from martlet.servers import tfserving_calls
from martlet.servers.grpc.lanes import Lanes
from martlet.servers.grpc.method import unary
from martlet.serving.engine import Engine, outputs_of
from martlet.tensors import Signature, Tensor
from martlet.wire.tfserving import examples, inference, messages, metadata, predict

SERVICE = "tensorflow.serving.PredictionService"
CUT = 1024
"""Characters of an error's text that upstream sends."""

_NO_NAME = "ModelSpec has no name specified."


def ref_of(request: Any) -> ModelRef:
    """
    Return the model that *request* names.

    Raises:
        InvalidInput: it names none.
    """
    if not request.HasField("model_spec"):
        raise InvalidInput("Missing ModelSpec")
    spec = request.model_spec
    if not spec.name:
        raise InvalidInput(_NO_NAME)
    which = spec.WhichOneof("version_choice")
    return ModelRef(
        spec.name,
        version=spec.version.value if which == "version" else None,
        label=spec.version_label if which == "version_label" else None,
    )


def _first_ref_of(request: Any) -> ModelRef:
    # The first task's spec picks the model and its version for all of them.
    if not request.tasks:
        raise InvalidInput(_NO_NAME)
    return ref_of(request.tasks[0])


def _classified(variant: Any, name: str, given: Tensor) -> Any:
    return inference.classify_message(tfserving_calls.classify(variant, name, given))


def _regressed(variant: Any, name: str, given: Tensor) -> Any:
    return inference.regress_message(tfserving_calls.regress(variant, name, given))


_METHODS = {
    "tensorflow/serving/classify": ("classification_result", _classified),
    "tensorflow/serving/regress": ("regression_result", _regressed),
}


class _Timing:
    """What is told of one call: which model it asked for, who answered, how long that took."""

    __slots__ = ("model", "model_ns", "rows", "version")

    def __init__(self) -> None:
        self.model = ""
        self.version = self.rows = self.model_ns = 0

    @contextmanager
    def model_time(self, inputs: Mapping[str, Tensor]) -> Iterator[None]:
        """Count the block as the model's time."""
        started = perf_counter_ns()
        yield
        self.told(inputs, perf_counter_ns() - started)

    def told(self, inputs: Mapping[str, Tensor], took_ns: int) -> None:
        """Add a call of the model."""
        self.model_ns += took_ns
        self.rows = next((len(each) for each in inputs.values() if each.ndim), 1)


class PredictionService:
    """
    Answers from one engine.

    Args:
        engine: Whose models.
        lanes: Where their calls work.
        as_content: Answer in ``tensor_content``, as ``--enable_serialization_as_tensor_content``.
    """

    def __init__(
        self,
        engine: Engine,
        lanes: Lanes,
        as_content: bool = False,
        sink: Sink = NOBODY,
    ) -> None:
        self._engine = engine
        self._lanes = lanes
        self._sink = sink
        self._as_content = as_content

    def handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        """Return the service's methods by name."""
        return {
            "Predict": self._timed("Predict", messages.PredictRequest, self._predict),
            "Classify": self._timed(
                "Classify",
                messages.ClassificationRequest,
                self._scored(_classified, messages.ClassificationResponse),
            ),
            "Regress": self._timed(
                "Regress",
                messages.RegressionRequest,
                self._scored(_regressed, messages.RegressionResponse),
            ),
            "MultiInference": self._timed(
                "MultiInference", messages.MultiInferenceRequest, self._multi, _first_ref_of
            ),
            "GetModelMetadata": unary(messages.GetModelMetadataRequest, self._metadata, CUT),
        }

    def _timed(
        self,
        api: str,
        request_type: Any,
        answer: Callable[[Any, ModelRef, _Timing], Any],
        ref_of: Callable[[Any], ModelRef] = ref_of,
    ) -> grpc.RpcMethodHandler:
        def timed(request: Any, context: grpc.ServicerContext) -> Any:
            timing, started = _Timing(), perf_counter_ns()
            code = None
            try:
                ref = ref_of(request)
                timing.model = ref.name
                return self._lanes.call(ref, lambda: answer(request, ref, timing), context)
            except MartletError as exc:
                code = exc.code
                raise
            finally:
                if timing.model in self._engine.table.models:
                    self._sink.answered(
                        "GRPC",
                        api,
                        timing.model,
                        timing.version,
                        code,
                        timing.rows,
                        perf_counter_ns() - started,
                        timing.model_ns,
                    )

        return unary(request_type, timed, CUT)

    def _predict(self, request: Any, ref: ModelRef, timing: _Timing) -> Any:
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        # No block holds the lease, and none times: this is what nearly every call does.
        variant = tfserving_calls.acquire(self._engine, ref)
        try:
            servable = variant.servable
            timing.version = variant.version
            if name not in servable.signatures:
                raise WrongState(f'Serving signature key "{name}" not found.')
            called = form_of(servable, name, request.inputs.keys())
            signature = servable.signatures[called]
            inputs = predict.inputs(request, signature)
            wanted = predict.wanted(request, signature)
            started = perf_counter_ns()
            outputs = outputs_of(servable, inputs, called)
            timing.told(inputs, perf_counter_ns() - started)
        finally:
            variant.release()
        response = predict.response(outputs, wanted, self._as_content)
        fill_spec(response.model_spec, variant.name, variant.version, name)
        return response

    def _scored(
        self, made: Callable[[Any, str, Tensor], Any], reply: type[Any]
    ) -> Callable[[Any, ModelRef, _Timing], Any]:
        """Return what answers Classify or Regress: *made* of the request's examples."""

        def answer(request: Any, ref: ModelRef, timing: _Timing) -> Any:
            name = request.model_spec.signature_name
            with tfserving_calls.lease(self._engine, ref) as variant:
                tfserving_calls.signature_of(variant, name)
                timing.version = variant.version
                given = examples.of_input(request.input)
                with timing.model_time({"": given}):
                    result = made(variant, name, given)
                response = reply(result=result)
                fill_spec(response.model_spec, ref.name, variant.version, name or DEFAULT_SIGNATURE)
            return response

        return answer

    def _multi(self, request: Any, ref: ModelRef, timing: _Timing) -> Any:
        response = messages.MultiInferenceResponse()
        with tfserving_calls.lease(self._engine, ref) as variant:
            self._check_tasks(request, variant.servable.signatures)
            timing.version = variant.version
            given = examples.of_input(request.input)
            for task in request.tasks:
                name = task.model_spec.signature_name or DEFAULT_SIGNATURE
                result = response.results.add()
                fill_spec(result.model_spec, ref.name, variant.version, name)
                field, made = _METHODS[task.method_name]
                getattr(result, field).CopyFrom(made(variant, name, given))
        return response

    @staticmethod
    def _check_tasks(request: Any, signatures: Mapping[str, Signature]) -> None:
        seen = set()
        for task in request.tasks:
            name = task.model_spec.signature_name or DEFAULT_SIGNATURE
            if not task.model_spec.name:
                raise InvalidInput(_NO_NAME)
            if task.model_spec.name != request.tasks[0].model_spec.name:
                raise InvalidInput(
                    "All ModelSpecs in a MultiInferenceRequest must access the same model name."
                )
            if name in seen:
                raise InvalidInput(f"Duplicate evaluation of signature: {name}")
            seen.add(name)
            if name not in signatures:
                raise InvalidInput(f"Requested signature not found in model graph: {name}")
            if task.method_name not in _METHODS:
                raise Unimplemented(f"Unsupported signature method_name: {task.method_name}")

    def _metadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        ref = ref_of(request)
        if not request.metadata_field:
            raise InvalidInput("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != metadata.FIELD:
                raise InvalidInput(f"Metadata field {field} is not supported")
        response = messages.GetModelMetadataResponse()
        with tfserving_calls.lease(self._engine, ref) as variant:
            found = metadata.signature_def_map(variant.servable.signatures)
            fill_spec(response.model_spec, ref.name, variant.version, "")
        packed = response.metadata[metadata.FIELD]
        packed.type_url = f"type.googleapis.com/{found.DESCRIPTOR.full_name}"
        packed.value = found.SerializeToString()
        return response


def fill_spec(spec: Any, name: str, version: int, signature_name: str) -> None:
    """Say in *spec* who answered."""
    spec.name = name
    spec.version.value = version
    spec.signature_name = signature_name
