"""Real files of the deep formats, in a module of its own for their libraries' imports."""

from __future__ import annotations

import pytest
from real_models import Real, check, real_models

pytestmark = [pytest.mark.shared, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("real", real_models("tflite"))
def test_a_tflite_model_answers_as_its_interpreter_did(real: Real):
    check(real)


@pytest.mark.parametrize("real", real_models("torchscript"))
def test_a_torchscript_module_answers_as_pytorch_did(real: Real):
    check(real)


@pytest.mark.parametrize("real", real_models("keras"))
def test_a_keras_model_answers_as_keras_did(real: Real):
    check(real)
