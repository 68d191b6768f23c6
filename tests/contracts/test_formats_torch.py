"""TorchScript and torch.export, made by PyTorch on the spot; apart, for PyTorch's import."""

from __future__ import annotations

import io
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_formats_damaged import try_damages

import martlet
from martlet import formats
from martlet.errors import InvalidInput, UnsupportedModel

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")


class Ranker(torch.nn.Module):
    """A user looked up in a table beside dense features: two outputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(20, 3)
        self.net = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.ReLU())
        self.last = torch.nn.Linear(5, 1)

    def forward(self, user: torch.Tensor, dense: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.net(torch.cat([self.table(user), dense], 1))
        raw = self.last(hidden)
        return {"chance": torch.sigmoid(raw), "raw": raw}


class Traceable(Ranker):
    def forward(self, user: torch.Tensor, dense: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = super().forward(user, dense)
        return found["chance"], found["raw"]


SAMPLE = torch.tensor([1, 2, 3]), torch.randn(3, 4)


def scripted(module: Any, path: Path) -> list[str]:
    torch.jit.script(module).save(str(path))
    return ["chance", "raw"]


def traced(module: Any, path: Path) -> list[str]:
    twin = Traceable()
    twin.load_state_dict(module.state_dict())
    torch.jit.trace(twin, SAMPLE).save(str(path))
    return ["output_0", "output_1"]


def exported(module: Any, path: Path) -> list[str]:
    rows = torch.export.Dim("rows")
    program = torch.export.export(
        module, SAMPLE, dynamic_shapes={"user": {0: rows}, "dense": {0: rows}}
    )
    torch.export.save(program, str(path.with_suffix(".pt2")))
    path.with_suffix(".pt2").rename(path)
    return ["chance", "raw"]


@pytest.fixture(scope="module")
def module() -> Any:
    torch.manual_seed(1)
    return Ranker().eval()


@pytest.fixture(
    scope="module",
    params=[(scripted, "torchscript"), (traced, "torchscript"), (exported, "torch_export")],
    ids=["scripted", "traced", "exported"],
)
def saved(request: pytest.FixtureRequest, module: Any, tmp_path_factory: Any) -> Any:
    save, kind = request.param
    path = tmp_path_factory.mktemp("model") / "m"
    return path, save(module, path), kind


@pytest.fixture(scope="module")
def model(saved: Any) -> Any:
    with martlet.load(saved[0]) as found:
        yield found


def expected(module: Any, user: np.ndarray, dense: np.ndarray) -> list[np.ndarray]:
    with torch.inference_mode():
        found = module(torch.tensor(user), torch.tensor(dense))
    return [found["chance"].numpy(), found["raw"].numpy()]


def test_it_is_found_by_content(saved: Any):
    assert formats.sniff(saved[0]).name == saved[2]


def test_its_inputs_have_the_names_and_dtypes_of_the_program(saved: Any, model: Any):
    inputs = model.signatures["serving_default"].inputs
    assert [(n, s.dtype.value) for n, s in inputs.items()] == [
        ("user", "int64"),
        ("dense", "float32"),
    ]
    assert list(model.signatures["serving_default"].outputs) == saved[1]


@settings(max_examples=20)
@given(data=st.data())
def test_its_answers_are_pytorchs_own(model: Any, module: Any, data: st.DataObject):
    count = data.draw(st.integers(1, 40))
    user = np.array(data.draw(st.lists(st.integers(0, 19), min_size=count, max_size=count)))
    numbers = st.floats(-1e6, 1e6, width=32) | st.sampled_from([np.nan, np.inf, -np.inf])
    dense = np.array(
        data.draw(
            st.lists(st.lists(numbers, min_size=4, max_size=4), min_size=count, max_size=count)
        ),
        dtype=np.float32,
    )
    found = model.predict({"user": user, "dense": dense})
    for got, wanted in zip(found.values(), expected(module, user, dense), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_no_rows_give_no_rows(model: Any):
    found = model.predict({"user": np.zeros(0, int), "dense": np.zeros((0, 4), np.float32)})
    assert [value.shape for value in found.values()] == [(0, 1), (0, 1)]


def test_threads_do_not_disturb_each_other(model: Any, module: Any):
    asked = [
        (np.arange(n) % 20, np.random.default_rng(n).normal(size=(n, 4)).astype(np.float32))
        for n in (1, 2, 50, 200) * 4
    ]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda a: model.predict({"user": a[0], "dense": a[1]}), asked))
    for given_, got in zip(asked, found, strict=True):
        np.testing.assert_allclose(
            next(iter(got.values())), expected(module, *given_)[0], rtol=1e-5
        )


def test_read_only_arrays_are_taken(model: Any, module: Any):
    dense = np.frombuffer(np.ones(4, np.float32).tobytes(), np.float32).reshape(1, 4)
    found = model.predict({"user": np.array([1]), "dense": dense})
    np.testing.assert_allclose(
        next(iter(found.values())), expected(module, np.array([1]), np.ones((1, 4), np.float32))[0]
    )


@pytest.mark.parametrize(
    "inputs",
    [
        {"user": np.array([99]), "dense": np.zeros((1, 4), np.float32)},
        {"user": np.array([1, 2]), "dense": np.zeros((1, 4), np.float32)},
        {"user": np.array([1]), "dense": np.zeros((1, 5), np.float32)},
        {"user": np.array([1.5]), "dense": np.zeros((1, 4), np.float32)},
        {"user": np.array([1])},
    ],
    ids=["out of its table", "rows differ", "too wide", "dtype", "missing"],
)
def test_what_does_not_fit_is_the_callers_to_mend(model: Any, inputs: dict):
    with pytest.raises(InvalidInput):
        model.predict(inputs)


@pytest.mark.parametrize("way", ["script", "export"])
def test_a_module_that_writes_into_its_input_leaves_the_callers_alone(way: str, tmp_path: Path):
    class Doubler(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mul_(2)

    if way == "script":
        torch.jit.script(Doubler()).save(str(tmp_path / "m"))
    else:
        torch.export.save(torch.export.export(Doubler(), (torch.ones(3),)), tmp_path / "m.pt2")
        (tmp_path / "m.pt2").rename(tmp_path / "m")
    mine = np.ones(3, np.float32)
    with martlet.load(tmp_path / "m") as model:
        assert model.predict({"x": mine})["output"].tolist() == [2, 2, 2]
    assert mine.tolist() == [1, 1, 1]


def test_damages_are_refused_or_are_still_a_model(saved: Any, tmp_path: Path):
    path = tmp_path / "m"
    path.write_bytes(saved[0].read_bytes())
    assert try_damages(path, saved[2], 30) >= 10


class TestWhatAnArchiveMayNotHold:
    def test_a_pickled_module(self, module: Any, tmp_path: Path):
        done = tmp_path / "done"

        class Mischief:
            def __reduce__(self):
                return os.system, (f"touch {done}",)

        for content in (Mischief(), {"w": torch.zeros(2)}):
            torch.save(content, tmp_path / "m.pt")
            with pytest.raises(UnsupportedModel, match="state_dict"):
                martlet.load(tmp_path / "m.pt")
        assert not done.exists()

    @pytest.mark.parametrize(
        ("old", "new", "part"),
        [
            (b"torch.ops.aten.sigmoid.default", b"torch.hub.load", "calls"),
            (b"torch.ops.aten.sigmoid.default", b"torch.utils.cpp_extension.load", "calls"),
            (b"positive=True, integer=True)", b"positive=__import__('os'))", "size"),
            (b"size()[0] == L", b"size()[0].__class__.__mro__ == L", "guard"),
            (b"L['user'].size()[0]", b"__import__('os').getpid()", "guard"),
            (b"L['user'].size()[0]", b"9**9**9", "guard"),
            (b"L['user'].size()[0]", b"(1 << 9999)", "guard"),
        ],
    )
    def test_a_program_that_calls_outside_of_torch(
        self, module: Any, old: bytes, new: bytes, part: str, tmp_path: Path
    ):
        exported(module, tmp_path / "m")
        rewrite(tmp_path / "m", "models/model.json", lambda content: content.replace(old, new))
        with pytest.raises(UnsupportedModel, match=part):
            martlet.load(tmp_path / "m")

    def test_weights_or_samples_that_are_pickles(self, module: Any, tmp_path: Path):
        done = tmp_path / "done"

        class Mischief:
            def __reduce__(self):
                return os.system, (f"touch {done}",)

        buffer = io.BytesIO()
        torch.save(((Mischief(),), {}), buffer)
        exported(module, tmp_path / "a")
        rewrite(tmp_path / "a", "sample_inputs/model.pt", lambda _: buffer.getvalue())
        exported(module, tmp_path / "b")
        rewrite(
            tmp_path / "b",
            "model_weights_config.json",
            lambda content: content.replace(b'"use_pickle": false', b'"use_pickle": true'),
        )
        for name in "ab":
            with pytest.raises(UnsupportedModel, match=r"plain tensors|pickled"):
                martlet.load(tmp_path / name)
        assert not done.exists()


def rewrite(path: Path, member: str, change: Any) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (name,) = (each for each in members if each.endswith(member))
    changed = change(members[name])
    assert changed != members[name]
    with zipfile.ZipFile(path, "w") as archive:
        for each, content in (members | {name: changed}).items():
            archive.writestr(each, content)


def test_weights_as_pytorch_saved_them_before_1_6_are_named_as_that(tmp_path: Path):
    torch.save({"w": torch.ones(3)}, tmp_path / "m.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(UnsupportedModel, match="state_dict"):
        martlet.load(tmp_path / "m.pt")


def test_a_package_of_aotinductor_is_refused_trusted_or_not(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
        archive.writestr("m/archive_format", "pt2")
        archive.writestr("m/data/aotinductor/model/m.so", b"\x7fELF")
    for trusted in (False, True):
        with pytest.raises(UnsupportedModel, match="AOTInductor"):
            martlet.load(tmp_path / "m.pt2", trusted=trusted)
