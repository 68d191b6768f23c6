"""TorchScript and torch.export, made by PyTorch on the spot; apart, for PyTorch's import."""

from __future__ import annotations

import io
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

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


class Scorer(torch.nn.Module):
    """What the arguments and answers below are made of."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.net = torch.nn.Linear(4, 2)


class Offset(Scorer):
    def forward(
        self, x: torch.Tensor, offset: torch.Tensor | None = None, scale: float = 2.0
    ) -> torch.Tensor:
        found = self.net(x) * scale
        return found if offset is None else found + offset


class ByName(Scorer):
    def forward(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.net(features["user"]) - self.net(features["item"])


class Within(Scorer):
    def forward(
        self, x: torch.Tensor
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, dict[str, torch.Tensor]]]:
        found = self.net(x)
        return found, (found.sum(1), {"twice": found * 2})


class Bag(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.EmbeddingBag(9, 3, mode="sum")

    def forward(self, ids: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        return self.table(ids, offsets)


X4 = np.random.default_rng(8).normal(size=(5, 4)).astype(np.float32)
ROWS = torch.export.Dim("rows")


class Joined(torch.nn.Module):
    """A table looked into, beside rows."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(9, 3)

    @torch.jit.export
    def joined(self, ids: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.table(ids), rows], 1)


class Named(NamedTuple):
    id: torch.Tensor
    row: torch.Tensor


