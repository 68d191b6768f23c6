"""The bodies of ``:recommend`` and ``:rank``, and their replies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from martlet.errors import InvalidInput, MartletError
from martlet.servable import DEFAULT_SIGNATURE
from martlet.servers.failures import failed
from martlet.servers.rest_recommendations import Recommendations
from martlet.servers.routes import Request, Response, Router
from martlet.serving.engine import Engine
from martlet.serving.traffic import Model, Table, Variant
from martlet.tensors import DType, Signature, Spec, Tensors
from martlet.wire import recommendations as wire


class Mixed:
    """A model with an input of every kind and rank that a request may bring."""

    def __init__(self) -> None:
        inputs = [
            Spec("user", DType.INT64, (-1,), required=False),
            Spec("item", DType.INT32, (-1, 1), required=False),
            Spec("price", DType.FLOAT32, (-1,), required=False),
            Spec("vector", DType.FLOAT32, (-1, 2), required=False),
            Spec("grid", DType.FLOAT64, (-1, 2, 2), required=False),
            Spec("device", DType.STRING, (-1,), required=False),
            Spec("new", DType.BOOL, (-1,), required=False),
            Spec("scale", DType.FLOAT32, (), required=False),
        ]
        outputs = [Spec("score", DType.FLOAT64, (-1,)), Spec("label", DType.STRING, (-1,))]
        self.signatures: Mapping[str, Signature] = {
            DEFAULT_SIGNATURE: Signature.of(inputs, outputs)
        }

    def predict(self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE) -> dict[str, Any]:
        rows = [v for v in inputs.values() if v.ndim]
        n = len(rows[0])
        score = np.zeros(n)
        for name, value in inputs.items():
            if name == "device":
                score += [len(each) for each in value]
            else:
                score += value if value.ndim == 0 else value.reshape(n, -1).sum(axis=1)
        score[score == 404] = np.nan
        return {
            "score": score,
            "label": np.array(["a"] * n, dtype=object),
            "pair": np.stack([score, score], axis=1),
            "column": score.reshape(n, 1),
            "strided": np.stack([score, score], axis=1)[:, 0],
            "half": score.astype(np.float16),
        }

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def ask():
    engine = Engine()
    engine.publish(Table({"m": Model("m", {1: Variant("m", 1, Mixed())}, {"stable": 1})}))
    router = Router([Recommendations(engine)])

    def call(path: str, body: object) -> tuple[int, Any]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()

        async def answer() -> Response:
            found = router.answer(Request("POST", path, {}, raw))
            return found if isinstance(found, Response) else await found

        try:
            response = asyncio.run(answer())
        except MartletError as exc:
            response = failed(exc)
        return response.status, json.loads(response.body)

    return call


RANK = "/v1/models/m:rank"


class TestRank:
    @pytest.mark.parametrize(
        ("context", "items", "scores"),
        [
            ({"user": 5}, {"item": [1, 2, 3]}, [6, 7, 8]),
            ({"user": [5]}, {"item": [[1], [2]]}, [6, 7]),
            ({"vector": [1, 2]}, {"user": [1, 2]}, [4, 5]),
            ({"vector": [[1, 2]]}, {"user": [1, 2]}, [4, 5]),
            ({"item": 7}, {"user": [1, 2]}, [8, 9]),
            ({"item": [7]}, {"user": [1, 2]}, [8, 9]),
            ({"item": [[7]]}, {"user": [1, 2]}, [8, 9]),
            ({"grid": [[1, 2], [3, 4]]}, {"user": [1]}, [11]),
            ({"grid": [[[1, 2], [3, 4]]]}, {"user": [1]}, [11]),
            ({"device": "tv", "new": True}, {"user": [1, 2]}, [4, 5]),
            ({"scale": 0.5}, {"user": [1, 2]}, [1.5, 2.5]),
            ({}, {"price": [1, 2.5], "device": ["a", "bc"]}, [2, 4.5]),
        ],
    )
    def test_what_items_share_comes_once(self, ask, context: Any, items: Any, scores: Any):
        status, reply = ask(RANK, {"context": context, "items": items})
        assert (status, reply) == (200, {"model": "m", "version": 1, "scores": scores})

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            (b"", "the body is not JSON"),
            (b"\xff", "the body is not JSON"),
            (b"3", "the body is JSON, but not an object"),
            ({}, "'items' is missing or empty; a column of values for each input is wanted"),
            ({"items": []}, "'items' is missing or empty"),
            ({"items": {"user": []}}, "items['user'] is empty; one item at least is wanted"),
            ({"items": {"user": 5}}, "items['user'] is 5; a list is wanted"),
            (
                {"items": {"user": [1], "item": [1, 2]}},
                "items['item'] has 2 values and items['user'] has 1: one for each item is wanted",
            ),
            ({"context": 5, "items": {"user": [1]}}, "'context' is 5; an object of values"),
            (
                {"context": {"user": 1}, "items": {"user": [1]}},
                "'user' is in 'context' and in 'items'; give it once",
            ),
            ({"items": {"film": [1]}}, "the model has no input 'film'; its inputs are 'user', "),
            ({"context": {"x": 1}, "items": {"user": [1]}}, "the model has no input 'x'"),
            ({"items": {"user": [1]}, "item": 5}, "the body has 'item'; it takes context, "),
            ({"items": {"user": [1.5]}}, "'user' holds [1.5]; int64 [-1] is wanted"),
            ({"items": {"user": ["a"]}}, "'user' holds ['a']; int64 [-1] is wanted"),
            ({"items": {"user": [None]}}, "'user' holds [None]; int64 [-1] is wanted"),
            ({"items": {"user": [2**63]}}, "'user' holds a value beyond int64"),
            ({"items": {"item": [2**40]}}, "'item' holds a value beyond int32"),
            ({"items": {"price": [1e300]}}, "'price' holds a value beyond float32"),
            ({"items": {"device": ["a", 1]}}, "'device' holds more than text; string [-1]"),
            ({"items": {"new": [1]}}, "'new' holds [1]; bool [-1] is wanted"),
            ({"items": {"vector": [[1, 2], [3]]}}, "'vector' is a ragged list"),
            ({"items": {"vector": [[1, 2, 3]]}}, "input 'vector' has shape [1, 3]"),
            ({"items": {"user": [{"a": 1}]}}, "'user' holds"),
            (
                {"context": {"grid": [[[1, 2], [3, 4]]] * 2}, "items": {"user": [1, 2]}},
                "context['grid'] has shape [2, 2, 2]; one row of float64 [-1, 2, 2] is wanted",
            ),
            ({"context": {"user": [1, 2]}, "items": {"item": [1]}}, "has shape [2]; one row of"),
            ({"context": {"vector": [[1], [2]]}, "items": {"user": [1]}}, "has shape [2, 1]"),
            ({"items": {"user": [1]}, "output": 5}, "'output' is 5; text is wanted"),
            (
                {"items": {"user": [1]}, "output": "x"},
                "the model has no output 'x'; its outputs are 'score', 'label'",
            ),
            ({"items": {"user": [1]}, "output": "label"}, "that output holds text; name in"),
            ({"items": {"user": [1]}, "signature_name": "x"}, "no signature 'x'; available:"),
            ({"recommender": 5, "items": [1]}, "'recommender' is 5; its name is wanted"),
            ({"recommender": "a b", "items": [1]}, "'a b' cannot name a model"),
        ],
    )
    def test_what_is_wrong_is_told(self, ask, body: Any, says: str):
        status, reply = ask(RANK, body)
        assert status == 400
        assert says in reply["error"]

    def test_a_score_that_is_no_number_is_null(self, ask):
        body = {"items": {"user": [1, 404]}}
        assert ask(RANK, body)[1]["scores"] == [1.0, None]
        assert ask(RANK, {**body, "output": "pair"})[1]["scores"] == [[1.0, 1.0], [None, None]]
        assert ask(RANK, {**body, "output": "column"})[1]["scores"] == [1.0, None]

    @pytest.mark.parametrize("output", ["strided", "half", "column"])
    def test_an_output_of_any_layout_is_told(self, ask, output: str):
        body = {"items": {"user": [1, 2, 3]}, "output": output}
        assert ask(RANK, body)[1]["scores"] == [1.0, 2.0, 3.0]

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/v1/models/m/versions/1:rank", 200),
            ("/v1/models/m/labels/stable:rank", 200),
            ("/v1/models/m/versions/2:rank", 404),
            ("/v1/models/m/labels/canary:rank", 404),
            ("/v1/models/n:rank", 404),
            (f"/v1/models/m/versions/{'9' * 5000}:rank", 400),
            (f"/v1/recommenders/m/versions/{'9' * 5000}:recommend", 400),
            ("/v1/recommenders/m:recommend", 404),
        ],
    )
    def test_the_path_says_who_answers(self, ask, path: str, status: int):
        assert ask(path, {"items": {"user": [1]}})[0] == status


class TestRecommend:
    def test_everything_may_be_said_or_left_out(self):
        found = wire.recommend_request({}, "user")
        assert (found.unit, found.size, found.context) == (None, None, {})
        assert found.history is None and found.exclude is None
        found = wire.recommend_request(
            {"user": "a", "size": 3, "context": {"x": 1}, "history": [1, 2], "exclude": []}, "user"
        )
        assert (found.unit, found.size, found.context) == ("a", 3, {"x": 1})
        assert found.history is not None and found.history.tolist() == [1, 2]
        assert found.exclude is not None and len(found.exclude) == 0
        assert wire.recommend_request({"unit": 5}, "user").unit == 5

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            ({"users": 1}, "the body has 'users'; it takes context, exclude, history, size, unit"),
            ({"user": 1, "unit": 1}, "the body has both 'user' and 'unit'; give one"),
            ({"user": True}, "'user' is True; a whole number or text is wanted"),
            ({"user": 1.5}, "'user' is 1.5; a whole number or text is wanted"),
            ({"user": 2**63}, "beyond 64 bits"),
            ({"size": True}, "'size' is True; a whole number is wanted"),
            ({"size": "3"}, "'size' is '3'; a whole number is wanted"),
            ({"context": [1]}, "'context' is [1]; an object of values is wanted"),
            ({"history": 5}, "'history' is 5; a list of item keys is wanted, all numbers or all"),
            ({"history": [1, "a"]}, "'history' is [1, 'a']; a list of item keys is wanted"),
            ({"history": [True]}, "'history' is [True]; a list of item keys is wanted"),
            ({"exclude": [1.5]}, "'exclude' is [1.5]; a list of item keys is wanted"),
            ({"exclude": [2**63]}, "'exclude' holds a key beyond 64 bits"),
        ],
    )
    def test_what_is_wrong_is_told(self, body: dict[str, Any], says: str):
        with pytest.raises(InvalidInput) as caught:
            wire.recommend_request(body, "user")
        assert says in str(caught.value)

    def test_a_reply_has_what_json_has(self):
        columns = {
            "item": np.array([7, 8]),
            "score": np.array([1.5, np.nan]),
            "title": np.array(["a", "b"], dtype=object),
            "vector": np.array([[1.0, np.inf], [2.0, 3.0]], np.float32),
        }
        reply = wire.slate_reply("films", ("user", 1), columns, ["x", "y"], {"answered_by": "m"})
        assert json.loads(reply) == {
            "recommender": "films",
            "user": 1,
            "answered_by": "m",
            "items": [
                {"item": 7, "score": 1.5, "title": "a", "vector": [1.0, None], "source": "x"},
                {"item": 8, "score": None, "title": "b", "vector": [2.0, 3.0], "source": "y"},
            ],
        }


# An alphabet of its own: that of all Unicode takes seconds to make.
TEXT = st.text("aé€😀 ", max_size=4)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
ANY = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner,
                                                                max_size=3),
    max_leaves=8,
)  # fmt: skip
NAMES = st.sampled_from(["user", "item", "price", "vector", "grid", "device", "new", "scale", "x"])


@given(
    st.dictionaries(
        st.sampled_from(["context", "items", "output", "signature_name", "recommender", "user"]),
        ANY | st.dictionaries(NAMES, ANY | st.lists(PLAIN, max_size=3), max_size=3),
    )
)
def test_no_rank_body_brings_it_down(ask, body: dict[str, Any]):
    status, reply = ask(RANK, body)
    assert status == 200 or (status in (400, 404) and reply["error"])


@given(
    st.dictionaries(
        st.sampled_from(["user", "unit", "size", "context", "history", "exclude", "x"]), ANY
    )
)
def test_no_recommend_body_brings_it_down(body: dict[str, Any]):
    try:
        wire.recommend_request(body, "user")
        wire.joined_rank_request({**body, "recommender": "films"}, "user")
    except InvalidInput as exc:
        assert str(exc)


@given(st.binary(max_size=20))
def test_no_bytes_bring_it_down(ask, body: bytes):
    assert ask(RANK, body)[0] == 400
