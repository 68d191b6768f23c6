"""The common ranking's sides in one pass: what it finds, the package finds the same otherwise."""

from __future__ import annotations

import gc
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranked import ITEMS, USERS, original
from test_crossing import net, served
from torch import cat, nn

from martlet import native
from martlet.errors import InvalidInput
from martlet.formats.package.servable import PackageServable
from martlet.formats.package.sides import Sides

pytestmark = pytest.mark.skipif(native.find("sides") is None, reason="the part is not built")


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> tuple[PackageServable, dict[str, np.ndarray]]:
    return served(original("wide and deep"), tmp_path_factory.mktemp("wide"))


def sides_of(found: PackageServable) -> Sides:
    assert found._sides is not None
    return found._sides


def otherwise(found: PackageServable, rows) -> np.ndarray:
    """What it answers when both sides are found by its other way."""
    sides, found._sides = found._sides, None
    try:
        return found.predict(rows)["score"]
    finally:
        found._sides = sides


class TestTheUsersShare:
    def test_is_a_matrix_where_a_layer_takes_both_sides(self, wide):
        found, _ = wide
        share = found._share
        assert share is not None
        assert sides_of(found).finds_users
        rows = {"user": np.arange(USERS)}
        (expected,) = found._user.run(found._user.feed(rows))
        np.testing.assert_allclose(share(rows), expected, 1e-5, 1e-6)
        share_alone, share.compiled = share.compiled, None
        np.testing.assert_allclose(share(rows), expected, 1e-5, 1e-6)
        share.compiled = share_alone

    @pytest.mark.parametrize("name", ["deepfm", "two towers"])
    def test_is_the_graphs_where_it_is_none(self, name, tmp_path):
        found, catalogue = served(original(name), tmp_path)
        assert found._share is None
        assert not sides_of(found).finds_users
        rows = original(name).rows(20, seed=5, one_user=True)
        rows |= {name: each[rows["item"]] for name, each in catalogue.items()}
        assert sides_of(found).find(rows) is not None
        np.testing.assert_array_equal(found.predict(rows)["score"], otherwise(found, rows))

    def test_takes_inputs_as_they_come_too(self, tmp_path):
        class Dense(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.user, self.item = nn.Embedding(USERS, 3), nn.Embedding(ITEMS, 4)
                self.layers = nn.Sequential(nn.Linear(9, 6), nn.ReLU(), nn.Linear(6, 1))

            def forward(self, user, item, dense):
                return self.layers(cat([self.user(user), self.item(item), dense], 1))

        model = net(Dense())
        model = type(model)(model.net, ("user", "item", "dense"), ("user", "dense"))
        found, _ = served(model, tmp_path)
        assert sides_of(found).finds_users
        rows = model.rows(20, seed=5, one_user=True)
        assert sides_of(found).find(rows) is not None
        np.testing.assert_allclose(
            found.predict(rows)["score"], model.predict(rows)["score"], 1e-5, 1e-6
        )
        np.testing.assert_array_equal(found.predict(rows)["score"], otherwise(found, rows))
        rows["dense"][3] += 1
        assert sides_of(found).find(rows) is None
        np.testing.assert_allclose(
            found.predict(rows)["score"], model.predict(rows)["score"], 1e-5, 1e-6
        )


def rows_of(catalogue, items, user=3) -> dict[str, np.ndarray]:
    items = np.asarray(items)
    known = {name: each[items % ITEMS] for name, each in catalogue.items()}
    return known | {"user": np.full(len(items), user), "item": items}


class TestWhatIsFound:
    @pytest.mark.parametrize("left_out", [(), ("kind",), ("kind", "dense")])
    def test_is_what_is_found_otherwise(self, wide, left_out):
        found, catalogue = wide
        rows = rows_of(catalogue, [5, 7, 5, 79, 0])
        rows = {name: each for name, each in rows.items() if name not in left_out}
        assert sides_of(found).find(rows) is not None
        np.testing.assert_array_equal(found.predict(rows)["score"], otherwise(found, rows))

    @pytest.mark.parametrize(
        "laid",
        [
            lambda each: np.broadcast_to(each[:1], each.shape),
            lambda each: np.repeat(each, 2, axis=0)[::2],
            lambda each: each[::-1],
        ],
    )
    def test_is_found_however_the_rows_lie(self, wide, laid):
        found, catalogue = wide
        rows = rows_of(catalogue, [5, 5, 5])
        rows = {name: laid(each) for name, each in rows.items()}
        assert sides_of(found).find(rows) is not None
        np.testing.assert_array_equal(found.predict(rows)["score"], otherwise(found, rows))

    def test_is_found_by_narrow_ids(self, wide):
        found, catalogue = wide
        rows = rows_of(catalogue, [5, 6])
        narrow = rows | {name: rows[name].astype(np.int32) for name in ("user", "item")}
        assert sides_of(found).find(narrow) is not None
        np.testing.assert_array_equal(found.predict(narrow)["score"], found.predict(rows)["score"])


class TestWhatIsLeft:
    @pytest.mark.parametrize(
        "change",
        [
            {"user": np.array([3, 4, 3])},
            {"user": np.array([USERS, USERS, USERS])},
            {"item": np.array([1, ITEMS, 2])},
            {"item": np.array([1, -1, 2])},
            {"item": np.array([2**62, 1, 2])},
            {"kind": np.array([9, 9, 9])},
            {"dense": np.full((3, 2), np.nan, np.float32)},
            {"dense": np.zeros((2, 2), np.float32)},
            {"dense": np.zeros((3, 3), np.float32)},
            {"dense": np.zeros((3, 2), np.float64)},
            {"item": np.array([1.0, 2.0, 3.0])},
            {"item": np.zeros((3, 2), np.int64)},
            {"item": np.array(["a", "b", "c"], object)},
        ],
    )
    def test_is_anything_unusual(self, wide, change):
        found, catalogue = wide
        assert sides_of(found).find(rows_of(catalogue, [1, 2, 3]) | change) is None

    def test_is_what_lies_unaligned(self, wide):
        found, catalogue = wide
        rows = rows_of(catalogue, [1, 2, 3])
        bytes_ = np.frombuffer(b"\0" + rows["item"].tobytes(), np.uint8)[1:]
        odd = rows | {"item": bytes_.view(np.int64)}
        assert sides_of(found).find(odd) is None
        np.testing.assert_array_equal(found.predict(odd)["score"], found.predict(rows)["score"])

    def test_is_everything_once_rows_of_the_users_table_were_set(self, tmp_path):
        found, catalogue = served(original("wide and deep"), tmp_path)
        rows = rows_of(catalogue, [1, 2, 3])
        before = found.predict(rows)["score"]
        path = next(each for name, each in found.tables.items() if "user" in name)
        path.put_many(np.array([3]), np.full((1, path.dim), 2.0, np.float32))
        path.look()
        assert sides_of(found).find(rows) is None
        assert (found.predict(rows)["score"] != before).all()

    def test_is_everything_without_the_compiled_part(self, wide, tmp_path, monkeypatch):
        monkeypatch.setenv("MARTLET_NATIVE", "0")
        found, catalogue = served(original("wide and deep"), tmp_path)
        assert found._sides is None
        rows = rows_of(catalogue, [1, 2, 3])
        np.testing.assert_allclose(
            found.predict(rows)["score"], wide[0].predict(rows)["score"], 1e-5, 1e-6
        )


ids = st.integers(-2, ITEMS + 2)


@settings(max_examples=150)
@given(
    items=st.lists(ids, min_size=1, max_size=12),
    user=st.integers(-1, USERS),
    others=st.booleans(),
    left_out=st.sets(st.sampled_from(["kind", "dense"])),
    data=st.data(),
)
def test_both_ways_answer_the_same_bits_or_refuse_alike(wide, items, user, others, left_out, data):
    found, catalogue = wide
    rows = rows_of(catalogue, items, user)
    if others:
        rows["user"] = np.array([data.draw(st.sampled_from([user, 1])) for _ in items])
        at = data.draw(st.integers(0, len(items) - 1))
        rows["kind"][at] = data.draw(st.integers(0, 11))
    rows = {name: each for name, each in rows.items() if name not in left_out}
    answers = []
    for ask in (lambda: found.predict(rows)["score"], lambda: otherwise(found, rows)):
        try:
            answers.append(ask().tobytes())
        except InvalidInput as exc:
            answers.append(str(exc))
    assert answers[0] == answers[1]


def test_nothing_is_kept_of_a_request(wide):
    found, catalogue = wide
    sides = sides_of(found)
    several = [
        rows_of(catalogue, [1, 2]),
        rows_of(catalogue, [1, ITEMS]),
        rows_of(catalogue, [1, 2]) | {"dense": np.zeros((2, 3), np.float32)},
        {"item": np.array([1])},
    ]

    def ask(times: int) -> None:
        for _ in range(times):
            for rows in several:
                sides.find(rows)

    ask(10)
    things = [each for rows in several for each in rows.values()]
    gc.collect()
    kept = [sys.getrefcount(each) for each in things]
    ask(1000)
    gc.collect()
    assert [sys.getrefcount(each) for each in things] == kept
