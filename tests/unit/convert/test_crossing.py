"""What is left of a split ranker is read as sums and layers, and answers as the original did.

Expected: torch's answers to the whole net.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ranked import ITEMS, Original, original
from torch import nn

from martlet.convert.package import write_package
from martlet.convert.rewriting.rewrite import rewrite
from martlet.convert.splitting.crossing import Crossing, crossing
from martlet.convert.splitting.split import split
from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats import LoadOptions
from martlet.formats.package.cross import Cross
from martlet.formats.package.dense import Activation
from martlet.formats.package.servable import PackageServable


class NeuMF(nn.Module):
    """He et al., 2017: a product of vectors and layers over their concatenation, together."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(n, 4) for n in (60, 80, 60, 80))
        self.layers = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4), nn.Tanh())
        self.last = nn.Linear(8, 1)

    def forward(self, user, item):
        a, b, c, d = (t(i) for t, i in zip(self.tables, (user, item) * 2, strict=True))
        joined = torch.cat([a * b, self.layers(torch.cat([c, d], 1))], 1)
        return torch.sigmoid(self.last(joined))


class Layers(nn.Module):
    """A stack of layers, normalised or not, of any activation."""

    def __init__(self, widths, activation, normalised):
        super().__init__()
        self.user, self.item = nn.Embedding(60, 5), nn.Embedding(80, 3)
        below, parts = 8, []
        for width in widths:
            parts += [nn.Linear(below, width), activation()]
            if normalised:
                norm = nn.BatchNorm1d(width, eps=1e-2)
                norm.running_mean, norm.running_var = torch.randn(width), torch.rand(width) + 0.5
                parts.append(norm)
            below = width
        self.layers = nn.Sequential(*parts, nn.Linear(below, 1))

    def forward(self, user, item):
        return self.layers(torch.cat([self.user(user), self.item(item)], 1))


class WithProduct(nn.Module):
    """Layers over both vectors and their product, and one more product beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(60, 4), nn.Embedding(80, 4)
        self.layers = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, user, item):
        one, other = self.user(user), self.item(item)
        product = one * other
        deep = self.layers(torch.cat([one, other, product], 1))
        return torch.sigmoid(deep + product.sum(1, keepdim=True))


class Upright(nn.Module):
    """Two towers whose product is one of matrices, as Keras' Dot becomes: a row and a column."""

    def __init__(self, *, user_first: bool) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(60, 4), nn.Embedding(80, 4)
        self.user_first = user_first

    def forward(self, user, item):
        pair = [torch.relu(self.user(user)), torch.relu(self.item(item))]
        row, column = pair if self.user_first else pair[::-1]
        return (row.unsqueeze(1) @ column.unsqueeze(2)).squeeze(2)


