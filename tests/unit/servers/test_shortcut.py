"""The common request in one compiled call: what it answers, the long way answers the same."""

from __future__ import annotations

import json
import re
from typing import Any, cast

import numpy as np
import pytest
from both_ways import (
    INFER,
    PATH,
    RANK,
    USUAL,
    Half,
    Server,
    X,
    body_of,
    raw,
    request,
)

from martlet.native import find
from martlet.serving.traffic import Model, Table, Variant

pytestmark = [
    pytest.mark.usefixtures("patience"),
    pytest.mark.skipif(find("shortcut") is None, reason="the compiled part is not built"),
]


class TestWhatIsCommon:
    @pytest.mark.parametrize("outputs", [1, 2])
    @pytest.mark.parametrize("cors", [False, True])
    @pytest.mark.parametrize("field", ["A: b", "Connection: keep-alive", "Content-Type: x/y"])
    @pytest.mark.parametrize(
        "values",
        [[1.0, 2.0, 5.0], [1e6, 2e7], [1e-9], [1e39, -1e39], ["NaN"], [0.1] * 200, [0.25] * 1500],
    )
    def test_is_answered_as_the_long_way_answers(self, values, field, cors, outputs):
        both = [Server(Half(outputs), short, cors) for short in (True, False)]
        column = json.dumps([[v] for v in values]).replace('"', "")
        rows = json.dumps([{"x": [v]} for v in values]).replace('"NaN"', "NaN")
        for body in (f'{{"inputs":{column}}}', f'{{"instances":{rows}}}'):
            data = request(body.encode(), field, "X-Request-Id: 7")
            assert both[0].short(data) == both[1].send(data)

    def test_is_told_to_who_counts(self, server):
        before = server.counts.totals()
        assert server.short(request({"inputs": [[1.0], [2.0]]})) is not None
        after = server.counts.totals()
        assert after.requests["m", "OK"] == before.requests["m", "OK"] + 1
        assert after.rows["m"] == before.rows["m"] + 2

    def test_is_named_for_who_logs(self, server):
        server.short(request({"inputs": [[1.0]]}, "X-Request-Id: abc"))
        assert server.model.named == b"abc"

    def test_is_called_once(self, server):
        before = server.model.calls
        server.ask({"inputs": [[1.0]]})
        assert server.model.calls == before + 1

    def test_is_counted_by_the_server(self, server):
        before = server.server.served
        server.ask({"inputs": [[1.0]]})
        assert server.server.served == before + 1


