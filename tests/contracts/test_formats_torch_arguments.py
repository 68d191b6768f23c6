"""What TorchScript and torch.export take and give: arguments and answers of every form."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import martlet
from martlet.errors import UnsupportedModel

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")


X4 = np.random.default_rng(8).normal(size=(5, 4)).astype(np.float32)
ROWS = torch.export.Dim("rows")


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


def test_a_program_whose_size_is_what_it_finds(tmp_path: Path):
    class Picks(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[x > 0]

    rows = {"x": {0: torch.export.Dim("rows")}}
    program = torch.export.export(Picks(), (torch.ones(3, 4),), dynamic_shapes=rows)
    torch.export.save(program, tmp_path / "m.pt2")
    with martlet.load(tmp_path / "m.pt2") as model:
        assert model.predict({"x": X4})["output"].tolist() == X4[X4 > 0].tolist()
