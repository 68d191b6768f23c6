"""An input is dead where nothing moves with it, however rare or far what it matters for is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from martlet.convert.asking.constants import Constants
from martlet.convert.asking.ranges import domain_of
from martlet.convert.audit import Audit, audit
from martlet.errors import InvalidInput
from martlet.tensors import DType, Signature, Spec

Formula = Callable[..., np.ndarray]


class Made:
    """Answers a formula of its inputs, and refuses ids outside of *tables*."""

    def __init__(self, formula: Formula, tables: dict[str, int] | None = None, **inputs: DType):
        specs = [Spec(name, dtype, (-1,)) for name, dtype in inputs.items()]
        outputs = [Spec("score", DType.FLOAT32, (-1,))]
        self.signatures = {"serving_default": Signature.of(specs, outputs)}
        self._formula, self._tables = formula, tables or {}

    def predict(self, inputs, signature_name="serving_default"):
        for name, rows in self._tables.items():
            if ((inputs[name] < 0) | (inputs[name] >= rows)).any():
                raise InvalidInput(f"{name} is not in its table")
        with np.errstate(all="ignore"):
            return {"score": self._formula(**inputs).astype(np.float32)}

    def close(self): ...


def audited(model: Made, *numbers: float) -> Audit:
    return audit(model, domain_of(model, constants=Constants(numbers=numbers)))


def sigmoid(values):
    return 1 / (1 + np.exp(-values.astype(np.float32)))


class TestAnInputIsAlive:
    def test_that_matters_beside_one_id_alone(self):
        def formula(item, coupon, other):
            return np.where(item == 17_003, coupon, 1.0) + item

        model = Made(
            formula, {"item": 20_000}, item=DType.INT64, coupon=DType.FLOAT32, other=DType.FLOAT32
        )
        assert audited(model).dead == ["other"]

    def test_that_matters_beside_a_number_that_the_file_names(self):
        def formula(campaign, bonus, other):
            return np.where(campaign == 9_370_001, bonus, 1.0) + sigmoid(campaign / 1e6)

        kinds = {"campaign": DType.INT64, "bonus": DType.FLOAT32, "other": DType.INT32}
        assert audited(Made(formula, **kinds), 9_370_001).dead == ["other"]

    def test_that_is_known_by_the_keys_of_a_vocabulary(self):
        keys = [10**12 + 17 * at for at in range(300)]

        def formula(item, user):
            return np.isin(item, keys) * (item % 7) + user

        model = Made(formula, item=DType.INT64, user=DType.FLOAT32)
        assert audited(model, *keys).dead == []

    def test_whose_thresholds_are_far_away(self):
        def formula(seconds, amount, user):
            return np.digitize(seconds, [1.5e9, 1.6e9]) + np.digitize(amount, [2e8]) + user

        kinds = {"seconds": DType.INT64, "amount": DType.FLOAT32, "user": DType.FLOAT32}
        assert audited(Made(formula, **kinds)).dead == []

    def test_that_is_drowned_where_features_are_not_as_in_training(self):
        # Year, price and clock are taken from their means: made rows are thousands of deviations
        # off, and a sigmoid is 0 or 1 there whatever the rest is.
        def formula(year, clock, price, taste, other):
            far = (year - 1995.0) / 10 + (clock - 1.4e9) / 1e7 + (price - 5000.0) / 20
            return sigmoid(far + 0.1 * taste)

        kinds = dict.fromkeys(("year", "clock"), DType.INT32)
        kinds |= dict.fromkeys(("price", "taste", "other"), DType.FLOAT32)
        assert audited(Made(formula, **kinds)).dead == ["other"]


class TestAnInputIsDead:
    def test_that_is_computed_with_and_cancelled(self):
        model = Made(lambda a, b: a + (b - b), a=DType.FLOAT32, b=DType.INT64)
        assert audited(model).dead == ["b"]

    def test_though_the_model_draws_numbers_itself(self):
        random = np.random.default_rng(0)

        def formula(a, b):
            return a + 1e-6 * random.standard_normal(len(a))

        found = audited(Made(formula, a=DType.FLOAT32, b=DType.FLOAT32))
        assert found.dead == ["b"] and not found.steady
        assert "not always answered the same" in " ".join(found.findings())


class TestNothingIsCalledDead:
    def test_that_takes_one_value_alone(self):
        model = Made(lambda a, b: a + b, {"b": 1}, a=DType.FLOAT32, b=DType.INT64)
        assert audited(model).dead == []

    def test_where_nothing_moved_at_all(self):
        model = Made(lambda a, b: np.zeros(len(a)), a=DType.FLOAT32, b=DType.FLOAT32)
        found = audited(model)
        assert found.dead == [] and [each.unsure for each in found.inputs] == [True, True]
        assert "give logged rows to be sure: a, b" in found.findings()[0]
