"""Categories of CatBoost, walked by martlet, against CatBoost's own answers to the last bit."""

from __future__ import annotations

import json
import os
import re
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import martlet
from martlet.errors import ServableFailed, UnsupportedModel
from martlet.formats.catboost import ctrs, file
from martlet.formats.catboost.cityhash import category_hash, text_of
from martlet.native import find

catboost = pytest.importorskip("catboost")
pytestmark = pytest.mark.filterwarnings("ignore")

ROWS = 240
DICE = np.random.default_rng(5)
WORDS = np.array(["", "nan", "7", "-12", "0.5", "ünï", "語" * 30, "x" * 90, *"abcde"], object)
USER = np.array([f"user {n}" for n in range(40)], object)[DICE.integers(0, 40, ROWS)]
WORD = WORDS[DICE.integers(0, len(WORDS), ROWS)]
FLAG = np.array(["no", "yes"], object)[DICE.integers(0, 2, ROWS)]
AGE = np.where(DICE.random(ROWS) < 0.15, np.nan, DICE.normal(size=ROWS).round(1))
PRICE = DICE.normal(size=ROWS)
TABLE = np.array([AGE, USER, WORD, PRICE, FLAG], object).T
CATEGORIES = [1, 2, 4]
SCORE = np.nan_to_num(AGE) + (FLAG == "yes") * (WORD == "7") + DICE.normal(size=ROWS) / 9
LABEL = (SCORE > 0.3).astype(int)
CLASS = np.digitize(SCORE, [-0.5, 0.7])
EVERY = ("Borders", "Buckets", "BinarizedTargetMeanValue", "Counter")

CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "by default": (LABEL, {"loss_function": "Logloss"}),
    "all by value": (LABEL, {"loss_function": "Logloss", "one_hot_max_size": 255}),
    "none by value": (LABEL, {"loss_function": "Logloss", "one_hot_max_size": 1}),
    "many combinations": (LABEL, {"loss_function": "Logloss", "max_ctr_complexity": 5, "depth": 7}),
    "alone": (LABEL, {"loss_function": "Logloss", "max_ctr_complexity": 1}),
    "one tree each": (SCORE, {"loss_function": "RMSE", "depth": 1}),
    "missing is least": (SCORE, {"loss_function": "RMSE", "nan_mode": "Min"}),
    "missing is most": (SCORE, {"loss_function": "RMSE", "nan_mode": "Max"}),
    "classes": (CLASS, {"loss_function": "MultiClass"}),
    "classes apart": (CLASS, {"loss_function": "MultiClassOneVsAll"}),
    "named classes": (WORDS[8:11][CLASS], {"loss_function": "MultiClass"}),
    "variance": (SCORE, {"loss_function": "RMSEWithUncertainty"}),
    "order of counting": (SCORE, {"loss_function": "MAE", "boosting_type": "Ordered"}),
    "counted whole": (LABEL, {"loss_function": "Logloss", "counter_calc_method": "Full"}),
    "two borders of the target": (
        SCORE,
        {
            "loss_function": "RMSE",
            "simple_ctr": ["Borders:TargetBorderCount=1", "Buckets:TargetBorderCount=3:Prior=0.2"],
        },
    ),
    "leaf by leaf": (SCORE, {"loss_function": "RMSE", "grow_policy": "Lossguide"}),
    "leaf by leaf, classes": (CLASS, {"loss_function": "MultiClass", "grow_policy": "Depthwise"}),
} | {
    f"{kind} and {other}": (
        target,
        {
            "loss_function": "RMSE",
            "simple_ctr": [f"{kind}:Prior=0.3:Prior=0.7", other],
            "combinations_ctr": [other, kind],
        },
    )
    for kind, other, target in zip(EVERY, EVERY[1:] + EVERY[:1], [SCORE, LABEL] * 2, strict=True)
}


