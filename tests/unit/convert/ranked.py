"""Ranking models made on the spot in torch, with what torch answers; and packages of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from martlet.errors import InvalidInput
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import DType, Signature, Spec

USERS, ITEMS, KINDS, HISTORY = 60, 80, 12, 7


class WideAndDeep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(USERS, 6), nn.Embedding(ITEMS, 5)
        self.kind = nn.Embedding(KINDS, 3)
        self.deep = nn.Sequential(
            nn.Linear(6 + 5 + 3 + 2, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1)
        )
        self.wide = nn.Linear(2, 1)

    def forward(self, user: Tensor, item: Tensor, kind: Tensor, dense: Tensor) -> Tensor:
        joined = torch.cat([self.user(user), self.item(item), self.kind(kind), dense], 1)
        return torch.sigmoid(self.deep(joined) + self.wide(dense))


class DeepFM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        counts = (USERS, ITEMS, KINDS)
        self.vectors = nn.ModuleList(nn.Embedding(n, 4) for n in counts)
        self.weights = nn.ModuleList(nn.Embedding(n, 1) for n in counts)
        self.deep = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, user: Tensor, item: Tensor, kind: Tensor) -> Tensor:
        ids = (user, item, kind)
        fields = torch.stack([table(i) for table, i in zip(self.vectors, ids, strict=True)], 1)
        first = torch.stack([table(i) for table, i in zip(self.weights, ids, strict=True)], 1)
        square = fields.sum(1) ** 2 - (fields**2).sum(1)
        second = 0.5 * square.sum(1, keepdim=True)
        return torch.sigmoid(first.sum(1) + second + self.deep(fields.flatten(1)))


class DIN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.item, self.user = nn.Embedding(ITEMS, 6), nn.Embedding(USERS, 4)
        self.attention = nn.Sequential(nn.Linear(24, 5), nn.PReLU(), nn.Linear(5, 1))
        self.deep = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, user: Tensor, item: Tensor, history: Tensor) -> Tensor:
        query, keys = self.item(item), self.item(history)
        wide = query.unsqueeze(1).expand(-1, history.shape[1], -1)
        scores = self.attention(torch.cat([wide, keys, wide - keys, wide * keys], -1)).squeeze(-1)
        weights = torch.softmax(scores.masked_fill(history == 0, -1e9), -1)
        interest = (weights.unsqueeze(1) @ keys).squeeze(1)
        return torch.sigmoid(self.deep(torch.cat([self.user(user), query, interest], -1)))


class TwoTowers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(USERS, 6), nn.Embedding(ITEMS, 5)
        self.user_tower = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
        self.item_tower = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4))

    def forward(self, user: Tensor, item: Tensor, dense: Tensor) -> Tensor:
        one = self.user_tower(torch.cat([self.user(user), dense], 1))
        other = self.item_tower(self.item(item))
        return (one * other).sum(1, keepdim=True)


Rows = Callable[[np.random.Generator, int], np.ndarray]

INPUTS: dict[str, Rows] = {
    "user": lambda random, n: random.integers(0, USERS, n),
    "item": lambda random, n: random.integers(0, ITEMS, n),
    "kind": lambda random, n: random.integers(0, KINDS, n),
    "dense": lambda random, n: random.standard_normal((n, 2)).astype(np.float32),
    "history": lambda random, n: random.integers(0, ITEMS, (n, HISTORY)),
}


@dataclass
class Original:
    """A torch model in its own library, as a servable."""

    net: nn.Module
    names: tuple[str, ...]
    user: tuple[str, ...]
    signatures: Mapping[str, Signature] = field(init=False)

    def __post_init__(self) -> None:
        random = np.random.default_rng(0)
        specs = [
            Spec(name, DType.of(value.dtype), (-1, *value.shape[1:]))
            for name in self.names
            for value in [INPUTS[name](random, 2)]
        ]
        outputs = [Spec("score", DType.FLOAT32, (-1, 1))]
        self.signatures = {DEFAULT_SIGNATURE: Signature.of(specs, outputs)}

    def rows(self, count: int, seed: int = 0, *, one_user: bool = False) -> dict[str, np.ndarray]:
        random = np.random.default_rng(seed)
        rows = {name: INPUTS[name](random, count) for name in self.names}
        for name in self.user if one_user else ():
            rows[name] = np.repeat(rows[name][:1], count, axis=0)
        return rows

    def predict(self, inputs, signature_name: str = DEFAULT_SIGNATURE):
        given = [torch.from_numpy(np.array(inputs[name])) for name in self.names]
        try:
            with torch.no_grad():
                return {"score": self.net(*given).numpy()}
        except IndexError as exc:
            raise InvalidInput(str(exc)) from exc

    def close(self) -> None: ...

    def export(self, path: Path) -> onnx.ModelProto:
        rows = self.rows(3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                self.net,
                tuple(torch.from_numpy(rows[name]) for name in self.names),
                str(path),
                input_names=list(self.names),
                output_names=["score"],
                dynamic_axes={name: {0: "n"} for name in (*self.names, "score")},
                opset_version=17,
                dynamo=False,
            )
        return onnx.load(path)


def original(kind: str) -> Original:
    torch.manual_seed(3)
    made: dict[str, Callable[[], Original]] = {
        "wide and deep": lambda: Original(
            WideAndDeep(), ("user", "item", "kind", "dense"), ("user",)
        ),
        "deepfm": lambda: Original(DeepFM(), ("user", "item", "kind"), ("user",)),
        "din": lambda: Original(DIN(), ("user", "item", "history"), ("user", "history")),
        "two towers": lambda: Original(TwoTowers(), ("user", "item", "dense"), ("user", "dense")),
    }
    found = made[kind]()
    for module in found.net.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean = torch.randn(module.num_features)
            module.running_var = torch.rand(module.num_features) + 0.5
    found.net.eval()
    return found


KINDS_OF_MODEL = ("wide and deep", "deepfm", "din", "two towers")
