"""The ladder of ranking steps: each answers, or the next one below it does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from expected import (
    HOUR,
    near,
    without,
)
from films_by_hand import WHOLE, Place, Ranker

from martlet.errors import (
    InvalidInput,
    MartletError,
    NotAvailable,
    Overloaded,
    ServableFailed,
)
from martlet.recommend.recommender import Ask
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import DType, Signature, Spec


class TestLadder:
    @pytest.mark.parametrize(
        "fails",
        [
            ServableFailed("it crashed"),
            InvalidInput("an id is outside my table"),
            NotAvailable("not now"),
            Overloaded("full"),
        ],
        ids=lambda exc: type(exc).__name__,
    )
    def test_a_model_that_cannot_answer_leaves_it_to_the_next_step(
        self, place: Place, fails: MartletError
    ):
        place.ranker.fails = fails
        slate = place.open().recommend(Ask(1, context=HOUR))
        assert slate.step == "dot"
        assert slate.scores.tolist() == pytest.approx([near(1, i) for i in slate.items.tolist()])
        assert slate.versions == {"films": 4, "people": 2}

    def test_a_model_that_is_not_there_does_too(self, place: Place):
        place.serve()
        assert place.open().recommend(Ask(1, context=HOUR)).step == "dot"

    def test_so_does_a_version_other_than_the_one_that_belongs_to_the_tables(self, place: Place):
        assert place.open(pinned={"ranker": 2}).recommend(Ask(1, context=HOUR)).step == "dot"

    @pytest.mark.parametrize(
        ("inputs", "output"),
        [
            ([Spec("age", DType.STRING, (-1,))], "score"),
            ([Spec("genres", DType.INT64, (-1,))], "score"),
            ([Spec("vector", DType.FLOAT32, (-1, 3))], "score"),
            ([Spec("year", DType.INT8, (-1,))], "score"),
            ([Spec("year", DType.INT64, (-1,))], "scores of three classes"),
        ],
        ids=["text for a number", "a number for text", "width", "range", "classes"],
    )
    def test_a_model_that_the_tables_cannot_feed_does_too(
        self, place: Place, inputs: list[Spec], output: str
    ):
        class Other(Ranker):
            def predict(self, inputs: Any, signature_name: str = DEFAULT_SIGNATURE) -> Any:
                n = len(next(iter(inputs.values())))
                return {"score": np.zeros((n, 3) if output != "score" else n)}

        other = Other()
        other.signatures = {
            DEFAULT_SIGNATURE: Signature.of(inputs, [Spec("score", DType.FLOAT64, None)])
        }
        place.serve(ranker=other)
        text = without(
            WHOLE,
            'near = { dot = ["person_vectors", "film_vectors"] }\n',
            'hour = "request.hour"\n',
        )
        assert place.open(text).recommend(Ask(1)).step == "dot"

    def test_a_model_without_the_signature_does_too(self, place: Place):
        place.ranker.signatures = {"other": place.ranker.signatures[DEFAULT_SIGNATURE]}
        assert place.open().recommend(Ask(1, context=HOUR)).step == "dot"

    def test_with_no_step_left_the_order_of_the_sources_stays(self, place: Place):
        text = WHOLE.replace('[[ranking]]\ndot = ["person_vectors", "film_vectors"]\n', "")
        place.ranker.fails = ServableFailed("it crashed")
        slate = place.open(text).recommend(Ask(1, size=20, context=HOUR))
        assert slate.step == "order"
        assert slate.items.tolist()[:2] == [13, 16]  # nearest first: 0.5, 0.3

    def test_of_two_classes_the_second_is_the_score(self, place: Place):
        class Classes(Ranker):
            def predict(self, inputs: Any, signature_name: str = DEFAULT_SIGNATURE) -> Any:
                year = inputs["year"][:, 0] / 3000.0
                return {"score": np.stack([1 - year, year], axis=1)}

        place.serve(ranker=Classes())
        slate = place.open().recommend(Ask(1, size=2, context=HOUR))
        assert (slate.step, slate.items.tolist()) == ("ranker", [16, 15])
