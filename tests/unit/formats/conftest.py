"""What tests of formats share: each way to compute that this machine has; makers of models."""

from __future__ import annotations

import pytest

from martlet.native import find


@pytest.fixture(params=["pure", "plain", "avx2", "avx512"])
def walks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """How trees are walked: compiled, by a kernel, or not; a forest chooses when it is built."""
    compiled = find("forest")
    if request.param == "pure":
        monkeypatch.setenv("MARTLET_NATIVE", "0")
        yield request.param
        return
    if compiled is None:
        pytest.skip("martlet.native._forest is not built")
    try:
        compiled.use(request.param)
    except ValueError as exc:
        pytest.skip(str(exc))
    yield request.param
    compiled.use()


@pytest.fixture(params=["pure", "plain", "avx2", "avx512"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """How rows of float32 are computed: by the test module's ``compiled`` part, or without it."""
    compiled = request.module.compiled
    if request.param == "pure":
        monkeypatch.setenv("MARTLET_NATIVE", "0")
        yield request.param
        return
    if compiled is None:
        pytest.skip("the compiled part is not built")
    try:
        compiled.use(request.param)
    except ValueError as exc:
        pytest.skip(str(exc))
    yield request.param
    compiled.use(None)


@pytest.fixture
def info():
    """What makes the description of an ONNX value, of its name, shape and dtype."""
    from onnx import TensorProto, helper

    def make(name, shape, dtype="FLOAT"):
        return helper.make_tensor_value_info(name, getattr(TensorProto, dtype), shape)

    return make
