"""tensorflow-serving-api's stubs, unchanged, in a process that has our messages too."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
pytest.importorskip("tensorflow_serving")

MODELS = """
model_config_list {
  config { name: "half" base_path: "%s/saved_model_half_plus_two_2_versions"
           model_platform: "tensorflow" model_version_policy { all {} } }
}
"""


@pytest.fixture(scope="module")
def server(shared, tmp_path_factory):
    from .running import serving

    config = tmp_path_factory.mktemp("config") / "models.config"
    config.write_text(MODELS % (shared / "models/tfserving").resolve())
    with serving(f"--model_config_file={config}") as found:
        yield found


@pytest.fixture(scope="module")
def channel(server):
    import grpc

    with grpc.insecure_channel(server.grpc) as found:
        yield found


def test_predict(channel):
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    import martlet.wire.tfserving.messages  # noqa: F401  the same names, another pool

    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "half"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([[1.0], [2.0]], dtype=tf.float32))
    found = stub.Predict(request, timeout=30)
    assert tf.make_ndarray(found.outputs["y"]).tolist() == [[2.5], [3.0]]
    assert found.model_spec.version.value == 124
    request.model_spec.version.value = 123
    assert stub.Predict(request, timeout=30).model_spec.version.value == 123


def test_classify_regress_and_both_at_once(channel):
    from tensorflow_serving.apis import (
        classification_pb2,
        inference_pb2,
        prediction_service_pb2_grpc,
        regression_pb2,
    )

    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    regress = regression_pb2.RegressionRequest()
    regress.model_spec.name, regress.model_spec.signature_name = "half", "regress_x_to_y"
    example = regress.input.example_list.examples.add()
    example.features.feature["x"].float_list.value.append(80.0)
    assert [r.value for r in stub.Regress(regress, timeout=30).result.regressions] == [42.0]

    classify = classification_pb2.ClassificationRequest()
    classify.model_spec.name, classify.model_spec.signature_name = "half", "classify_x_to_y"
    classify.input.CopyFrom(regress.input)
    found = stub.Classify(classify, timeout=30).result.classifications
    assert [each.score for each in found[0].classes] == [42.0]

    both = inference_pb2.MultiInferenceRequest()
    both.input.CopyFrom(regress.input)
    for spec, method in ((regress.model_spec, "regress"), (classify.model_spec, "classify")):
        task = both.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.CopyFrom(spec)
    results = stub.MultiInference(both, timeout=30).results
    assert results[0].regression_result.regressions[0].value == 42.0
    assert results[1].classification_result.classifications[0].classes[0].score == 42.0


def test_metadata_status_and_reload(channel, shared):
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_management_pb2,
        model_service_pb2_grpc,
        prediction_service_pb2_grpc,
    )

    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "half"
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    packed = stub.GetModelMetadata(request, timeout=30).metadata["signature_def"]
    definitions = get_model_metadata_pb2.SignatureDefMap()
    assert packed.Unpack(definitions)
    assert definitions.signature_def["serving_default"].inputs["x"].name == "x:0"

    models = model_service_pb2_grpc.ModelServiceStub(channel)
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "half"
    found = models.GetModelStatus(status, timeout=30).model_version_status
    assert [(each.version, each.state) for each in found] == [(124, 30), (123, 30)]

    reload = model_management_pb2.ReloadConfigRequest()
    for name in ("half", "three"):
        one = reload.config.model_config_list.config.add(name=name, model_platform="tensorflow")
        folder = {"half": "saved_model_half_plus_two_2_versions"}.get(
            name, "saved_model_half_plus_three"
        )
        one.base_path = str((shared / "models/tfserving" / folder).resolve())
    assert models.HandleReloadConfigRequest(reload, timeout=240).status.error_code == 0
    status.model_spec.name = "three"
    assert models.GetModelStatus(status, timeout=30).model_version_status[0].state == 30


def test_conformance(shared, tmp_path):
    """Every check of the black-box conformance script passes."""
    import subprocess

    from .running import serving

    checks = shared / "checks/tfserving"
    folder = (shared / "models/tfserving").resolve()
    config = tmp_path / "models.config"
    config.write_text((checks / "models.config.in").read_text().replace("@MODELS@", str(folder)))
    # One worker: each has its own counter, and a check counts over two connections.
    flags = ("--allow_version_labels_for_unavailable_models", f"--model_config_file={config}")
    with serving(*flags) as server:
        script = Path(checks / "conformance.py").resolve()
        command = [sys.executable, str(script), server.rest, server.grpc]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, "\n".join(
        line for line in done.stdout.splitlines() if not line.startswith("PASS")
    )
    assert "165 passed, 0 failed" in done.stdout
