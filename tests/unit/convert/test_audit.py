"""The audit finds, by running a model, what it ignores, demands, leaks and gives."""

from __future__ import annotations

import json

import numpy as np
import pytest

from martlet import formats
from martlet.convert.asking.ranges import domain_of
from martlet.convert.asking.rows import read_rows
from martlet.convert.audit import audit
from martlet.errors import InvalidInput, ModelNotFound


def audited(path, rows=None):
    servable = formats.load(path)
    signature = next(s for s in servable.signatures.values() if s.inputs)
    logged = None if rows is None else rows.probe(signature).inputs
    try:
        return audit(servable, domain_of(servable, logged=logged), rows)
    finally:
        servable.close()


@pytest.fixture
def rows_file(tmp_path):
    """Rows of the two-id model: the label is the rating above 3, and nothing else tells it."""
    random = np.random.default_rng(0)
    lines = ["user,item,clock,rating,label"]
    for at in range(400):
        rating = random.integers(1, 6)
        user, item = random.integers(50), random.integers(20)
        lines.append(f"{user},{item},{at},{rating},{int(rating > 3)}")
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


class TestInputs:
    def test_one_that_no_output_depends_on_is_dead_and_demanded(self, lookup):
        found = audited(lookup())
        assert found.dead == found.demanded == ["clock"]
        assert "1 of 3 inputs are dead" in found.findings()[0]

    def test_their_ranges_are_told(self, lookup):
        findings = audited(lookup()).findings()
        assert "input 'item' is answered from -20 to 19" in findings

    @pytest.mark.parametrize(
        ("model", "dead", "inputs"), [("002", 18, 26), ("004", 19, 26)], ids=["002", "004"]
    )
    @pytest.mark.parametrize("logged", [False, True], ids=["made rows", "logged rows"])
    def test_the_real_rankers_ignore_most_of_what_they_demand(
        self, shared, model, dead, inputs, logged
    ):
        pytest.importorskip("tensorflow")
        rows = None
        if logged:
            rows = read_rows(shared / "sparrow/sampledata/testSamples.open.csv")
        found = audited(shared / "sparrow/modeldata/MLPRec" / model, rows)
        assert (len(found.dead), len(found.inputs)) == (dead, inputs)
        assert "rating" in found.demanded
        assert found.leaks == (["rating"] if logged else [])
        assert found.outputs[0].probability

    def test_the_real_ids_end_where_its_tables_do(self, shared):
        pytest.importorskip("tensorflow")
        found = audited(shared / "sparrow/modeldata/neuralcf/001")
        ranges = {each.name: (each.range.low, each.range.high) for each in found.inputs}
        assert ranges == {"movieId": (-1, 1000), "userId": (-1, 30_000)}
        assert found.dead == []


class TestOutputs:
    def test_a_dot_product_is_no_probability(self, lookup):
        output = audited(lookup(sigmoid=False)).outputs[0]
        assert output.probability is False
        assert output.low < 0 and output.high > 1

    def test_its_ends_are_found_by_climbing(self, lookup, opened):
        path = lookup(sigmoid=False)
        users, items = np.mgrid[0:50, 0:20].reshape(2, -1)
        every = opened(path).predict({"user": users, "item": items, "clock": users})["score"]
        output = audited(path).outputs[0]
        assert output.high >= np.quantile(every, 0.999)
        assert output.low <= np.quantile(every, 0.001)

    def test_a_sigmoid_is_one(self, lookup):
        assert audited(lookup()).outputs[0].probability is True


class TestLeaks:
    def test_an_input_that_decides_the_label_is_found_by_what_it_holds(self, rows_file, lookup):
        logged = read_rows(rows_file)
        # The rating goes in under an innocent name: no name gives a leak away.
        logged.columns["clock"] = logged.columns["rating"]
        found = audited(lookup(), logged)
        assert found.leaks == ["clock"]
        leak = next(each.leak for each in found.inputs if each.name == "clock")
        assert leak.auc == 1.0 and leak.decides
        assert "gives the label away" in found.findings()[0]

    def test_honest_inputs_are_none(self, rows_file, lookup):
        assert audited(lookup(), read_rows(rows_file)).leaks == []

    def test_a_number_met_once_a_row_is_none(self, rows_file, lookup):
        logged = read_rows(rows_file)
        logged.columns["clock"] = [str(10**9 + at * 7919 % 400) for at in range(400)]
        assert audited(lookup(), logged).leaks == []


class TestRows:
    def test_a_missing_column_is_named(self, rows_file, lookup, opened):
        logged = read_rows(rows_file)
        del logged.columns["item"]
        with pytest.raises(InvalidInput, match="no column for the input 'item'"):
            logged.probe(opened(lookup()).signatures["serving_default"])

    @pytest.mark.parametrize("text", ["", "a,b\n", "a,b\n1\n"])
    def test_a_file_without_rows_is_refused(self, tmp_path, text):
        (tmp_path / "rows.csv").write_text(text)
        with pytest.raises(InvalidInput):
            read_rows(tmp_path / "rows.csv")

    def test_no_file_and_no_column_are_told(self, tmp_path, rows_file):
        with pytest.raises(ModelNotFound):
            read_rows(tmp_path / "none.csv")
        with pytest.raises(InvalidInput, match="no column 'person'"):
            read_rows(rows_file, group="person")

    def test_lines_of_json_are_rows_too(self, tmp_path, lookup, opened):
        path = tmp_path / "rows.jsonl"
        path.write_text('{"user": 1, "item": 2, "clock": 3, "click": 1}\n' * 3)
        probe = read_rows(path).probe(opened(lookup()).signatures["serving_default"])
        assert probe.inputs["item"].tolist() == [2, 2, 2]
        assert probe.labels.tolist() == [1, 1, 1]

    def test_an_id_outside_its_dtype_is_refused(self, rows_file, lookup, opened):
        logged = read_rows(rows_file)
        logged.columns["item"][0] = str(2**70)
        with pytest.raises(InvalidInput, match="'item' does not fit"):
            logged.probe(opened(lookup()).signatures["serving_default"])


def test_it_is_plain_json(lookup, rows_file):
    document = audited(lookup(), read_rows(rows_file)).to_json()
    assert json.loads(json.dumps(document, allow_nan=False))["dead"] == ["clock"]


def test_text_that_nobody_knows_a_word_of_is_not_called_dead(tmp_path):
    sklearn = pytest.importorskip("sklearn")
    assert sklearn
    catboost = pytest.importorskip("catboost")
    words = np.array([["rain"], ["sun"], ["rain"], ["sun"]] * 20, object)
    model = catboost.CatBoostClassifier(
        iterations=3, verbose=False, allow_writing_files=False, cat_features=[0]
    )
    model.fit(words, [0, 1, 0, 1] * 20).save_model(str(tmp_path / "model.cbm"))
    servable = formats.load(tmp_path / "model.cbm")
    found = audit(servable, domain_of(servable), readable=False)
    assert found.dead == [] and found.inputs[0].unsure
    assert "give logged rows" in found.findings()[0]
