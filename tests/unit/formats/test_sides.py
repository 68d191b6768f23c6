"""The compiled pass over both sides of a ranking, beside the same in numpy; no model."""

from __future__ import annotations

import os
import random
import time

import numpy as np
import pytest

from martlet import native
from martlet.stores.keys import DenseKeys, HashedKeys, pack_keys

pytestmark = pytest.mark.skipif(native.find("sides") is None, reason="the part is not built")

USERS, ITEMS, DIM, WIDTH = 9, 12, 3, 5


class Case:
    """Tables of random keys, and what is to be found in them."""

    def __init__(self, rng: random.Random) -> None:
        random_ = np.random.default_rng(rng.getrandbits(32))
        spread = rng.choice([1, 10**9])
        self.users = np.array(rng.sample(range(20), USERS)) * spread - 5
        self.items = np.array(rng.sample(range(30), ITEMS)) * rng.choice([1, 10**9]) + 7
        self.vectors = random_.standard_normal((USERS + 1, DIM)).astype(np.float32)
        self.vectors[-1] = 0
        self.weights = random_.standard_normal((DIM + 2, WIDTH)).astype(np.float32)
        self.bias = random_.standard_normal(WIDTH).astype(np.float32)
        self.kinds = random_.integers(0, 9, (ITEMS + 1, 2))
        self.prices = random_.standard_normal(ITEMS + 1).astype(np.float32)
        compiled = native.find("sides")
        assert compiled is not None
        feeds = (("user", index(self.users), self.vectors, DIM), ("about", None, None, 2))
        columns = (("kind", self.kinds), ("price", self.prices), ("title", None))
        about = ("item", index(self.items), ITEMS + 1, columns)
        self.sides = compiled.Sides(self.weights, self.bias, feeds, about)

    def request(self, rng: random.Random) -> dict[str, np.ndarray]:
        """A request that is mostly a common one."""
        rows = np.array([rng.randrange(ITEMS) for _ in range(rng.randint(1, 8))])
        found = {
            "user": np.full((len(rows), 1), rng.choice(self.users)),
            "about": np.tile(np.float32([rng.random(), 1]), (len(rows), 1)),
            "item": self.items[rows],
            "kind": self.kinds[rows],
            "price": self.prices[rows],
        }
        for name in rng.sample(list(found), rng.choice([0, 0, 1, 2])):
            found[name] = self.changed(rng, found[name])
        for name in ("kind", "price"):
            if rng.random() < 0.2:
                del found[name]
        return found

    @staticmethod
    def changed(rng: random.Random, array: np.ndarray) -> np.ndarray:
        match rng.randrange(7):
            case 0:
                return array[:-1]
            case 1:
                return array.astype(rng.choice([np.int32, np.float64, np.float32, np.bool_]))
            case 2:
                return np.concatenate([array, array], axis=rng.randrange(array.ndim))
            case 3:
                return np.asfortranarray(array)
            case 4:
                return np.repeat(array, 3, axis=0)[::3]
            case 5:
                return np.broadcast_to(array[:1], array.shape)
            case _:
                other = array.copy()
                other.reshape(-1)[rng.randrange(other.size)] += 1
                return other

    def expected(self, found) -> tuple[np.ndarray, np.ndarray] | None:
        """The share and the rows, or None, in numpy."""
        where = {int(key): row for row, key in enumerate(self.items)}
        keys, user, about = found["item"], found["user"], found["about"]
        if keys.dtype.kind != "i" or keys.size != len(keys):
            return None
        rows = np.array([where.get(int(key), -1) for key in keys.reshape(-1)], np.int64)
        if (rows < 0).any():
            return None
        for name, stored in (("kind", self.kinds), ("price", self.prices)):
            if name in found:
                given = found[name]
                if given.dtype != stored.dtype or given.shape != (len(rows), *stored.shape[1:]):
                    return None
                if not (given == stored[rows]).all():
                    return None
        if (
            user.dtype.kind != "i"
            or user.shape[1:] != (1,)
            or not len(user)
            or len(user) != len(about)
        ):
            return None
        if about.dtype != np.float32 or about.shape[1:] != (2,):
            return None
        if (user != user[0]).any() or (about != about[0]).any():
            return None
        row = np.flatnonzero(self.users == user[0, 0])
        if not len(row):
            return None
        x = np.concatenate([self.vectors[row[0]], about[0]])
        return x @ self.weights + self.bias, rows


