"""A graph in parts answers as the whole did, and leaves little for each pair."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from graphs import FLOAT, INT64, TABLE, Build
from hypothesis import given, settings
from hypothesis import strategies as st
from ranked import ITEMS, KINDS_OF_MODEL, Original, original

from martlet.convert.package import write_package
from martlet.convert.rewriting.rewrite import rewrite
from martlet.convert.splitting.split import Split, catalogue_of, split
from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats import LoadOptions
from martlet.formats.package.servable import PackageServable


class Case:
    def __init__(self, kind: str, folder: Path) -> None:
        self.original: Original = original(kind)
        self.source = folder / "original.onnx"
        self.rewritten = rewrite(
            self.original.export(self.source), [self.original.rows(8)], self.original
        )
        self.parts: Split = split(
            self.rewritten.model,
            self.original.user,
            self.original.rows(8),
            self.rewritten.lookups,
            key="item",
        )
        assert self.parts.item is not None
        rows = self.original.rows(ITEMS, seed=9)
        self.catalogue = {name: rows[name] for name in self.parts.item.inputs}
        self.catalogue["item"] = np.arange(ITEMS)

    def rows_of_catalogue(self, count: int, *, one_user: bool) -> dict[str, np.ndarray]:
        """Rows whose items are as the catalogue has them."""
        rows = self.original.rows(count, seed=5, one_user=one_user)
        return rows | {name: each[rows["item"]] for name, each in self.catalogue.items()}

    def package(self, folder: Path, **options) -> PackageServable:
        write_package(
            folder,
            self.parts.main,
            self.original.signatures["serving_default"],
            self.source,
            lookups=self.rewritten.lookups,
            user=self.parts.user,
            item=self.parts.item,
            threshold_bytes=0,
            **options,
        )
        return PackageServable(folder, LoadOptions())


@pytest.fixture(scope="module", params=KINDS_OF_MODEL)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(request.param, tmp_path_factory.mktemp("model"))


def assert_as_original(case: Case, found: PackageServable, rows: dict[str, np.ndarray]) -> None:
    expected = case.original.predict(rows)["score"]
    np.testing.assert_allclose(found.predict(rows)["score"], expected, 1e-5, 1e-6)


class TestRankers:
    def test_less_is_left_for_each_pair(self, case: Case):
        before, after = case.parts.multiplications
        assert after < before
        assert case.parts.user is not None
        assert set(case.parts.user.inputs) == set(case.original.user)

    @pytest.mark.parametrize("one_user", [True, False])
    @pytest.mark.parametrize("computed", [True, False])
    def test_it_answers_as_the_original(
        self, case: Case, tmp_path: Path, one_user: bool, computed: bool
    ):
        found = case.package(tmp_path / "p", catalogue=case.catalogue if computed else None)
        for rows in (
            case.rows_of_catalogue(33, one_user=one_user),
            case.original.rows(33, seed=6, one_user=one_user),
            case.original.rows(1, seed=7),
            case.original.rows(0),
        ):
            assert_as_original(case, found, rows)

    def test_rows_that_lie_at_one_place_are_one_user(self, case: Case, tmp_path: Path):
        found = case.package(tmp_path / "p", catalogue=case.catalogue)
        rows = case.original.rows(20, one_user=True)
        for name in case.original.user:
            rows[name] = np.broadcast_to(rows[name][:1], rows[name].shape)
        assert_as_original(case, found, rows)

    def test_an_id_beyond_its_table_is_refused_by_name(self, case: Case, tmp_path: Path):
        found = case.package(tmp_path / "p", catalogue=case.catalogue)
        rows = case.original.rows(5)
        rows["item"][3] = ITEMS
        with pytest.raises(InvalidInput, match=rf"'item' holds {ITEMS}; .* from 0 to {ITEMS - 1}"):
            found.predict(rows)


@pytest.mark.parametrize("computed", [True, False])
def test_exactly_the_ids_are_refused_that_the_original_refuses(
    case: Case, tmp_path: Path, computed: bool
):
    found = case.package(tmp_path / "p", catalogue=case.catalogue if computed else None)
    random = np.random.default_rng(4)
    edges = [-(10**6), -2, -1, 0, 11, 12, 59, 60, 79, 80, 81, 2**62]
    for seed in range(60):
        rows = case.original.rows(int(random.integers(1, 9)), seed=seed)
        name = random.choice([n for n, values in rows.items() if values.dtype.kind == "i"])
        ids = rows[name].reshape(-1)
        ids[random.integers(0, len(ids))] = random.choice(edges)
        try:
            expected = case.original.predict(rows)["score"]
        except InvalidInput:
            with pytest.raises(InvalidInput, match=rf"'{name}' holds .*; the model takes ids from"):
                found.predict(rows)
        else:
            np.testing.assert_allclose(found.predict(rows)["score"], expected, 1e-5, 1e-6)


def test_where_the_id_is_all_that_an_item_is_the_catalogue_is_known(tmp_path: Path):
    towers = Case("two towers", tmp_path)
    assert towers.parts.item is not None
    found = catalogue_of(towers.parts.item, towers.rewritten.lookups)
    assert found is not None
    np.testing.assert_array_equal(found["item"], np.arange(ITEMS))


class TestWhatCannotBeSplit:
    def model(self):
        build = Build(user=(INT64, ["n"]), item=(INT64, ["n"]))
        one, other = build("Gather", TABLE, "user"), build("Gather", TABLE, "item")
        build("ReduceSum", build("Mul", one, other), np.array([1]), gives="score")
        return build.model(score=(FLOAT, ["n", 1]))

    rows = {"user": np.arange(6), "item": np.arange(6) + 1}  # noqa: RUF012

    def test_names_that_are_no_inputs(self):
        with pytest.raises(InvalidInput, match="no input 'usr'; its inputs are 'user', 'item'"):
            split(self.model(), ["usr"], self.rows)

    def test_a_model_of_the_user_alone(self):
        with pytest.raises(InvalidInput, match="some inputs are the user's"):
            split(self.model(), ["user", "item"], self.rows)

    def test_items_that_depend_on_one_another_are_not_computed_beforehand(self):
        build = Build(user=(INT64, ["n"]), item=(INT64, ["n"]))
        vectors = build("Exp", build("Gather", TABLE, "item"))
        centred = build("Sub", vectors, build("ReduceMean", vectors, axes=[0], keepdims=1))
        user = build("Tanh", build("Gather", TABLE, "user"))
        build("ReduceSum", build("Mul", centred, user), np.array([1]), gives="score")
        found = split(build.model(score=(FLOAT, ["n", 1])), ["user"], self.rows)
        assert found.item is None
        assert found.user is not None
        assert "which other items come with it" in found.reasons[0]

    def test_nothing_to_part(self):
        build = Build(user=(FLOAT, ["n", 2]), item=(FLOAT, ["n", 2]))
        build("ReduceSum", build("Mul", "user", "item"), np.array([1]), gives="score")
        model = build.model(score=(FLOAT, ["n", 1]))
        rows = {name: np.ones((6, 2), np.float32) for name in ("user", "item")}
        with pytest.raises(UnsupportedModel, match="cannot be split"):
            split(model, ["user"], rows)


@settings(max_examples=25)
@given(
    widths=st.lists(st.tuples(st.sampled_from(["user", "item"]), st.integers(1, 4)), min_size=2),
    hidden=st.integers(1, 5),
    scaled=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_first_layer_over_any_concatenation_is_parted(widths, hidden, scaled, seed):
    random = np.random.default_rng(seed)

    def weights(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    build = Build(user=(FLOAT, ["n", 3]), item=(FLOAT, ["n", 2]))
    parts = [
        build("Tanh", build("MatMul", side, weights(3 if side == "user" else 2, width)))
        for side, width in widths
    ]
    joined = build("Concat", *parts, axis=1)
    total = sum(width for _, width in widths)
    if scaled:
        joined = build("Add", build("Mul", joined, weights(total)), weights(1, total))
    first = build("Add", build("MatMul", joined, weights(total, hidden)), weights(hidden))
    build("MatMul", build("Relu", first), weights(hidden, 1), gives="score")
    model = build.model(score=(FLOAT, ["n", 1]))
    rows = {"user": weights(6, 3), "item": weights(6, 2)}
    if {side for side, _ in widths} != {"user", "item"}:
        return
    found = split(model, ["user"], rows)  # which compares the parts with the whole
    assert found.user is not None
    assert found.multiplications[1] <= found.multiplications[0]


class TestRowsThatAreSet:
    """What was computed before must not outlive the rows that it was computed from."""

    def test_an_item_whose_row_was_set_is_computed_anew(self, tmp_path: Path):
        towers = Case("two towers", tmp_path)
        found = towers.package(tmp_path / "p", catalogue=towers.catalogue)
        rows = towers.original.rows(40, one_user=True)
        rows["item"] = np.arange(40)
        before = found.predict(rows)["score"]
        name = next(name for name, table in found.tables.items() if len(table) == ITEMS)
        vector = np.full((1, found.tables[name].dim), 0.5, np.float32)
        found.tables[name].put_many(np.array([7]), vector)
        found.tables[name].look()
        with torch.no_grad():
            towers.original.net.item.weight[7] = 0.5
        expected = towers.original.predict(rows)["score"]
        assert expected[7] != before[7]
        np.testing.assert_allclose(found.predict(rows)["score"], expected, 1e-5, 1e-6)


def test_threads_that_ask_at_once_get_their_own_answers(case: Case, tmp_path: Path):
    found = case.package(tmp_path / "p", catalogue=case.catalogue)
    asked = [case.original.rows(1 + 7 * i, seed=i, one_user=i % 2 == 0) for i in range(16)]
    expected = [case.original.predict(rows)["score"] for rows in asked]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            scores = pool.map(lambda rows: found.predict(rows)["score"], asked)
            for score, wanted in zip(scores, expected, strict=True):
                np.testing.assert_allclose(score, wanted, 1e-5, 1e-6)
