"""What every format hosted by its own library keeps, over models trained on the spot by it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trained_models import CASES, FEATURES, FILLED, Case, Trained

import martlet
from martlet import formats
from martlet.errors import InvalidInput, MartletError

pytestmark = pytest.mark.filterwarnings("ignore")

NUMBERS = st.floats(-4, 4) | st.sampled_from([0.0, -0.0, 1e-30, 1e30, -1e30])


@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(scope="module")
def trained(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return case.make(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(trained: Trained) -> Iterator[martlet.Checked]:
    with martlet.load(trained.path, trusted=trained.trusted) as found:
        yield found


def answers(model: martlet.Checked, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Every output of every signature that takes the rows as one matrix."""
    found = {}
    for name, signature in model.signatures.items():
        if list(signature.inputs) == ["X"]:
            found |= model.predict({"X": rows}, name)
    return found


def assert_same(trained: Trained, found: dict[str, np.ndarray], rows: np.ndarray) -> None:
    expected = trained.reference(rows)
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        wanted = np.asarray(wanted)
        assert found[name].shape == wanted.shape, name
        if wanted.dtype.kind == "f":
            np.testing.assert_allclose(found[name], wanted, trained.rtol, trained.atol, name)
        else:
            assert found[name].astype(str).tolist() == wanted.astype(str).tolist(), name


def assert_alike(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """The same rows in another layout: equal but for the order of a sum."""
    for name, value in one.items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(other[name], value, rtol=1e-6, atol=1e-12)
        else:
            assert other[name].tolist() == value.tolist()


class TestWhatIsFound:
    def test_the_format_is_found_by_content_whatever_the_name(
        self, case: Case, trained: Trained, tmp_path: Path
    ):
        path = tmp_path / "weights.bin"
        shutil.copy(trained.path, path)
        assert formats.sniff(path).name == case.format

    def test_what_comes_out_is_what_the_signature_says(self, model: martlet.Checked):
        for name, signature in model.signatures.items():
            rows = {n: np.zeros([max(d, 2) for d in s.shape]) for n, s in signature.inputs.items()}
            found = model.predict(rows, name)
            assert list(found) == list(signature.outputs)
            for output, spec in signature.outputs.items():
                assert martlet.DType.of(found[output].dtype) is spec.dtype
                assert spec.shape == (-1, *found[output].shape[1:])
                assert len(found[output]) == 2


class TestAnswers:
    @settings(max_examples=15)
    @given(data=st.data())
    def test_they_are_the_librarys_own(
        self, model: martlet.Checked, trained: Trained, data: st.DataObject
    ):
        values = NUMBERS
        if trained.missing:
            values |= st.just(float("nan"))
        if trained.infinite:
            values |= st.sampled_from([float("inf"), -float("inf")])
        row = st.lists(values, min_size=FEATURES, max_size=FEATURES)
        rows = np.array(data.draw(st.lists(row, min_size=1, max_size=6)))
        assert_same(trained, answers(model, rows), rows)

    def test_many_rows_at_once(self, model: martlet.Checked, trained: Trained):
        assert_same(trained, answers(model, FILLED), FILLED)

    def test_rows_in_columns_order_or_apart_are_the_same_rows(
        self, model: martlet.Checked, trained: Trained
    ):
        rows = FILLED[:40]
        assert_same(trained, answers(model, np.asfortranarray(rows)), rows)
        assert_same(trained, answers(model, np.repeat(rows, 2, axis=0)[::2]), rows)

    def test_no_rows_give_no_rows(self, model: martlet.Checked):
        for name, value in answers(model, np.empty((0, FEATURES))).items():
            assert len(value) == 0, name
            assert value.ndim == answers(model, FILLED[:2])[name].ndim, name

    def test_threads_do_not_disturb_each_other(self, model: martlet.Checked, trained: Trained):
        parts = [FILLED[i : i + n] for i, n in ((0, 1), (1, 1), (5, 7), (20, 100), (0, 3))] * 4
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda rows: answers(model, rows), parts))
        for rows, each in zip(parts, found, strict=True):
            assert_same(trained, each, rows)


class TestForms:
    def test_columns_and_matrix_say_the_same(self, case: Case, model: martlet.Checked):
        if case.format == "onnx":
            pytest.skip("an ONNX graph has the inputs that it declares")
        columns = model.signatures["columns"].inputs
        rows = FILLED[:9]
        apart = {name: rows[:, i] for i, name in enumerate(columns)}
        whole = model.predict({"X": rows})
        for found in (model.predict(apart), model.predict(apart, "columns")):
            assert_alike(whole, found)

    def test_a_column_of_one_stands_for_every_row(self, case: Case, model: martlet.Checked):
        if case.format == "onnx":
            pytest.skip("an ONNX graph has the inputs that it declares")
        names = list(model.signatures["columns"].inputs)
        apart = {name: FILLED[:4, i] for i, name in enumerate(names)} | {names[2]: np.array([0.5])}
        rows = FILLED[:4].copy()
        rows[:, 2] = 0.5
        assert_alike(model.predict({"X": rows}), model.predict(apart))

    def test_columns_of_different_lengths_are_refused(self, case: Case, model: martlet.Checked):
        if case.format == "onnx":
            pytest.skip("an ONNX graph has the inputs that it declares")
        names = list(model.signatures["columns"].inputs)
        apart = {name: np.zeros(2 + i % 2) for i, name in enumerate(names)}
        with pytest.raises(InvalidInput, match="length"):
            model.predict(apart)


class TestRefusals:
    @pytest.mark.parametrize(
        "inputs",
        [
            {},
            {"x": np.zeros((1, FEATURES))},
            {"X": np.zeros((1, FEATURES)), "Y": np.zeros(1)},
            {"X": np.zeros((1, FEATURES + 1))},
            {"X": np.zeros(FEATURES)},
            {"X": np.full((1, FEATURES), "a")},
            {"X": np.zeros((1, FEATURES), complex)},
            {"X": [[1.0, 2.0], [3.0]]},
        ],
        ids=["none", "name", "more", "wide", "flat", "text", "complex", "ragged"],
    )
    def test_inputs_that_do_not_fit(self, model: martlet.Checked, inputs: dict):
        with pytest.raises(InvalidInput):
            model.predict(inputs)

    def test_a_value_that_the_library_refuses_is_the_callers_to_mend(
        self, model: martlet.Checked, trained: Trained, case: Case
    ):
        if trained.missing or case.format == "onnx":
            pytest.skip("it takes NaN")
        try:
            trained.reference(np.full((1, FEATURES), np.nan))
        except ValueError:
            with pytest.raises(InvalidInput, match="NaN"):
                model.predict({"X": np.full((1, FEATURES), np.nan)})

    def test_an_unknown_signature(self, model: martlet.Checked):
        with pytest.raises(InvalidInput, match="serving_default"):
            model.predict({"X": FILLED[:1]}, "classify")


def test_a_closed_model_holds_nothing(case: Case, trained: Trained):
    model = martlet.load(trained.path, trusted=trained.trusted)
    model.close()
    with pytest.raises((MartletError, AttributeError, ValueError)):
        model.predict({"X": FILLED[:1]})
