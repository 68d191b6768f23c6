"""Attention over a history, written the many ways that it is, is split and answers as it did.

Expected: torch's answers to the whole net.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ranked import HISTORY, ITEMS, USERS, Original, original
from torch import Tensor, nn

from martlet.convert.package import write_package
from martlet.convert.rewriting.rewrite import rewrite
from martlet.convert.splitting.crossing import Crossing, crossing
from martlet.convert.splitting.split import split
from martlet.errors import UnsupportedModel
from martlet.formats import LoadOptions
from martlet.formats.package.servable import PackageServable

DIM = 6


class Attending(nn.Module):
    """A ranker whose *attend* makes one vector of a candidate and the history."""

    def __init__(self) -> None:
        super().__init__()
        self.item, self.user = nn.Embedding(ITEMS, DIM), nn.Embedding(USERS, 4)
        self.deep = nn.Sequential(nn.Linear(4 + 2 * DIM, 8), nn.ReLU(), nn.Linear(8, 1))
        self.build()

    def build(self) -> None: ...

    def attend(self, query: Tensor, keys: Tensor, seen: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, user: Tensor, item: Tensor, history: Tensor) -> Tensor:
        query, keys = self.item(item), self.item(history)
        interest = self.attend(query, keys, history != 0)
        return torch.sigmoid(self.deep(torch.cat([self.user(user), query, interest], 1)))


def unit_of(query: Tensor, keys: Tensor) -> Tensor:
    wide = query.unsqueeze(1).expand(-1, keys.shape[1], -1)
    return torch.cat([wide, keys, wide - keys, wide * keys], -1)


class SumOfSigmoids(Attending):
    """As Zhou et al. had it: no softmax, padding multiplied away."""

    def build(self) -> None:
        self.unit = nn.Sequential(nn.Linear(4 * DIM, 7), nn.Sigmoid(), nn.Linear(7, 1))

    def attend(self, query, keys, seen):
        return (self.unit(unit_of(query, keys)) * keys * seen.unsqueeze(-1)).sum(1)


class DeepUnit(Attending):
    """Layers of 80 and 40 in proportion, a mean over what is seen."""

    def build(self) -> None:
        self.unit = nn.Sequential(
            nn.Linear(4 * DIM, 16), nn.LeakyReLU(0.2), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 1)
        )

    def attend(self, query, keys, seen):
        mask = seen.float().unsqueeze(-1)
        summed = (self.unit(unit_of(query, keys)) * keys * mask).sum(1)
        return summed / mask.sum(1).clamp(min=1)


class AddedMask(Attending):
    """The mask is added before the softmax."""

    def build(self) -> None:
        self.unit = nn.Sequential(nn.Linear(4 * DIM, 7), nn.ReLU(), nn.Linear(7, 1))

    def attend(self, query, keys, seen):
        scores = self.unit(unit_of(query, keys)).squeeze(-1) + (~seen).float() * -1e9
        return torch.matmul(torch.softmax(scores, 1).unsqueeze(1), keys).squeeze(1)


class Infinite(Attending):
    """What is not seen is minus infinity, and the first is always seen."""

    def build(self) -> None:
        self.unit = nn.Linear(4 * DIM, 1)

    def attend(self, query, keys, seen):
        seen = seen.clone()
        seen[:, 0] = True
        scores = self.unit(unit_of(query, keys)).masked_fill(~seen.unsqueeze(-1), -math.inf)
        return (torch.softmax(scores, 1) * keys).sum(1)


class Scaled(Attending):
    """The scaled dot product, with its own keys and values (Vaswani et al., 2017)."""

    def build(self) -> None:
        self.q, self.k, self.v = (nn.Linear(DIM, DIM) for _ in range(3))

    def attend(self, query, keys, seen):
        scores = self.q(query).unsqueeze(1) @ self.k(keys).transpose(1, 2) / math.sqrt(DIM)
        scores = scores.masked_fill(~seen.unsqueeze(1), -1e9)
        return (torch.softmax(scores, -1) @ self.v(keys)).squeeze(1)


class Products(Attending):
    """The dot product summed over columns; scores along the history, no mask."""

    def attend(self, query, keys, seen):
        scores = (query.unsqueeze(1) * keys).sum(-1)
        return (torch.softmax(scores, -1).unsqueeze(-1) * keys).sum(1)


class Column(Attending):
    """Keys times a column, values transposed: every product the other way round."""

    def attend(self, query, keys, seen):
        scores = keys @ query.unsqueeze(-1) * seen.unsqueeze(-1)
        return (keys.transpose(1, 2) @ scores).squeeze(-1)


class Two(Attending):
    """Two units over one history, one of which is multiplied by the candidate."""

    def build(self) -> None:
        self.one = nn.Sequential(nn.Linear(4 * DIM, 5), nn.ReLU(), nn.Linear(5, 1))
        self.other = nn.Sequential(nn.Linear(4 * DIM, 4), nn.Tanh(), nn.Linear(4, 1))

    def attend(self, query, keys, seen):
        both = unit_of(query, keys)
        first = (self.one(both) * keys * seen.unsqueeze(-1)).sum(1)
        second = (torch.softmax(self.other(both), 1) * keys).sum(1)
        return first + 0.5 * second


class Positions(Attending):
    """Each place in the history has a weight and a vector of its own."""

    def build(self) -> None:
        self.place = nn.Parameter(torch.randn(HISTORY, DIM))
        self.share = nn.Parameter(torch.rand(HISTORY, 1))
        self.unit = nn.Sequential(nn.Linear(4 * DIM, 7), nn.ReLU(), nn.Linear(7, 1))

    def attend(self, query, keys, seen):
        keys = keys + self.place
        return (self.unit(unit_of(query, keys)) * self.share * keys).sum(1)


class Einsum(Attending):
    """As the product of the paper is written: by the names of the axes."""

    def attend(self, query, keys, seen):
        scores = torch.einsum("bd,btd->bt", query, keys).masked_fill(~seen, -1e9)
        return torch.einsum("bt,btd->bd", torch.softmax(scores, 1), keys)


class Interest(Attending):
    """The attended vector and its product with the candidate both go into the layers."""

    def build(self) -> None:
        self.unit = nn.Sequential(nn.Linear(4 * DIM, 7), nn.ReLU(), nn.Linear(7, 1))
        self.deep = nn.Sequential(nn.Linear(4 + 3 * DIM, 8), nn.ReLU(), nn.Linear(8, 1))

    def attend(self, query, keys, seen):
        interest = (self.unit(unit_of(query, keys)) * keys * seen.unsqueeze(-1)).sum(1)
        return torch.cat([interest, interest * query], 1)


class Lengths(SumOfSigmoids):
    """What is seen is said by an input of its own, how many items of the history there are."""

    def forward(self, user, item, history, dense):
        seen = torch.arange(HISTORY)[None] < 4 + dense[:, :1]
        query, keys = self.item(item), self.item(history)
        interest = self.attend(query, keys, seen)
        return torch.sigmoid(self.deep(torch.cat([self.user(user), query, interest], 1)))


class Product(nn.Module):
    """No layers: the user's attended vector times the candidate's."""

    def __init__(self) -> None:
        super().__init__()
        self.item, self.user = nn.Embedding(ITEMS, DIM), nn.Embedding(USERS, DIM)

    def forward(self, user, item, history):
        query, keys = self.item(item), self.item(history)
        weights = torch.softmax((query.unsqueeze(1) * keys).sum(-1, keepdim=True), 1)
        return ((self.user(user) + (weights * keys).sum(1)) * query).sum(1, keepdim=True)


WAYS = (
    SumOfSigmoids, DeepUnit, AddedMask, Infinite, Scaled, Products, Column, Two, Positions, Einsum,
    Interest, Lengths, Product,
)  # fmt: skip


def net(module: nn.Module) -> Original:
    if isinstance(module, Lengths):
        names = ("user", "item", "history", "dense")
        return Original(module.eval(), names, ("user", "history", "dense"))
    return Original(module.eval(), ("user", "item", "history"), ("user", "history"))


def rows_of(model: Original, count: int, **more) -> dict[str, np.ndarray]:
    """Rows with padding at the end, some all of it, some without."""
    rows = model.rows(count, **more)
    seen = np.random.default_rng(count).integers(0, HISTORY + 1, len(rows["history"]))
    if more.get("one_user"):
        seen[:] = 4
    rows["history"][np.arange(HISTORY)[None, :] >= seen[:, None]] = 0
    return rows


def parts_of(model: Original, folder: Path) -> tuple[Crossing, tuple]:
    rows = rows_of(model, 8)
    rewritten = rewrite(model.export(folder / "m.onnx"), [rows], model)
    found = split(rewritten.model, model.user, rows, rewritten.lookups, key="item")
    return crossing(found, rows), rewritten.lookups


def served(model: Original, folder: Path, *, computed: bool = True) -> PackageServable:
    made, lookups = parts_of(model, folder)
    write_package(
        folder / "package", onnx.ModelProto(), model.signatures["serving_default"],
        folder / "m.onnx", lookups=lookups, user=made.user, item=made.item, cross=made.cross,
        catalogue={"item": np.arange(ITEMS)} if computed else None, threshold_bytes=0,
    )  # fmt: skip
    return PackageServable(folder / "package", LoadOptions())


def assert_as_original(model: Original, found: PackageServable, rows) -> None:
    expected = model.predict(rows)["score"]
    np.testing.assert_allclose(found.predict(rows)["score"], expected, 1e-5, 1e-6)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
class TestEachWay:
    @pytest.mark.parametrize("native", ["1", "0"])
    def test_answers_as_the_original(self, way, native, tmp_path, monkeypatch):
        monkeypatch.setenv("MARTLET_NATIVE", native)
        torch.manual_seed(5)
        model = net(way())
        found = served(model, tmp_path)
        for one_user in (True, False):
            assert_as_original(model, found, rows_of(model, 33, seed=5, one_user=one_user))
        assert_as_original(model, found, rows_of(model, 1, seed=6))
        assert_as_original(model, found, model.rows(0))

    def test_items_that_are_not_in_the_table_are_computed(self, way, tmp_path):
        torch.manual_seed(6)
        model = net(way())
        found = served(model, tmp_path, computed=False)
        assert_as_original(model, found, rows_of(model, 20, one_user=True))


class TestWhatIsLeftForAPair:
    def unit(self, way, tmp_path):
        torch.manual_seed(5)
        made, _ = parts_of(net(way()), tmp_path)
        return made.cross.attention

    def test_of_a_first_layer_over_four_is_the_product_alone(self, tmp_path):
        (unit,) = self.unit(SumOfSigmoids, tmp_path)
        assert (unit.query, unit.hidden) == (DIM, 7)

    def test_of_a_dot_product_is_one_column(self, tmp_path):
        (unit,) = self.unit(Scaled, tmp_path)
        assert (unit.query, unit.hidden, unit.softmax, unit.gated) == (DIM, 1, True, True)

    def test_two_units_are_two(self, tmp_path):
        assert [unit.hidden for unit in self.unit(Two, tmp_path)] == [5, 4]


@settings(max_examples=12)
@given(
    parts=st.lists(st.sampled_from("qkdp"), min_size=1, max_size=4, unique=True),
    widths=st.lists(st.integers(1, 12), max_size=2),
    activation=st.sampled_from([nn.ReLU, nn.Sigmoid, nn.Tanh, nn.LeakyReLU]),
    softmax=st.booleans(),
)
def test_any_unit_is_read(parts, widths, activation, softmax, tmp_path_factory):
    class Any(Attending):
        def build(self) -> None:
            sizes = [DIM * len(parts), *widths]
            layers = [nn.Linear(sizes[-1], 1)]
            for below, width in zip(sizes[-2::-1], sizes[:0:-1], strict=True):
                layers[:0] = [nn.Linear(below, width), activation()]
            self.unit = nn.Sequential(*layers)

        def attend(self, query, keys, seen):
            wide = query.unsqueeze(1).expand(-1, keys.shape[1], -1)
            given = {"q": wide, "k": keys, "d": wide - keys, "p": wide * keys}
            scores = self.unit(torch.cat([given[each] for each in parts], -1))
            if softmax:
                scores = scores.masked_fill(~seen.unsqueeze(-1), -1e9)
                return (torch.softmax(scores, 1) * keys).sum(1)
            return (scores * keys * seen.unsqueeze(-1)).sum(1)

    torch.manual_seed(len(parts))
    model = net(Any())
    try:
        found = served(model, tmp_path_factory.mktemp("net"))
    except UnsupportedModel:
        # Weights of one side alone are no attention: the split itself parts them.
        assert not set(parts) & {"p"}
        assert not (widths and set(parts) - {"q"} and set(parts) - {"k"})
        return
    assert_as_original(model, found, rows_of(model, 20, seed=4, one_user=True))


def test_a_transformer_over_the_candidate_is_left_to_onnxruntime(tmp_path):
    class Encoder(Attending):
        """The candidate is one more item of the sequence: every place sees it."""

        def attend(self, query, keys, seen):
            sequence = torch.cat([keys, query.unsqueeze(1)], 1)
            weights = torch.softmax(sequence @ sequence.transpose(1, 2), -1)
            return (weights @ sequence)[:, -1]

    with pytest.raises(UnsupportedModel):
        parts_of(net(Encoder()), tmp_path)


def test_the_net_of_the_paper_with_a_softmax(tmp_path):
    model = original("din")
    found = served(model, tmp_path)
    assert_as_original(model, found, rows_of(model, 33, one_user=True))
