"""Classification and regression: which signatures can be asked so, and what their outputs mean.

Source: tensorflow_serving/servables/tensorflow/{classifier,regressor,multi_inference}.cc.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from martlet.errors import InvalidInput
from martlet.tensors import DType, Signature, Tensor
from martlet.wire.elements import as_bytes
from martlet.wire.tfserving import floats, messages
from martlet.wire.tfserving.dtypes import NAMES

INPUTS = "inputs"
"""The one input of such a signature: serialized Examples."""

CLASSES, SCORES, OUTPUTS = "classes", "scores", "outputs"


@dataclass(frozen=True, slots=True)
class Classes:
    """For each example, its classes. Labels are UTF-8 bytes [n, c]; either may be absent."""

    labels: Tensor | None
    scores: Tensor | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Examples, and classes of each."""
        found = self.labels if self.labels is not None else self.scores
        assert found is not None
        return found.shape


def check_classify(signature: Signature) -> None:
    """
    Check that *signature* takes Examples and gives classes, scores or both.

    Raises:
        InvalidInput: it does not.
    """
    _check_inputs(signature, "classification")
    if not {CLASSES, SCORES} & signature.outputs.keys():
        raise InvalidInput(
            'Expected classification signature outputs to contain at least one of "classes" or '
            f'"scores". Signature was: {_shown(signature)}'
        )


def check_regress(signature: Signature) -> None:
    """
    Check that *signature* takes Examples and gives one value for each.

    Raises:
        InvalidInput: it does not.
    """
    _check_inputs(signature, "regression")
    if OUTPUTS not in signature.outputs:
        raise InvalidInput(f"No regression outputs found in SignatureDef: {_shown(signature)}")


def _check_inputs(signature: Signature, kind: str) -> None:
    if list(signature.inputs) != [INPUTS]:
        raise InvalidInput(f"No {kind} inputs found in SignatureDef: {_shown(signature)}")


def _shown(signature: Signature) -> str:
    return f"inputs {list(signature.inputs)}, outputs {list(signature.outputs)}"


def classes(outputs: Mapping[str, Tensor], count: int) -> Classes:
    """
    Return what *outputs* say of *count* examples.

    Raises:
        InvalidInput: an output is not ``[count, classes]``, or of the wrong dtype.
    """
    labels, scores = outputs.get(CLASSES), outputs.get(SCORES)
    for name, found, dtype in ((CLASSES, labels, DType.STRING), (SCORES, scores, DType.FLOAT32)):
        if found is None:
            continue
        if DType.of(found.dtype) is not dtype:
            raise InvalidInput(
                f"Expected {name} Tensor of {NAMES[dtype]}. "
                f"Instead got: {NAMES[DType.of(found.dtype)]}"
            )
        if found.ndim != 2:
            raise InvalidInput(
                f"Expected Tensor shape: [batch_size num_classes] but got {_brackets(found.shape)}"
            )
        if len(found) != count:
            raise InvalidInput(f"Expected {name} output batch size of {count}. Got: {len(found)}")
    if labels is not None and scores is not None and labels.shape != scores.shape:
        raise InvalidInput(
            f"Tensors class and score should match in dim_size(1). Got {labels.shape[1]} vs. "
            f"{scores.shape[1]}"
        )
    return Classes(labels, scores)


def regressions(outputs: Mapping[str, Tensor], count: int) -> Tensor:
    """
    Return the one value of each of *count* examples: float32 [count].

    Raises:
        InvalidInput: the output is not ``[count]`` or ``[count, 1]`` of float.
    """
    found = outputs[OUTPUTS]
    if found.ndim not in (1, 2) or (found.ndim == 2 and found.shape[1] != 1):
        raise InvalidInput(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] "
            f"but got {_brackets(found.shape)}"
        )
    if len(found) != count:
        raise InvalidInput(
            f"Input batch size did not match output batch size. Expected: {count} Got: {len(found)}"
        )
    if found.dtype != np.float32:
        raise InvalidInput(
            f"Expected output Tensor of float. Instead got: {NAMES[DType.of(found.dtype)]}"
        )
    return found.reshape(-1)


def _brackets(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"


# -- as JSON ---------------------------------------------------------------------------------


def classify_json(found: Classes) -> bytes:
    """Return ``{"results": [[["label", score], ...], ...]}``."""
    rows, columns = found.shape
    labels = (
        [orjson.dumps(_label(each).decode("utf-8", "replace")) for each in found.labels.ravel()]
        if found.labels is not None
        else [b'""'] * (rows * columns)
    )
    scores = (
        floats.texts(found.scores.ravel()).tolist()
        if found.scores is not None
        else [b"0.0"] * (rows * columns)
    )
    pairs = [b"[%b,%b]" % pair for pair in zip(labels, scores, strict=True)]
    lists = (b",".join(pairs[at : at + columns]) for at in range(0, rows * columns, columns or 1))
    each = b"],[".join(lists) if columns else b"],[".join([b""] * rows)
    return b'{"results":[[%b]]}' % each


def regress_json(values: Tensor) -> bytes:
    """Return ``{"results": [value, ...]}``."""
    return b'{"results":[%b]}' % b",".join(floats.texts(values).tolist())


# -- as messages -----------------------------------------------------------------------------


def classify_message(found: Classes) -> Any:
    """Return a ``ClassificationResult``."""
    made = messages.ClassificationResult()
    rows, columns = found.shape
    for row in range(rows):
        listed = made.classifications.add()
        for column in range(columns):
            one = listed.classes.add()
            if found.labels is not None:
                one.label = _label(found.labels[row, column]).decode("utf-8", "replace")
            if found.scores is not None:
                one.score = found.scores[row, column]
    return made


def regress_message(values: Tensor) -> Any:
    """Return a ``RegressionResult``."""
    made = messages.RegressionResult()
    for value in values.tolist():
        made.regressions.add(value=value)
    return made


def _label(value: Any) -> bytes:
    return as_bytes(value)