class Pair(Joined):
    def forward(self, pair: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return self.joined(pair[0], pair[1])


class PairOfNames(Joined):
    def forward(self, pair: Named) -> torch.Tensor:
        return self.joined(pair.id, pair.row)


class Listed(Joined):
    def forward(self, xs: list[torch.Tensor]) -> torch.Tensor:
        return self.joined(xs[0], xs[1])


class TestArguments:
    def test_with_a_default_may_be_left_out(self, tmp_path: Path):
        own = Offset().eval()
        torch.jit.script(own).save(str(tmp_path / "m.pt"))
        with martlet.load(tmp_path / "m.pt") as model:
            inputs = model.signatures["serving_default"].inputs
            assert {n: s.required for n, s in inputs.items()} == {
                "x": True,
                "offset": False,
                "scale": False,
            }
            offset = np.ones((5, 2), np.float32)
            with torch.inference_mode():
                x = torch.tensor(X4)
                plain, moved = own(x), own(x, torch.tensor(offset), 0.5)
            np.testing.assert_allclose(model.predict({"x": X4})["output"], plain, rtol=1e-6)
            found = model.predict({"x": X4, "offset": offset, "scale": np.array(0.5)})
            np.testing.assert_allclose(found["output"], moved, rtol=1e-6)

    @pytest.mark.parametrize("way", ["script", "export"])
    def test_of_a_dictionary_are_an_input_a_key(self, way: str, tmp_path: Path):
        own, path = ByName().eval(), tmp_path / "m"
        given_ = {"user": torch.tensor(X4), "item": torch.tensor(X4[::-1].copy())}
        if way == "script":
            torch.jit.script(own).save(str(path))
        else:
            shapes = {"features": {key: {0: ROWS} for key in given_}}
            program = torch.export.export(own, (given_,), dynamic_shapes=shapes)
            torch.export.save(program, tmp_path / "m.pt2")
            path = tmp_path / "m.pt2"
        with torch.inference_mode():
            wanted = own(given_)
        with martlet.load(path) as model:
            found = model.predict({name: value.numpy() for name, value in given_.items()})
        np.testing.assert_allclose(found["output"], wanted, rtol=1e-5, atol=1e-6)

    def test_by_keyword_and_numbers_of_an_exported_program(self, tmp_path: Path):
        own = Offset().eval()
        program = torch.export.export(
            own,
            (torch.tensor(X4), None),
            kwargs={"scale": 3.0},
            dynamic_shapes={"x": {0: ROWS}, "offset": None, "scale": None},
        )
        torch.export.save(program, tmp_path / "m.pt2")
        with martlet.load(tmp_path / "m.pt2") as model:
            assert list(model.signatures["serving_default"].inputs) == ["x"]
            found = model.predict({"x": X4})["output"]
        with torch.inference_mode():
            np.testing.assert_allclose(found, own(torch.tensor(X4), None, 3.0), rtol=1e-5)

    def test_that_are_numbers_of_rows_are_int64(self, tmp_path: Path):
        own = Bag().eval()
        ids, offsets = np.array([1, 2, 3, 4]), np.array([0, 1, 3])
        torch.jit.trace(own, (torch.tensor(ids), torch.tensor(offsets))).save(
            str(tmp_path / "m.pt")
        )
        with martlet.load(tmp_path / "m.pt") as model:
            found = model.predict({"ids": ids, "offsets": offsets})["output"]
        with torch.inference_mode():
            np.testing.assert_allclose(found, own(torch.tensor(ids), torch.tensor(offsets)))

    @pytest.mark.parametrize("way", [torch.jit.script, torch.jit.freeze])
    def test_of_a_dictionary_that_the_code_asks_for_may_be_left_out(self, way: Any, tmp_path: Path):
        class Biased(torch.nn.Module):
            def forward(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
                found = features["x"] * 2
                if "bias" in features:
                    found = found + features["bias"]
                scale = features.get("scale")
                return found if scale is None else found * scale

        way(torch.jit.script(Biased().eval())).save(str(tmp_path / "m.pt"))
        with martlet.load(tmp_path / "m.pt") as model:
            inputs = model.signatures["serving_default"].inputs
            required = {name: spec.required for name, spec in inputs.items()}
            assert required == {"x": True, "bias": False, "scale": False}
            assert model.predict({"x": X4})["output"].tolist() == (X4 * 2).tolist()
            found = model.predict({"x": X4, "bias": X4, "scale": X4})["output"]
            assert found.tolist() == ((X4 * 2 + X4) * X4).tolist()

    @pytest.mark.parametrize(
        ("made", "names"),
        [(Pair, ["pair_0", "pair_1"]), (PairOfNames, ["id", "row"]), (Listed, ["xs_0", "xs_1"])],
    )
    def test_of_a_list_or_tuple_are_an_input_a_place(
        self, made: Any, names: list[str], tmp_path: Path
    ):
        own, ids = made().eval(), np.array([1, 2, 3, 4, 5])
        torch.jit.script(own).save(str(tmp_path / "m.pt"))
        with martlet.load(tmp_path / "m.pt") as model:
            inputs = model.signatures["serving_default"].inputs
            assert {n: s.dtype.value for n, s in inputs.items()} == dict(
                zip(names, ("int64", "float32"), strict=True)
            )
            found = model.predict(dict(zip(names, (ids, X4), strict=True)))["output"]
        with torch.inference_mode():
            wanted = own.joined(torch.tensor(ids), torch.tensor(X4))
        np.testing.assert_allclose(found, wanted, rtol=1e-6)

    def test_that_are_lists_of_numbers_or_text_have_one_axis(self, tmp_path: Path):
        class Plain(torch.nn.Module):
            def forward(
                self, x: torch.Tensor, columns: list[int], words: list[str], how: str = "sum"
            ) -> tuple[torch.Tensor, torch.Tensor]:
                found = x[:, columns]
                lengths = torch.tensor([len(word) for word in words])
                return found.sum(1) if how == "sum" else found.mean(1), lengths

        torch.jit.script(Plain()).save(str(tmp_path / "m.pt"))
        words = np.array(["four", b"seven", ""], object)
        with martlet.load(tmp_path / "m.pt") as model:
            rows = {"x": X4, "columns": np.array([0, 3]), "words": words}
            found = model.predict(rows)
            np.testing.assert_allclose(found["output_0"], X4[:, [0, 3]].sum(1), rtol=1e-6)
            assert found["output_1"].tolist() == [4, 5, 0]
            mean = model.predict({**rows, "how": np.array("mean", object)})["output_0"]
            np.testing.assert_allclose(mean, X4[:, [0, 3]].mean(1), rtol=1e-6)

    def test_whose_lists_have_no_written_length_are_refused(self, tmp_path: Path):
        class AnyLength(torch.nn.Module):
            def forward(self, xs: list[torch.Tensor]) -> torch.Tensor:
                return torch.cat(xs)

        torch.jit.script(AnyLength()).save(str(tmp_path / "m.pt"))
        with pytest.raises(UnsupportedModel, match="length"):
            martlet.load(tmp_path / "m.pt")

    def test_that_are_cast_to_integers_are_integers(self, tmp_path: Path):
        class Cast(torch.nn.Module):
            def forward(self, user: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
                return user.long() + x[:, 0].long() + x[:, 1]

        torch.jit.script(Cast()).save(str(tmp_path / "m.pt"))
        ids = 2**24 + np.arange(5)  # of which float32 has every other one
        with martlet.load(tmp_path / "m.pt") as model:
            inputs = model.signatures["serving_default"].inputs
            assert [s.dtype.value for s in inputs.values()] == ["int64", "float32"]
            x = np.zeros((5, 2), np.float32)
            found = model.predict({"user": ids, "x": x})["output"]
            with torch.inference_mode():
                assert found.tolist() == Cast()(torch.tensor(ids), torch.tensor(x)).tolist()

    def test_without_a_forward_it_is_refused(self, tmp_path: Path):
        class Generator(torch.nn.Module):
            @torch.jit.export
            def generate(self, x: torch.Tensor) -> torch.Tensor:
                return x * 2

        torch.jit.script(Generator()).save(str(tmp_path / "m.pt"))
        with pytest.raises(UnsupportedModel, match="forward"):
            martlet.load(tmp_path / "m.pt")

    def test_whose_keys_no_graph_says_are_refused(self, tmp_path: Path):
        class AnyKey(torch.nn.Module):
            def forward(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
                return torch.cat(list(features.values()))

        torch.jit.script(AnyKey()).save(str(tmp_path / "m.pt"))
        with pytest.raises(UnsupportedModel, match="keys"):
            martlet.load(tmp_path / "m.pt")


@pytest.mark.parametrize("way", ["script", "export"])
def test_answers_within_one_another_have_their_names_joined(way: str, tmp_path: Path):
    own, path = Within().eval(), tmp_path / "m.pt2"
    if way == "script":
        torch.jit.script(own).save(str(path))
    else:
        program = torch.export.export(own, (torch.tensor(X4),), dynamic_shapes={"x": {0: ROWS}})
        torch.export.save(program, path)
    with torch.inference_mode():
        raw, (total, inner) = own(torch.tensor(X4))
    wanted = {"output_0": raw, "output_1_0": total, "output_1_1_twice": inner["twice"]}
    with martlet.load(path) as model:
        found = model.predict({"x": X4})
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)


def test_a_program_of_one_row_takes_more_of_them(tmp_path: Path):
    own = Offset().eval()
    torch.export.save(torch.export.export(own, (torch.tensor(X4[:1]),)), tmp_path / "m.pt2")
    with martlet.load(tmp_path / "m.pt2") as model:
        found = model.predict({"x": X4})["output"]
        assert model.predict({"x": X4[:0]})["output"].shape == (0, 2)
    with torch.inference_mode():
        np.testing.assert_allclose(found, own(torch.tensor(X4)), rtol=1e-5, atol=1e-6)


def test_bfloat16_comes_back_as_float32(tmp_path: Path):
    own = torch.nn.Linear(4, 2).bfloat16().eval()
    x = torch.tensor(X4).bfloat16()
    program = torch.export.export(own, (x,), dynamic_shapes={"input": {0: ROWS}})
    torch.export.save(program, tmp_path / "m.pt2")
    with martlet.load(tmp_path / "m.pt2") as model:
        found = model.predict({"input": X4})["output"]
    with torch.inference_mode():
        assert found.tolist() == own(x).float().tolist()


def test_the_layout_before_pytorch_2_8_is_read(tmp_path: Path):
    serialize = pytest.importorskip("torch._export.serde.serialize")
    schema = pytest.importorskip("torch._export.serde.schema")
    own = Offset().eval()
    program = torch.export.export(own, (torch.tensor(X4),), dynamic_shapes={"x": {0: ROWS}})
    parts = serialize.serialize(program)
    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
        archive.writestr("version", ".".join(map(str, schema.SCHEMA_VERSION)))
        archive.writestr("serialized_exported_program.json", parts.exported_program)
        for name in ("state_dict", "constants", "example_inputs"):
            archive.writestr(f"serialized_{name}.pt", getattr(parts, name))
    with martlet.load(tmp_path / "m.pt2") as model:
        found = model.predict({"x": X4})["output"]
    with torch.inference_mode():
        np.testing.assert_allclose(found, own(torch.tensor(X4)), rtol=1e-5, atol=1e-6)


def test_a_module_that_raises_on_zeros_loads_all_the_same(tmp_path: Path):
    class Picky(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if bool(x.sum() == 0):
                raise ValueError("all zero")
            return x * 2

    torch.jit.script(Picky()).save(str(tmp_path / "m.pt"))
    with martlet.load(tmp_path / "m.pt") as model:
        assert model.predict({"x": X4})["output"].tolist() == (X4 * 2).tolist()


class TestWhatNoOperatorTells:
    """Dtypes that are found by running the module on zeros."""

    def found(
        self, own: Any, given: dict[str, np.ndarray], path: Path, way: Any = torch.jit.script
    ):
        torch.jit.save(way(own.eval()), path / "m.pt")
        with martlet.load(path / "m.pt") as model:
            inputs = model.signatures["serving_default"].inputs
            return {n: s.dtype.value for n, s in inputs.items()}, model.predict(given)

    def test_bags_of_ids_with_offsets(self, tmp_path: Path):
        class Bags(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.bags = torch.nn.EmbeddingBag(10, 4, mode="sum")

            def forward(self, ids: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
                return self.bags(ids, offsets)

        own, given = Bags(), {"ids": np.array([1, 2, 4, 5]), "offsets": np.array([0, 3])}
        dtypes, found = self.found(own, given, tmp_path)
        assert dtypes == {"ids": "int64", "offsets": "int64"}
        with torch.inference_mode():
            wanted = own(*map(torch.tensor, given.values()))
        np.testing.assert_allclose(found["output"], wanted, rtol=1e-6)

    @pytest.mark.parametrize("traced", [False, True])
    def test_a_mask_beside_rows_and_an_index(self, traced: bool, tmp_path: Path):
        class Masked(torch.nn.Module):
            def forward(
                self, x: torch.Tensor, mask: torch.Tensor, at: torch.Tensor
            ) -> torch.Tensor:
                return torch.where(mask, x, torch.zeros_like(x)).gather(1, at)

        rows, mask, at = X4[:3], X4[:3] > 0, np.array([[0], [1], [3]])
        sample = tuple(map(torch.tensor, (rows, mask, at)))
        way = (lambda m: torch.jit.trace(m, sample)) if traced else torch.jit.script
        dtypes, found = self.found(Masked(), {"x": rows, "mask": mask, "at": at}, tmp_path, way)
        assert dtypes == {"x": "float32", "mask": "bool", "at": "int64"}
        wanted = np.take_along_axis(np.where(mask, rows, 0), at, 1)
        assert found["output"].tolist() == wanted.tolist()

    @pytest.mark.parametrize("frozen", [False, True])
    def test_layers_of_bfloat16_take_float32_and_round_it(self, frozen: bool, tmp_path: Path):
        own = torch.nn.Linear(4, 2).to(torch.bfloat16)
        way = (lambda m: torch.jit.freeze(torch.jit.script(m))) if frozen else torch.jit.script
        dtypes, found = self.found(own, {"input": X4}, tmp_path, way)
        assert dtypes == {"input": "float32"}
        with torch.inference_mode():
            wanted = own(torch.tensor(X4).to(torch.bfloat16)).float()
        assert found["output"].tolist() == wanted.tolist()

    def test_lengths_that_may_not_be_zero(self, tmp_path: Path):
        class Packed(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.items, self.gru = torch.nn.Embedding(9, 4), torch.nn.GRU(4, 3)

            def forward(self, history: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
                packed = torch.nn.utils.rnn.pack_padded_sequence(
                    self.items(history), lengths, enforce_sorted=False
                )
                return self.gru(packed)[1][-1]

        own, given = (
            Packed(),
            {"history": np.ones((4, 3), np.int64), "lengths": np.array([1, 4, 2])},
        )
        dtypes, found = self.found(own, given, tmp_path)
        assert dtypes == {"history": "int64", "lengths": "int64"}
        with torch.inference_mode():
            wanted = own(*map(torch.tensor, given.values()))
        np.testing.assert_allclose(found["output"], wanted, rtol=1e-5)

    def test_a_number_among_the_arguments(self, tmp_path: Path):
        class Powers(torch.nn.Module):
            def forward(self, x: torch.Tensor, n: int) -> torch.Tensor:
                for _ in range(n):
                    x = x * 2
                return x

        dtypes, found = self.found(Powers(), {"x": X4, "n": np.array(3)}, tmp_path)
        assert dtypes == {"x": "float32", "n": "int64"}
        assert found["output"].tolist() == (X4 * 8).tolist()


def test_weights_as_pytorch_saved_them_before_1_6_are_named_as_that(tmp_path: Path):
    torch.save({"w": X4}, tmp_path / "m.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(UnsupportedModel, match="state_dict"):
        martlet.load(tmp_path / "m.pt")


def test_a_package_of_aotinductor_is_refused_trusted_or_not(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
        archive.writestr("m/archive_format", "pt2")
        archive.writestr("m/data/aotinductor/model/m.so", b"\x7fELF")
    for trusted in (False, True):
        with pytest.raises(UnsupportedModel, match="AOTInductor"):
            martlet.load(tmp_path / "m.pt2", trusted=trusted)


class TestTheModuleAsItWasSaved:
    """PyTorch's freezing changes what some modules answer, and ends the process with others."""

    def test_a_layer_whose_answer_is_normed_and_used_beside(self, tmp_path: Path):
        class Dice(torch.nn.Module):  # of the Deep Interest Network
            def __init__(self) -> None:
                super().__init__()
                self.layer = torch.nn.Linear(4, 8)
                self.norm = torch.nn.BatchNorm1d(8)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                y = self.layer(x)
                return torch.sigmoid(self.norm(y)) * y

        own = Dice()
        own(torch.randn(64, 4) * 3 + 1)
        torch.jit.script(own.eval()).save(str(tmp_path / "m.pt"))
        with martlet.load(tmp_path / "m.pt") as model, torch.inference_mode():
            found = model.predict({"x": X4})["output"]
            np.testing.assert_allclose(found, own(torch.tensor(X4)), rtol=1e-5, atol=1e-6)

    def test_versions_with_masked_attention_in_one_process(self, tmp_path: Path):
        class Attends(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.items = torch.nn.Embedding(20, 8)
                self.attention = torch.nn.MultiheadAttention(8, 2)

            def forward(self, history: torch.Tensor) -> torch.Tensor:
                x = self.items(history).transpose(0, 1)
                later = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
                return self.attention(x, x, x, attn_mask=later, need_weights=False)[0][-1]

        own = Attends().eval()
        torch.jit.script(own).save(str(tmp_path / "m.pt"))
        history = np.array([[1, 2, 3], [4, 5, 19]])
        with torch.inference_mode():
            wanted = own(torch.tensor(history))
        versions = []
        for _ in range(3):
            versions.append(martlet.load(tmp_path / "m.pt"))
            for each in versions:
                found = each.predict({"history": history})["output"]
                np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
        for each in versions:
            each.close()


class TestWhatIsToldOfOutputs:
    """Of a TorchScript module whose inputs are of any shape: what all runs on zeros share."""

    def told(self, own: Any, path: Path) -> dict[str, Any]:
        torch.jit.script(own.eval()).save(str(path / "m.pt"))
        with martlet.load(path / "m.pt") as model:
            return {n: s.shape for n, s in model.signatures["serving_default"].outputs.items()}

    def test_a_width_that_the_input_has(self, tmp_path: Path):
        class Scores(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.items = torch.nn.Embedding(20, 8)

            def forward(self, history: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
                user = self.items(history).mean(1, keepdim=True)
                return torch.bmm(self.items(candidates), user.transpose(1, 2)).squeeze(-1)

        assert self.told(Scores(), tmp_path) == {"output": (-1, -1)}

    def test_ranks_that_the_inputs_have(self, tmp_path: Path):
        class Towers(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.bag = torch.nn.EmbeddingBag(20, 8)
                self.items = torch.nn.Embedding(20, 8)

            def forward(
                self, history: torch.Tensor, item: torch.Tensor
            ) -> tuple[torch.Tensor, torch.Tensor]:
                return self.bag(history), self.items(item)

        assert self.told(Towers(), tmp_path) == {"output_0": (-1, 8), "output_1": None}

    def test_rows_that_are_picked(self, tmp_path: Path):
        class Picks(torch.nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x[x > 0]

        assert self.told(Picks(), tmp_path) == {"output": (-1,)}

    def test_columns_of_ids_each_with_its_own_bag(self, tmp_path: Path):
        class Bags(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.bags = torch.nn.ModuleList([torch.nn.EmbeddingBag(9, 4) for _ in range(3)])

            def forward(self, ids: torch.Tensor) -> torch.Tensor:
                parts = [bag(ids[:, i : i + 1]) for i, bag in enumerate(self.bags)]
                return torch.cat(parts, 1)

        own = Bags()
        assert self.told(own, tmp_path) == {"output": (-1, 12)}
        ids = np.array([[1, 2, 8], [0, 0, 3]])
        with martlet.load(tmp_path / "m.pt") as model, torch.inference_mode():
            found = model.predict({"ids": ids})["output"]
            np.testing.assert_allclose(found, own(torch.tensor(ids)), rtol=1e-6)


def test_a_program_may_answer_with_nothing_in_a_place(tmp_path: Path):
    class Half(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
            return x * 2, None

    program = torch.export.export(Half(), (torch.tensor(X4),), dynamic_shapes={"x": {0: ROWS}})
    torch.export.save(program, tmp_path / "m.pt2")
    with martlet.load(tmp_path / "m.pt2") as model:
        outputs = model.signatures["serving_default"].outputs
        assert [(n, s.shape) for n, s in outputs.items()] == [("output_0", (-1, 4))]
        assert model.predict({"x": X4})["output_0"].tolist() == (X4 * 2).tolist()


def test_a_program_exported_with_rows_that_another_was_exported_with(tmp_path: Path):
    x = torch.tensor(X4)  # the first export leaves marks on its axes, which the second saves
    torch.export.export(torch.nn.Tanh(), (x,), dynamic_shapes={"input": {0: ROWS}})
    torch.export.save(torch.export.export(torch.nn.Tanh(), (x,)), tmp_path / "m.pt2")
    with martlet.load(tmp_path / "m.pt2") as model:
        found = model.predict({"input": X4})["output"]
    np.testing.assert_allclose(found, np.tanh(X4), rtol=1e-6)


def test_hooks_that_were_saved_with_a_module_run(tmp_path: Path):
    class Once(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    def twice(self: Any, given_: tuple[torch.Tensor], found: torch.Tensor) -> torch.Tensor:
        return found * 2

    own = Once()
    own.register_forward_hook(twice)
    torch.jit.script(own).save(str(tmp_path / "m.pt"))
    with martlet.load(tmp_path / "m.pt") as model:
        assert model.predict({"x": X4})["output"].tolist() == ((X4 + 1) * 2).tolist()


def test_a_program_whose_size_is_what_it_finds(tmp_path: Path):
    class Picks(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[x > 0]

    rows = {"x": {0: torch.export.Dim("rows")}}
    program = torch.export.export(Picks(), (torch.ones(3, 4),), dynamic_shapes=rows)
    torch.export.save(program, tmp_path / "m.pt2")
    with martlet.load(tmp_path / "m.pt2") as model:
        assert model.predict({"x": X4})["output"].tolist() == X4[X4 > 0].tolist()