class NFM(nn.Module):
    """He & Chua, 2017: the pairs of all fields, number by number, are what the layers take."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(n, 4) for n in (60, 80))
        self.layers = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, user, item):
        fields = torch.stack([t(i) for t, i in zip(self.tables, (user, item), strict=True)], 1)
        return self.layers(0.5 * (fields.sum(1) ** 2 - (fields**2).sum(1)))


def parts_of(model: Original, folder: Path) -> tuple[Crossing, list]:
    rewritten = rewrite(model.export(folder / "m.onnx"), [model.rows(8)], model)
    found = split(rewritten.model, model.user, model.rows(8), rewritten.lookups, key="item")
    return crossing(found, model.rows(8)), rewritten.lookups


def served(
    model: Original, folder: Path, items: int = ITEMS
) -> tuple[PackageServable, dict[str, np.ndarray]]:
    made, lookups = parts_of(model, folder)
    catalogue = {name: model.rows(items, seed=9)[name] for name in made.item.inputs}
    catalogue["item"] = np.arange(items)
    write_package(
        folder / "package", onnx.ModelProto(), model.signatures["serving_default"],
        folder / "m.onnx", lookups=lookups, user=made.user, item=made.item, cross=made.cross,
        catalogue=catalogue, threshold_bytes=0,
    )  # fmt: skip
    return PackageServable(folder / "package", LoadOptions()), catalogue


def assert_as_original(model: Original, found: PackageServable, rows) -> None:
    expected = model.predict(rows)["score"]
    np.testing.assert_allclose(found.predict(rows)["score"], expected, 1e-5, 1e-6)


def net(module: nn.Module) -> Original:
    torch.manual_seed(3)
    return Original(module.eval(), ("user", "item"), ("user",))


MODELS = {
    "wide and deep": (lambda: original("wide and deep"), (16, 0, True)),
    "deepfm": (lambda: original("deepfm"), (8, 4, True)),
    "two towers": (lambda: original("two towers"), (0, 4, False)),
    "neumf": (lambda: net(NeuMF()), (8, 4, False)),
    "with a product": (lambda: net(WithProduct()), (8, 4, False)),
    "a row and a column": (lambda: net(Upright(user_first=True)), (0, 4, False)),
    "a column and a row": (lambda: net(Upright(user_first=False)), (0, 4, False)),
    "nfm": (lambda: net(NFM()), (8, 0, False)),
}


@pytest.mark.parametrize("native", ["1", "0"])
@pytest.mark.parametrize("name", MODELS)
class TestRankers:
    def test_its_parts_are_told_apart(self, name, native, tmp_path):
        make, expected = MODELS[name]
        cross = parts_of(make(), tmp_path)[0].cross
        assert (cross.hidden, cross.dot, cross.linear) == expected

    def test_a_package_of_it_answers_as_the_original(self, name, native, tmp_path, monkeypatch):
        monkeypatch.setenv("MARTLET_NATIVE", native)
        model = MODELS[name][0]()
        found, catalogue = served(model, tmp_path)
        for one_user in (True, False):
            rows = model.rows(33, seed=5, one_user=one_user)
            assert_as_original(model, found, rows)
            known = {name: each[rows["item"]] for name, each in catalogue.items()}
            assert_as_original(model, found, rows | known)
        assert_as_original(model, found, model.rows(0))

    def test_an_item_that_is_not_in_the_table_is_computed(
        self, name, native, tmp_path, monkeypatch
    ):
        monkeypatch.setenv("MARTLET_NATIVE", native)
        model = MODELS[name][0]()
        made, lookups = parts_of(model, tmp_path)
        write_package(
            tmp_path / "package", onnx.ModelProto(), model.signatures["serving_default"],
            tmp_path / "m.onnx", lookups=lookups, user=made.user, item=made.item, cross=made.cross,
        )  # fmt: skip
        found = PackageServable(tmp_path / "package", LoadOptions())
        assert_as_original(model, found, model.rows(20, one_user=True))


@settings(max_examples=12)
@given(
    widths=st.lists(st.integers(2, 20), min_size=1, max_size=4),
    activation=st.sampled_from(
        [nn.ReLU, nn.Sigmoid, nn.Tanh, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Identity]
    ),
    normalised=st.booleans(),
)
def test_any_stack_of_layers_is_read(widths, activation, normalised, tmp_path_factory):
    model = net(Layers(widths, activation, normalised))
    found, _ = served(model, tmp_path_factory.mktemp("net"))
    assert_as_original(model, found, model.rows(20, seed=4))


def test_more_layers_than_it_takes_are_left_to_onnxruntime(tmp_path):
    with pytest.raises(UnsupportedModel, match="16 layers"):
        parts_of(net(Layers([2] * 18, nn.Tanh, False)), tmp_path)


class TestItsFile:
    cross = Cross(0, 3, True, (), Activation.SIGMOID)

    def test_holds_it_whole(self, tmp_path):
        made, _ = parts_of(original("deepfm"), tmp_path)
        made.cross.save(tmp_path / "c.npz")
        found, rng = Cross.load(tmp_path / "c.npz"), np.random.default_rng(0)
        users, items = rng.random((2, 1, found.width), np.float32)
        expected = made.cross.score(users, items, np.zeros(1, np.int64))
        assert np.array_equal(found.score(users, items, np.zeros(1, np.int64)), expected)

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no zip at all"])
    def test_damaged_is_refused(self, content, tmp_path):
        (tmp_path / "c.npz").write_bytes(content)
        with pytest.raises(UnsupportedModel, match="is not a cross part"):
            Cross.load(tmp_path / "c.npz")

    def test_cut_off_anywhere_is_refused(self, tmp_path):
        self.cross.save(tmp_path / "c.npz")
        whole = (tmp_path / "c.npz").read_bytes()
        for end in range(0, len(whole), 37):
            (tmp_path / "c.npz").write_bytes(whole[:end])
            with pytest.raises(UnsupportedModel):
                Cross.load(tmp_path / "c.npz")


class TestAnItemThatIsInTheCatalogue:
    """Its id is all that need come: what its part was computed from is in the table."""

    def made(self, folder):
        model = original("wide and deep")
        found, catalogue = served(model, folder)
        rows = model.rows(20, seed=5, one_user=True)
        known = {name: each[rows["item"]] for name, each in catalogue.items()}
        return model, found, rows | known

    def test_is_scored_by_its_id_alone(self, tmp_path):
        model, found, rows = self.made(tmp_path)
        few = {name: rows[name] for name in ("user", "item")}
        required = {n for n, s in found.signatures["serving_default"].inputs.items() if s.required}
        assert required == {"user", "item"}
        expected = model.predict(rows)["score"]
        np.testing.assert_allclose(found.predict(few)["score"], expected, 1e-5, 1e-6)

    def test_keeps_the_rest_where_one_input_is_another(self, tmp_path):
        model, found, rows = self.made(tmp_path)
        other = {**rows, "kind": (rows["kind"] + 1) % 12}
        few = {name: other[name] for name in ("user", "item", "kind")}
        expected = model.predict(other)["score"]
        np.testing.assert_allclose(found.predict(few)["score"], expected, 1e-5, 1e-6)

    def test_one_that_is_not_is_refused_with_what_to_give(self, tmp_path):
        model = original("wide and deep")
        found, _ = served(model, tmp_path, items=40)
        rows = {"user": np.zeros(2, np.int64), "item": np.array([3, 41])}
        with pytest.raises(InvalidInput, match=r"item=41 is not in the catalogue: give its kind"):
            found.predict(rows)