@pytest.fixture(scope="module", params=CASES)
def trained(request, tmp_path_factory) -> tuple[Any, Path]:
    target, parameters = CASES[request.param]
    told = {"iterations": 12, "depth": 4, "one_hot_max_size": 3, "thread_count": 1}
    model = catboost.CatBoost({**told, "allow_writing_files": False} | parameters)
    pool = catboost.Pool(TABLE, target, CATEGORIES)
    model.fit(pool, verbose=False)
    folder = tmp_path_factory.mktemp("ctrs")
    model.save_model(str(folder / "m.cbm"))
    model.save_model(str(folder / "m.json"), format="json", pool=pool)
    return model, folder


def columns_of(rows) -> dict[str, np.ndarray]:
    return {
        str(at): rows[:, at] if at in CATEGORIES else rows[:, at].astype(np.float64)
        for at in range(rows.shape[1])
    }


def asked_of(path: Path):
    kind = "json" if path.suffix == ".json" else "cbm"
    return catboost.CatBoost().load_model(str(path), format=kind)


def odd_rows(count: int):
    """Rows of training, shuffled by column, with what it did not see."""
    dice = np.random.default_rng(count)
    rows = np.array([dice.choice(TABLE[:, at], count) for at in range(TABLE.shape[1])], object).T
    rows[dice.random(count) < 0.1, 1] = "unseen"
    rows[dice.random(count) < 0.1, 2] = "7 "
    rows[dice.random(count) < 0.1, 0] = np.inf
    rows[dice.random(count) < 0.1, 3] = np.nan
    rows[dice.random(count) < 0.1, 3] = 1e300
    return rows


@pytest.mark.parametrize("kind", ["cbm", "json"])
def test_each_way_to_count_is_walked_to_the_last_bit(trained, kind: str, request):
    _, folder = trained
    path = folder / f"m.{kind}"
    own = asked_of(path)
    rows = odd_rows(300)
    with martlet.load(path) as served:
        library = find("forest") is None or (kind == "json" and "leaf by leaf" in request.node.name)
        assert (served._servable._sum is None) == library
        for count in (1, 2, 5, 9, 300):
            found = served.predict(columns_of(rows[:count]))["RawFormulaVal"]
            expected = own.predict(rows[:count], prediction_type="RawFormulaVal")
            assert found.tobytes() == np.asarray(expected).tobytes()


