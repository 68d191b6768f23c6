"""TorchScript modules as they were saved: what no file says of them is found by running them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import martlet

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")

X4 = np.random.default_rng(8).normal(size=(5, 4)).astype(np.float32)
ROWS = torch.export.Dim("rows")


def test_bfloat16_comes_back_as_float32(tmp_path: Path):
    own = torch.nn.Linear(4, 2).bfloat16().eval()
    x = torch.tensor(X4).bfloat16()
    program = torch.export.export(own, (x,), dynamic_shapes={"input": {0: ROWS}})
    torch.export.save(program, tmp_path / "m.pt2")
    with martlet.load(tmp_path / "m.pt2") as model:
        found = model.predict({"input": X4})["output"]
    with torch.inference_mode():
        assert found.tolist() == own(x).float().tolist()


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
