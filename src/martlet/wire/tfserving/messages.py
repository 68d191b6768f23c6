"""The protobuf messages of TensorFlow Serving, as classes."""

from __future__ import annotations

from typing import Any

from martlet.wire.protos import message


def _serving(name: str) -> Any:
    return message(f"tensorflow.serving.{name}")


TensorProto: Any = message("tensorflow.TensorProto")
SignatureDef: Any = message("tensorflow.SignatureDef")
Example: Any = message("tensorflow.Example")

ModelSpec = _serving("ModelSpec")
PredictRequest = _serving("PredictRequest")
PredictResponse = _serving("PredictResponse")
Input = _serving("Input")
ClassificationRequest = _serving("ClassificationRequest")
ClassificationResponse = _serving("ClassificationResponse")
ClassificationResult = _serving("ClassificationResult")
RegressionRequest = _serving("RegressionRequest")
RegressionResponse = _serving("RegressionResponse")
RegressionResult = _serving("RegressionResult")
MultiInferenceRequest = _serving("MultiInferenceRequest")
MultiInferenceResponse = _serving("MultiInferenceResponse")
SignatureDefMap = _serving("SignatureDefMap")
GetModelMetadataRequest = _serving("GetModelMetadataRequest")
GetModelMetadataResponse = _serving("GetModelMetadataResponse")
GetModelStatusRequest = _serving("GetModelStatusRequest")
GetModelStatusResponse = _serving("GetModelStatusResponse")
ReloadConfigRequest = _serving("ReloadConfigRequest")
ReloadConfigResponse = _serving("ReloadConfigResponse")
ModelServerConfig = _serving("ModelServerConfig")
BatchingParameters = _serving("BatchingParameters")
MonitoringConfig = _serving("MonitoringConfig")
SSLConfig = _serving("SSLConfig")
PredictionLog = _serving("PredictionLog")
