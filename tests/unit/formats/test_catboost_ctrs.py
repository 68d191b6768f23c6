"""Categories of CatBoost, walked by martlet, against CatBoost's own answers to the last bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import martlet
from martlet.formats import catboost_ctrs
from martlet.formats.cityhash import category_hash, text_of
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
        leaf_by_leaf = "leaf by leaf" in request.node.name
        ours = served._servable._sum
        assert (ours is None) == (leaf_by_leaf or find("forest") is None)
        for count in (1, 2, 5, 9, 300):
            found = served.predict(columns_of(rows[:count]))["RawFormulaVal"]
            expected = own.predict(rows[:count], prediction_type="RawFormulaVal")
            assert found.tobytes() == np.asarray(expected).tobytes()


def test_compiled_and_pure_make_the_same_numbers(trained, monkeypatch):
    _, folder = trained
    with martlet.load(folder / "m.cbm") as served:
        compiled = served._servable._ctrs
        if compiled is None or compiled._native is None:
            pytest.skip("CatBoost's own, or no compiled part")
        monkeypatch.setenv("MARTLET_NATIVE", "0")
        fields = [name for name in compiled.__slots__ if name not in ("columns", "_native")]
        pure = catboost_ctrs.Ctrs(*(getattr(compiled, name) for name in fields))
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