class TestOtherForms:
    """What a ranking and an infer request are answered, the long way answers the same."""

    @pytest.fixture
    def both(self) -> tuple[Server, Server]:
        return Server(Half()), Server(Half(), short=False)

    def assert_same(self, both, body, *fields: str, path: str) -> bytes:
        data = request(body, *fields, "X-Request-Id: 7", path=path)
        short = both[0].short(data)
        assert short is not None
        assert short == both[1].send(data)
        totals = [each.counts.totals() for each in both]
        assert totals[0].requests == totals[1].requests
        assert totals[0].rows == totals[1].rows
        return short

    VALUES = ([1.0], [1.0, 2.5, 5.0], [1e6, 2e7], [1e-9, -3.0], [0.1] * 200)

    @pytest.mark.parametrize("field", ["A: b", "Connection: keep-alive"])
    @pytest.mark.parametrize("values", VALUES)
    def test_a_ranking(self, both, values, field):
        self.assert_same(both, {"items": {"x": values}}, field, path=RANK)

    def test_a_ranking_of_no_numbers(self, both):
        for server in both:
            server.model.odd = np.array([[np.nan], [np.inf], [1.0]], np.float32)
        try:
            reply = self.assert_same(both, {"items": {"x": [1, 2, 3]}}, path=RANK)
            assert body_of(reply)["scores"] == [None, None, 1.0]
        finally:
            for server in both:
                server.model.odd = None

    @pytest.mark.parametrize("more", [{}, {"id": "a"}, {"outputs": [{"name": "y0"}]}])
    @pytest.mark.parametrize("values", VALUES)
    def test_an_infer_request_in_json(self, both, values, more):
        tensor = X | {"shape": [len(values), 1], "data": values}
        self.assert_same(both, {"inputs": [tensor], **more}, path=INFER)

    @pytest.mark.parametrize("binary", [False, True])
    @pytest.mark.parametrize("values", [*VALUES, [np.nan, np.inf]])
    def test_an_infer_request_in_binary(self, both, values, binary):
        more = {"id": "b", "parameters": {"binary_data_output": binary}}
        body, field = raw(values, **more)
        reply = self.assert_same(both, body, field, "Connection: keep-alive", path=INFER)
        assert (b"Inference-Header-Content-Length" in reply) == binary

    @pytest.mark.parametrize(
        "odd",
        [
            np.array([[1], [2]], np.int64),
            np.array([[1.5], [2]], np.float64),
            np.array([["a"], ["b"]], object),
            np.zeros((2, 3), np.float32),
            np.zeros((0, 1), np.float32),
            np.zeros((1, 1, 1, 1, 1, 1, 1, 1, 1, 1), np.float32),
            np.zeros((4, 6), np.float32)[::2, ::3],
        ],
    )
    @pytest.mark.parametrize("which", ["rank", "json", "binary"])
    def test_unusual_outputs(self, odd, which):
        both = Server(Half()), Server(Half(), short=False)
        for server in both:
            server.model.odd = odd
        body, field = raw([1.0, 2.0], parameters={"binary_data_output": True})
        if which == "binary":
            self.assert_same(both, body, field, path=INFER)
        elif which == "json":
            self.assert_same(both, USUAL[INFER] | {"id": "9"}, path=INFER)
        elif len(odd) == 2:
            self.assert_same(both, USUAL[RANK], path=RANK)

    @pytest.mark.parametrize("path", [RANK, INFER])
    def test_a_refusal(self, both, path):
        body = {"items": {"x": [13.0]}}
        if path == INFER:
            body = {"inputs": [X | {"data": [13.0, 1.0]}]}
        assert self.assert_same(both, body, path=path).startswith(b"HTTP/1.1 400 ")

    @pytest.mark.parametrize(
        ("path", "body", "field"),
        [
            (RANK, {"items": {"x": [1.0]}, "output": "y0"}, ""),
            (RANK, {"recommender": "r", "items": [1]}, ""),
            (INFER, {"inputs": [X]}, "Accept-Encoding: gzip"),
            (INFER, {"inputs": [X]}, "Inference-Header-Content-Length: 3"),
            (INFER, {"inputs": [X], "parameters": {"timeout": 1}}, ""),
        ],
    )
    def test_what_is_not_common_is_left_to_the_long_way(self, both, path, body, field):
        assert both[0].short(request(body, *filter(None, [field]), path=path)) is None