def test_compiled_and_pure_make_the_same_numbers(trained, monkeypatch):
    _, folder = trained
    with martlet.load(folder / "m.cbm") as served:
        if served._servable._sum is None:
            pytest.skip("no compiled part")
        compiled = served._servable._sum.ctrs
        monkeypatch.setenv("MARTLET_NATIVE", "0")
        fields = [name for name in compiled.__slots__ if name not in ("columns", "_native")]
        pure = ctrs.Ctrs(*(getattr(compiled, name) for name in fields))
        for count in (1, 4, 5, 200):
            rows = list(columns_of(odd_rows(count)).values())
            assert compiled.rows(rows).tobytes() == pure.rows(rows).tobytes()
            rows[1] = np.arange(count)
            rows[2] = np.array([b"7", True, 10**40, -5][:count] * (count // 4 + 1), object)[:count]
            assert compiled.rows(rows).tobytes() == pure.rows(rows).tobytes()
            for what in (None, 1.5, "\ud800", [1]):
                rows[2] = np.full(count, None)
                rows[2][-1] = what
                assert compiled.rows(rows) is None
                assert pure.rows(rows) is None


@pytest.mark.parametrize("merge", ["LeaveMostDiversifiedTable", "IntersectingCountersAverage"])
def test_models_summed_of_other_rows(merge: str, tmp_path: Path):
    parts = []
    for rows in (slice(0, 100), slice(100, ROWS), slice(0, ROWS, 2)):
        part = catboost.CatBoost({"iterations": 5, "depth": 4, "allow_writing_files": False})
        pool = catboost.Pool(TABLE[rows], SCORE[rows], CATEGORIES)
        parts.append(part.fit(pool, verbose=False))
    summed = catboost.sum_models(parts, weights=[0.2, 0.3, 0.5], ctr_merge_policy=merge)
    summed.save_model(str(tmp_path / "m.cbm"))
    rows = odd_rows(100)
    with martlet.load(tmp_path / "m.cbm") as served:
        assert (served._servable._sum is None) == (find("ctrs") is None)
        found = served.predict(columns_of(rows))["RawFormulaVal"]
    assert found.tobytes() == summed.predict(rows).tobytes()


def test_a_feature_without_a_name_is_not_taken_for_one_of_that_name(tmp_path: Path):
    model = catboost.CatBoost({"iterations": 5, "allow_writing_files": False})
    table = np.column_stack([PRICE, DICE.normal(size=ROWS), SCORE])
    model.fit(catboost.Pool(table, SCORE, feature_names=["1", "", "score"]), verbose=False)
    model.save_model(str(tmp_path / "m.cbm"))
    with martlet.load(tmp_path / "m.cbm") as served:
        names = list(served.signatures["serving_default"].inputs)
        assert names == ["1", "feature 1", "score"]
        found = served.predict(dict(zip(names, table.T, strict=True)))["RawFormulaVal"]
    assert found.tobytes() == model.predict(table).tobytes()


@pytest.fixture(scope="module")
def counted(tmp_path_factory) -> Path:
    """A folder with a model that tests categories by ctrs of three kinds, as ``.cbm`` and JSON."""
    folder = tmp_path_factory.mktemp("counted")
    model = catboost.CatBoost(
        {
            "iterations": 12,
            "depth": 4,
            "loss_function": "RMSE",
            "simple_ctr": ["BinarizedTargetMeanValue", "Counter", "Buckets"],
            "combinations_ctr": ["BinarizedTargetMeanValue", "Borders"],
            "allow_writing_files": False,
        }
    )
    pool = catboost.Pool(TABLE, SCORE, CATEGORIES)
    model.fit(pool, verbose=False)
    model.save_model(str(folder / "m.cbm"))
    model.save_model(str(folder / "m.json"), format="json", pool=pool)
    return folder


def test_what_only_a_gpu_trains_is_walked_too(counted: Path, tmp_path: Path):
    told = (counted / "m.json").read_text()
    told = told.replace("BinarizedTargetMeanValue", "FloatTargetMeanValue")
    model = json.loads(
        told.replace('"Counter"', '"FeatureFreq"').replace(r"\"Counter\"", r"\"FeatureFreq\"")
    )
    for ctr in model["features_info"]["ctrs"]:
        ctr.update(prior_denomerator=2.5, shift=-0.125, scale=ctr["scale"] * 1.1)
    (tmp_path / "m.json").write_text(json.dumps(model))
    rows = odd_rows(200)
    expected = asked_of(tmp_path / "m.json").predict(rows)
    with martlet.load(tmp_path / "m.json") as served:
        assert (served._servable._sum is None) == (find("ctrs") is None)
        found = served.predict(columns_of(rows))["RawFormulaVal"]
    assert found.tobytes() == expected.tobytes()


def test_a_table_without_one_of_its_keys_is_as_a_category_that_training_did_not_see(
    counted: Path, tmp_path: Path
):
    model = json.loads((counted / "m.json").read_text())
    for table in model["ctr_data"].values():
        del table["hash_map"][-table["hash_stride"] * 3 :]
    (tmp_path / "m.json").write_text(json.dumps(model))
    rows = odd_rows(200)
    with martlet.load(tmp_path / "m.json") as served:
        found = served.predict(columns_of(rows))["RawFormulaVal"]
    assert found.tobytes() == asked_of(tmp_path / "m.json").predict(rows).tobytes()


class TestDamage:
    """A table that points outside of the file is refused, before CatBoost follows it."""

    def refused(self, path: Path, told: str) -> None:
        with pytest.raises(UnsupportedModel, match=told):
            martlet.load(path).close()

    @pytest.fixture
    def tables(self, counted: Path) -> tuple[bytearray, list[tuple[int, int]]]:
        """The file; and where the slots of each table begin, and how many there are."""
        content = (counted / "m.cbm").read_bytes()
        found = []
        for table in file.counted_tables(content):
            raw = table.array(1, "u1").tobytes()
            found.append((content.index(raw), len(raw) // 12))
        assert found
        return bytearray(content), found

    @pytest.mark.parametrize("place", [1 << 20, (1 << 32) - 2, 1 << 31])
    def test_a_place(self, tables, place: int, tmp_path: Path):
        content, found = tables
        for at, count in found:
            slots = np.frombuffer(content, [("key", "<u8"), ("at", "<u4")], count, at)
            taken = np.flatnonzero(slots["key"] != (1 << 64) - 1)
            changed = bytearray(content)
            struct.pack_into("<I", changed, at + 12 * int(taken[-1]) + 8, place)
            (tmp_path / "m.cbm").write_bytes(changed)
            self.refused(tmp_path / "m.cbm", "points outside")

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (r'"split_index":\s*\d+', '"split_index":2147483647'),
            (r'"scale_and_bias":\s*\[.*?\]\s*\]', '"scale_and_bias":null'),
            (r'"boosting_options":', '"boosting_options":null,"x":'),
        ],
    )
    def test_what_ends_catboost_in_json(self, counted: Path, old: str, new: str, tmp_path: Path):
        whole = (counted / "m.json").read_text()
        content, count = re.subn(old, new, whole, count=1, flags=re.DOTALL)
        assert count == 1
        (tmp_path / "m.json").write_text(content)
        self.refused(tmp_path / "m.json", "not a CatBoost model that loads")

    def test_a_split_of_a_feature_that_is_not_there(self, tmp_path: Path):
        rows = np.arange(60.0).reshape(-1, 2)
        model = catboost.CatBoost({"iterations": 2, "verbose": False, "allow_writing_files": False})
        model.fit(rows, rows[:, 0]).save_model(str(tmp_path / "m.cbm"))
        content = bytearray((tmp_path / "m.cbm").read_bytes())
        assert file.has_numbers_alone(bytes(content))
        bins = file.trees_of(bytes(content)).array(17, "<u4").tobytes()
        at = content.index(bins)
        content[at : at + 2] = b"\xff\xff"
        (tmp_path / "m.cbm").write_bytes(content)
        self.refused(tmp_path / "m.cbm", "a split points outside")

    def test_no_empty_slot(self, tables, tmp_path: Path):
        content, found = tables
        for at, count in found:
            changed = bytearray(content)
            for slot in range(count):
                struct.pack_into("<Q", changed, at + 12 * slot, slot)
            (tmp_path / "m.cbm").write_bytes(changed)
            self.refused(tmp_path / "m.cbm", "no empty slot")

    def test_cut_short(self, tables, tmp_path: Path):
        content, found = tables
        for at, _ in found:
            (tmp_path / "m.cbm").write_bytes(content[: at + 20])
            self.refused(tmp_path / "m.cbm", "")

    @pytest.mark.parametrize("target", [-1, 2, 1 << 30])
    def test_a_class_that_was_not_counted(self, counted: Path, target: int, tmp_path: Path):
        model = json.loads((counted / "m.json").read_text())
        for ctr in model["features_info"]["ctrs"]:
            if ctr["ctr_type"] == "Buckets":
                ctr["target_border_idx"] = target
        (tmp_path / "m.json").write_text(json.dumps(model))
        self.refused(tmp_path / "m.json", f"class {target} of 2")

    def test_bytes_changed_at_random_never_end_the_process(self, tables, tmp_path: Path):
        """What loads after it answers; run under the sanitizers by ``make fuzz-native``."""
        content, found = tables
        random = np.random.default_rng(11)
        start = min(at for at, _ in found)
        until = time.monotonic() + float(os.environ.get("MARTLET_FUZZ_SECONDS", "0")) / 4
        tried = 0
        while tried < 40 or time.monotonic() < until:
            tried += 1
            changed = bytearray(content)
            for at in random.integers(start - 64, len(content), random.integers(1, 5)):
                changed[at] = random.integers(0, 256)
            (tmp_path / "m.cbm").write_bytes(changed)
            try:
                with martlet.load(tmp_path / "m.cbm") as served:
                    served.predict(columns_of(TABLE[:3]))
            except (UnsupportedModel, ServableFailed):
                pass


@pytest.mark.skipif(find("ctrs") is None, reason="martlet.native._ctrs is not built")
class TestCompiledTables:
    """The compiled part refuses what does not fit, whatever it is handed."""

    def made(self, **changed: Any):
        parts = {
            "features": 3,
            "categories": np.array([0, 2], np.int32),
            "above": np.array([1, 1], np.int32),
            "borders": np.array([0.5], np.float32),
            "equal": np.array([1, 7], np.int32),
            "elements": np.array([0, ~0, 1, ~1], np.int32),
            "shapes": np.array([2, 1, 2, 2, 2, 1], np.int64),
            "keys": np.array([1, 2, (1 << 64) - 1], np.uint64),
            "values": np.zeros(7, np.float32),
        } | changed
        return find("ctrs").Ctrs(*parts.values())

    def test_what_fits(self):
        out = np.empty((2, 7), np.float32)
        columns = [np.array(["a", "b"], object), np.zeros(2), np.array([b"", 7], object)]
        assert self.made().fill(columns, out)
        assert out[:, 1].tolist() == [0, 0]

    @pytest.mark.parametrize(
        ("part", "value"),
        [
            ("features", -1),
            ("features", 2),
            ("categories", np.array([0, 0], np.int32)),
            ("categories", np.array([-1, 2], np.int32)),
            ("above", np.array([0, 1], np.int32)),
            ("above", np.array([3, 1], np.int32)),
            ("borders", np.zeros(2, np.float32)),
            ("equal", np.array([2, 7], np.int32)),
            ("equal", np.array([1], np.int32)),
            ("elements", np.array([0, ~0, 2, ~1], np.int32)),
            ("elements", np.array([0, ~2, 1, ~1], np.int32)),
            ("elements", np.array([0, ~0, 1, -(1 << 31)], np.int32)),
            ("elements", np.array([0], np.int32)),
            ("shapes", np.array([2, 1, 2, 2, 2, 1 << 40], np.int64)),
            ("shapes", np.array([2, 1, 2, 2, 1 << 40, 1], np.int64)),
            ("shapes", np.array([2, 1, 2, 2, 2, -1], np.int64)),
            ("shapes", np.array([2, 1, 2], np.int64)),
            ("shapes", np.array([2, 1], np.int64)),
            ("keys", np.zeros(4, np.uint64)),
            ("values", np.zeros(8, np.float32)),
            ("values", np.zeros(6, np.float64)),
        ],
    )
    def test_what_does_not(self, part: str, value: Any):
        with pytest.raises((ValueError, TypeError)):
            self.made(**{part: value})

    @pytest.mark.parametrize("count", [1, 2, 9])
    def test_columns_that_do_not_fit(self, count: int):
        ctrs = self.made()
        words, numbers = np.array(["a"] * count, object), np.zeros(count)
        out = np.empty((count, 7), np.float32)
        with pytest.raises(TypeError):
            ctrs.fill([words, numbers], out)
        with pytest.raises(ValueError, match="7 columns"):
            ctrs.fill([words, numbers, words], out[:, :6].copy())
        with pytest.raises((ValueError, IndexError)):
            ctrs.fill([words, numbers, words[:-1]], out)
        with pytest.raises((TypeError, ValueError)):
            ctrs.fill([words, words, words], out)


@given(st.integers(-(1 << 31), (1 << 31) - 1))
def test_a_text_is_found_for_every_hash(number: int):
    assert category_hash(text_of(number)) == number


def test_hashes_are_those_that_catboost_writes(tmp_path: Path):
    """Texts of every length to 200 bytes, as CatBoost lists them in JSON with their hashes."""
    dice = np.random.default_rng(1)
    texts = ["".join(map(chr, dice.integers(1, 0x24F, size))) for size in range(150)]
    texts += ["".join(map(chr, dice.integers(1, 0x7F, size))) for size in range(200)]
    label = np.arange(len(texts)) % 2
    model = catboost.CatBoost({"iterations": 1, "allow_writing_files": False})
    pool = catboost.Pool([[text] for text in texts], label, [0])
    model.fit(pool, verbose=False).save_model(str(tmp_path / "m.json"), format="json", pool=pool)
    told = json.loads((tmp_path / "m.json").read_text())["features_info"]["cat_features_hash"]
    assert len(told) > 300
    for each in told:
        assert category_hash(each["value"].encode()) % (1 << 32) == each["hash"]
