"""What came of a call that is not common: the model is called once, and nothing is kept."""

from __future__ import annotations

import gc
import sys
from typing import Any

import numpy as np
import pytest
from both_ways import (
    INFER,
    PATH,
    RANK,
    USUAL,
    Half,
    Server,
    body_of,
    raw,
    request,
)

from martlet.native import find
from martlet.servers import timed

pytestmark = [
    pytest.mark.usefixtures("patience"),
    pytest.mark.skipif(find("shortcut") is None, reason="the compiled part is not built"),
]


class TestOutcomesThatAreNotCommon:
    """The model was called: nobody calls it again."""

    @pytest.fixture
    def both(self) -> tuple[Server, Server]:
        return Server(Half()), Server(Half(), short=False)

    def known(self, server: Server) -> Any:
        return server.shortcuts._known[PATH.encode()]

    @pytest.mark.parametrize("field", ["A: b", "Connection: keep-alive"])
    def test_a_refusal_is_answered_as_the_long_way_answers(self, both, field):
        data = request({"inputs": [[13.0]]}, field, "X-Request-Id: 7")
        calls = both[0].model.calls
        short = both[0].short(data)
        assert short == both[1].send(data)
        assert short.startswith(b"HTTP/1.1 400 ")
        assert both[0].model.calls == calls + 1
        for server in both:
            assert server.counts.totals().requests["m", "INVALID_ARGUMENT"] == 1

    def test_a_crash_is_a_500_under_the_requests_id_and_is_logged(self, both, caplog):
        data = request({"inputs": [[14.0]]}, "X-Request-Id: 7")
        calls = both[0].model.calls
        short = both[0].short(data)
        assert short == both[1].send(data)
        assert short.startswith(b"HTTP/1.1 500 ")
        assert both[0].model.calls == calls + 1
        assert caplog.text.count(f"POST {PATH} failed") == 2

    def test_what_ends_the_process_is_not_answered(self, server):
        with pytest.raises(KeyboardInterrupt):
            server.short(request({"inputs": [[15.0]]}))

    def test_an_answer_that_comes_too_late_is_a_504(self):
        server = Server(Half(), timeout_s=0.5)
        server.shortcuts.add(PATH, self.known(server)._replace(slow_ns=0))
        calls = server.model.calls
        reply = server.short(request({"inputs": [[16.0]]}))
        assert reply.startswith(b"HTTP/1.1 504 ")
        assert b"the limit is 500 ms" in reply
        assert server.model.calls == calls + 1
        assert server.counts.totals().requests["m", "DEADLINE_EXCEEDED"] == 1

    def test_a_model_that_has_become_slow_loses_its_shortcut(self, server, monkeypatch):
        server.shortcuts.add(PATH, self.known(server)._replace(slow_ns=0))
        monkeypatch.setattr(timed, "SLOW_NS", 0)
        assert body_of(server.short(request({"inputs": [[1.0]]}))) == {"outputs": [[2.5]]}
        assert server.short(request({"inputs": [[1.0]]})) is None

    def test_an_output_that_json_cannot_tell_is_refused_without_a_second_call(self, both):
        for server in both:
            server.model.odd = np.zeros((1, 1), np.complex64)
        data = request({"inputs": [[1.0]]}, "X-Request-Id: 7")
        calls = both[0].model.calls
        assert both[0].short(data) == both[1].send(data)
        assert both[0].model.calls == calls + 1

    @pytest.mark.parametrize(
        "odd",
        [
            np.array([[1]], np.int64),
            np.array([["a"]], object),
            np.array([[True]]),
            np.zeros((0, 1), np.float32),
            np.array([[1.5]], np.float16),
            np.zeros((4, 6), np.float32)[::2, ::3],
        ],
    )
    def test_unusual_outputs_are_written_by_who_knows_them(self, both, odd):
        for server in both:
            server.model.odd = odd
        for body in ({"inputs": [[1.0]]}, {"instances": [[1.0]]}):
            data = request(body, "X-Request-Id: 7")
            assert both[0].short(data) == both[1].send(data)


def test_nothing_is_kept_of_a_request(server):
    body, field = raw([1.0, 2.0], parameters={"binary_data_output": True})
    requests = [
        request({"inputs": [[1.0]]}),
        request(USUAL[RANK], path=RANK),
        request(USUAL[INFER], path=INFER),
        request(body, field, path=INFER),
        request(body, field + "0", path=INFER),
        request({"instances": [{"x": [1e9]}]}, "X-Request-Id: 1"),
        request({"inputs": [[13.0]]}),
        request({"inputs": [1.0]}),
        request({"inputs": [[1.0]]}, path="/other"),
    ]

    def ask(times: int) -> None:
        for _ in range(times):
            for data in requests:
                server.short(data)

    short = server.shortcuts._known[PATH.encode()]
    ask(2000)
    server.counts.totals()
    gc.collect()
    # Numbers are everybody's.
    things = [*requests, *(each for each in short if not isinstance(each, int))]
    kept = [sys.getrefcount(each) for each in things]
    blocks = sys.getallocatedblocks()
    ask(2000)
    server.counts.totals()
    gc.collect()
    assert [sys.getrefcount(each) for each in things] == kept
    # One block kept of each request of any of these kinds would make two thousand.
    assert sys.getallocatedblocks() - blocks < 1000