class TestIds:
    TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"

    @pytest.mark.parametrize(
        ("fields", "found"),
        [
            (["X-Request-Id: a b"], None),
            (["X-Request-Id: abc"], b"abc"),
            (["X-Request-Id: abc", "X-Request-Id: d"], b"d"),
            ([f"X-Request-Id: {'x' * 129}"], None),
            ([f"X-Request-Id: {'x' * 128}"], b"x" * 128),
            ([f"traceparent: 00-{TRACE}-{'1' * 16}-01"], TRACE.encode()),
            ([f"traceparent: 00-{TRACE}-{'1' * 16}-01-more"], None),
            ([f"traceparent: 01-{TRACE}-{'1' * 16}-01-more"], TRACE.encode()),
            ([f"traceparent: cc-{TRACE}-{'1' * 16}-01"], TRACE.encode()),
            ([f"traceparent: 00-{TRACE}-{'0' * 16}-01"], None),
            ([f"traceparent: 00-{TRACE}-{'1' * 16}-01more"], None),
            ([f"traceparent: 00-{TRACE.upper()}-{'1' * 16}-01"], None),
            ([f"traceparent: ff-{TRACE}-{'1' * 16}-01"], None),
            ([f"traceparent: 00-{'0' * 32}-{'1' * 16}-01"], None),
            ([f"traceparent: 00-{TRACE}-{'1' * 16}"], None),
            (["X-Request-Id: \t", f"traceparent: 00-{TRACE}-{'1' * 16}-01"], TRACE.encode()),
        ],
    )
    def test_are_those_of_the_long_way(self, server, fields, found):
        data = request({"inputs": [[1.0]]}, *fields)
        for reply in (server.short(data), Server(Half(), short=False).send(data)):
            told = re.search(rb"X-Request-Id: ([^\r]*)\r\n", reply)[1]
            assert told == found if found else re.fullmatch(rb"[0-9a-f]{8}-[0-9a-f]+", told)

    def test_that_are_made_differ(self, server):
        data = request({"inputs": [[1.0]]})
        ids = {re.search(rb"Id: ([^\r]*)", server.short(data))[1] for _ in range(1000)}
        ids |= {re.search(rb"Id: ([^\r]*)", server.send(data + b"\r\n"))[1] for _ in range(10)}
        assert len(ids) == 1010


class TestWhatIsNot:
    @pytest.mark.parametrize(
        "data",
        [
            request({"inputs": [[1.0]]}, path="/v1/models/m/versions/1:predict"),
            request({"inputs": [[1.0]]}, path=PATH + "?a"),
            request({"inputs": [[1.0]]}, "Connection: close"),
            request({"inputs": [[1.0]]}, "Content-Encoding: identity"),
            request({"inputs": [[1.0]]}, "Expect: 100-continue"),
            request({"inputs": [[1.0]]}) + b" ",
            request({"inputs": [[1.0]]})[:-1],
            request({"inputs": [1.0]}),
            request({"inputs": [["a"]]}),
            request({"inputs": [[1.0]], "signature_name": "other"}),
            request({}),
            request(b""),
            f"GET {PATH} HTTP/1.1\r\n\r\n".encode(),
            b"",
        ],
    )
    def test_is_left_to_the_long_way(self, server, data):
        assert server.short(data) is None

    def test_is_another_table(self, server):
        other = Half()
        table = Table({"m": Model("m", {2: Variant("m", 2, other), 1: server.variant})})
        server.engine.publish(table)
        assert server.short(request({"inputs": [[1.0]]})) is None
        calls = server.model.calls
        for _ in range(3):
            assert body_of(server.ask({"inputs": [[2.0]]})) == {"outputs": [[3.0]]}
        assert (server.model.calls, other.calls) == (calls, 3)
        assert server.short(request({"inputs": [[1.0]]})) is not None

    def test_is_a_version_that_drains(self, server):
        server.variant.drain()
        assert server.variant.drained.is_set()
        assert server.short(request({"inputs": [[1.0]]})) is None

    def test_is_everything_on_a_connection_that_leaves(self, server):
        server.server.draining = True
        assert b"Connection: close" in server.ask({"inputs": [[1.0]]})

    def test_is_everything_without_the_compiled_part(self, monkeypatch):
        monkeypatch.setenv("MARTLET_NATIVE", "0")
        server = Server(Half())
        assert server.short(request({"inputs": [[1.0]]})) is None
        assert body_of(server.ask({"inputs": [[1.0]]})) == {"outputs": [[2.5]]}

    @pytest.mark.parametrize("value", [(), (1, 2), "no tuple", None])
    def test_is_a_table_of_something_else(self, server, value):
        server.shortcuts._known[PATH.encode()] = cast(Any, value)
        assert server.short(request({"inputs": [[1.0]]})) is None

    def test_is_a_path_that_was_forgotten_among_too_many(self, server):
        short = server.shortcuts._known[PATH.encode()]
        for number in range(5000):
            server.shortcuts.add(f"/{number}", short)
        assert len(server.shortcuts._known) <= 4096
