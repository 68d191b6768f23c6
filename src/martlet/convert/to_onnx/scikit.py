"""scikit-learn to ONNX, by skl2onnx."""

from __future__ import annotations

from typing import Any

from onnx import ModelProto

from martlet.convert.to_onnx.fit import fitted
from martlet.convert.to_onnx.task import Task
from martlet.errors import UnsupportedModel
from martlet.formats.sklearn.file import estimator_at
from martlet.formats.tabular import MATRIX
from martlet.tensors import DType

_OWN = {"predict": ("label", "output_label", "variable"), "predict_proba": ("probabilities",)}
"""What skl2onnx calls the outputs of each method: a classifier's, a regressor's."""


def from_sklearn(task: Task) -> ModelProto:
    """
    Convert an estimator or pipeline, in float64 throughout, as scikit-learn computes.

    Raises:
        UnsupportedModel: the signature gives what skl2onnx does not (``decision_function``).
    """
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import DoubleTensorType, StringTensorType

    model = estimator_at(task.path, task.trusted)
    names = list(task.signature.inputs)
    types: list[tuple[str, Any]]
    if names == [MATRIX]:
        width = (task.signature.inputs[MATRIX].shape or (-1, -1))[1]
        types = [(MATRIX, DoubleTensorType([None, width]))]
        inputs = {MATRIX: MATRIX}
    elif any(spec.dtype is DType.STRING for spec in task.signature.inputs.values()):
        types = [
            (n, (StringTensorType if s.dtype is DType.STRING else DoubleTensorType)([None, 1]))
            for n, s in task.signature.inputs.items()
        ]
        inputs = dict(zip(names, names, strict=True))
    else:
        types = [(MATRIX, DoubleTensorType([None, len(names)]))]
        inputs = dict.fromkeys(names, MATRIX)
    options = {"zipmap": False} if hasattr(model, "predict_proba") else {}
    named = {id(model): options} if options else None
    made: Any = to_onnx(model, initial_types=types, options=named)
    given = {each.name for each in made.graph.output}
    outputs = {}
    for name in task.signature.outputs:
        own = next((each for each in _OWN.get(name, ()) if each in given), None)
        if own is None:
            raise UnsupportedModel(f"skl2onnx gives no {name!r}; it gives {sorted(given)}")
        outputs[name] = own
    return fitted(made, task.signature, inputs, outputs)