def index(keys):
    meta, sections = pack_keys(keys)
    if meta["keys"] == "dense":
        return DenseKeys(keys, sections["keys.slots"], meta["lowest"]).index
    return HashedKeys(keys, sections["keys.slots"]).index


def fuzz(seed: int) -> int:
    """Hold both against each other; how many were found."""
    rng, times = random.Random(seed), 0
    case = Case(rng)
    for _ in range(200):
        request = case.request(rng)
        users = np.empty((1, WIDTH), np.float32)
        rows = np.empty(len(request["item"]), np.int64)
        found, expected = case.sides.find(request, users, rows), case.expected(request)
        if found:
            times += 1
            assert expected is not None, request
            np.testing.assert_allclose(users[0], expected[0], 1e-5, 1e-6)
            np.testing.assert_array_equal(rows, expected[1])
            # The same for several users, in the same order.
            row = np.flatnonzero(case.users == request["user"][0, 0])[0]
            x = np.concatenate([case.vectors[row], request["about"][0]])[None].repeat(2, axis=0)
            out = np.empty((2, WIDTH), np.float32)
            case.sides.share(x, out)
            assert out.tobytes() == users.tobytes() * 2
    return times


class TestFuzz:
    @pytest.mark.parametrize("seed", range(6))
    def test_what_is_found_is_what_numpy_finds(self, seed):
        assert fuzz(seed) > 50

    def test_for_as_long_as_asked(self):
        seed, until = 100, time.monotonic() + float(os.environ.get("MARTLET_FUZZ_SECONDS", 0))
        while time.monotonic() < until:
            assert fuzz(seed) > 20, seed
            seed += 1


def test_a_common_request_is_found():
    rng = random.Random(7)
    case = Case(rng)
    request = {
        "user": np.full((3, 1), case.users[2]),
        "about": np.ones((3, 2), np.float32),
        "item": case.items[:3],
    }
    users, rows = np.empty((1, WIDTH), np.float32), np.empty(3, np.int64)
    assert case.sides.find(request, users, rows)
    assert rows.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"weights": np.zeros((3, 2), np.float64)},
        {"weights": np.zeros((2, 2), np.float32)},
        {"bias": np.zeros(3, np.float32)},
        {"feeds": (("x", None, None, 4),)},
        {"feeds": (("x", None, np.zeros((2, 3), np.float32), 3),)},
        {"items": ("i", (np.zeros(4, np.int16), None, 0), 4, ())},
        {"items": ("i", (np.zeros(3, np.int32), np.zeros(3, np.int64), 0), 4, ())},
        {"items": ("i", (np.zeros(4, np.int32), np.zeros(9, np.int64), 0), 4, ())},
        {"items": ("i", (np.zeros(4, np.int32), None, 0), 4, (("c", np.zeros(3, np.int64)),))},
    ],
)
def test_parts_that_do_not_fit_together_are_refused(wrong):
    good = {
        "weights": np.zeros((3, 2), np.float32),
        "bias": np.zeros(2, np.float32),
        "feeds": (("x", None, None, 3),),
        "items": ("i", (np.zeros(4, np.int32), None, 0), 4, ()),
    }
    compiled = native.find("sides")
    assert compiled is not None
    compiled.Sides(*good.values())
    with pytest.raises((ValueError, TypeError, BufferError)):
        compiled.Sides(*(good | wrong).values())


def test_a_damaged_index_finds_nothing_beyond_the_table():
    compiled = native.find("sides")
    assert compiled is not None
    slots = np.array([0, 9, -1, 2**31 - 1], np.int32)
    sides = compiled.Sides(None, None, (), ("i", (slots, None, 0), 4, ()))
    rows = np.empty(1, np.int64)
    answers = [sides.find({"i": np.array([k])}, None, rows) for k in range(5)]
    assert answers == [True, False, False, False, False]
