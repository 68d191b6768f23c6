"""The common predict in one compiled call: what it answers, the long way answers the same."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import re
import sys
import time
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pytest

from martlet.errors import InvalidInput
from martlet.monitor.counts import Counts, Totals
from martlet.native import find
from martlet.servable import DEFAULT_SIGNATURE
from martlet.servers import offload, timed
from martlet.servers.catalogue import Catalogue
from martlet.servers.connection import Connection
from martlet.servers.http import HttpServer
from martlet.servers.identity import current
from martlet.servers.rest_openinference import OpenInference
from martlet.servers.rest_recommendations import Recommendations
from martlet.servers.rest_tfserving import TFServing
from martlet.servers.routes import Router
from martlet.servers.shortcut import Shortcuts
from martlet.serving.engine import Engine
from martlet.serving.traffic import Model, Table, Variant
from martlet.tensors import DType, Signature, Spec, Tensors

pytestmark = pytest.mark.skipif(find("shortcut") is None, reason="the compiled part is not built")

PATH, RANK, INFER = "/v1/models/m:predict", "/v1/models/m:rank", "/v2/models/m/infer"
X = {"name": "x", "shape": [2, 1], "datatype": "FP32", "data": [1.0, 2.5]}
USUAL: Mapping[str, Any] = {
    PATH: {"inputs": [[1.0]]},
    RANK: {"items": {"x": [1.0, 2.5]}},
    INFER: {"inputs": [X]},
}


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A machine that stalls must not make the model one that is slow."""
    monkeypatch.setattr(timed, "SLOW_NS", 10**12)
    monkeypatch.setattr(offload, "SLOW_NS", 10**12)


class Half:
    """y = x / 2 + 2 and, of a row that is 13, a refusal; keeps what it saw of the log's context."""

    def __init__(self, outputs: int = 1) -> None:
        y = [Spec(f"y{i}", DType.FLOAT32, (-1, 1)) for i in range(outputs)]
        self.signatures: Mapping[str, Signature] = {
            DEFAULT_SIGNATURE: Signature.of([Spec("x", DType.FLOAT32, (-1, 1))], y)
        }
        self.calls = 0
        self.named = b""
        self.odd: Any = None

    def predict(self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE) -> dict[str, Any]:
        self.calls += 1
        self.named = current.get()
        if (inputs["x"] == 13).any():
            raise InvalidInput("13 is not scored here")
        if (inputs["x"] == 14).any():
            raise ZeroDivisionError
        if (inputs["x"] == 15).any():
            raise KeyboardInterrupt
        if (inputs["x"] == 16).any():
            time.sleep(0.6)
        y = inputs["x"] * np.float32(0.5) + np.float32(2) if self.odd is None else self.odd
        return dict.fromkeys(self.signatures[DEFAULT_SIGNATURE].outputs, y)

    def close(self) -> None:
        pass


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""

    def write(self, data: Any) -> None:
        self.sent += data

    def is_closing(self) -> bool:
        return False

    def resume_reading(self) -> None:
        pass

    def close(self) -> None:
        pass


class Server:
    """One connection to one model, with shortcuts or without."""

    def __init__(
        self, model: Half, short: bool = True, cors: bool = False, timeout_s: float = 30.0
    ) -> None:
        self.model, self.counts, self.engine = model, Counts(), Engine()
        self.shortcuts = Shortcuts()
        self.variant: Variant[Any] = Variant("m", 1, model)
        self.engine.publish(Table({"m": Model("m", {1: self.variant})}))
        router = Router()
        router.mount(Recommendations(self.engine, self.counts, timeout_s, self.shortcuts))
        router.mount(TFServing(self.engine, self.counts, timeout_s, cors, self.shortcuts))
        catalogue = Catalogue(self.engine, cast(Any, None), Totals)
        router.mount(OpenInference(self.engine, catalogue, self.counts, timeout_s, self.shortcuts))
        self.server = HttpServer(router, "", 0, shortcuts=self.shortcuts if short else Shortcuts())
        # A path is taken for slow until it has shown otherwise.
        for path, body in USUAL.items():
            for _ in range(5):
                self.ask(body, path=path)

    def send(self, data: bytes) -> bytes:
        """Return what *data* is answered, on a connection of its own."""

        async def talk() -> bytes:
            self.server.loop = asyncio.get_running_loop()
            wire, connection = Wire(), Connection(self.server)
            connection.connection_made(wire)
            connection.data_received(data)
            for _ in range(200):
                if wire.sent:
                    break
                await asyncio.sleep(0.005)
            self.server.connections.clear()
            return wire.sent

        return asyncio.run(talk())

    def ask(self, body: Any, *fields: str, path: str = PATH) -> bytes:
        return self.send(request(body, *fields, path=path))

    def short(self, data: bytes) -> bytes | None:
        """Return what the shortcut says of *data*."""
        return self.server.shortcut(data)


def request(body: Any, *fields: str, path: str = PATH) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {len(content)}", *fields]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + content


def without_id(reply: bytes) -> bytes:
    return re.sub(rb"(?<=X-Request-Id: )[^\r]*", b"", reply)


def body_of(reply: bytes) -> Any:
    return json.loads(reply.partition(b"\r\n\r\n")[2])


@pytest.fixture
def server() -> Server:
    return Server(Half())


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


def raw(values: list[float], **more: Any) -> tuple[bytes, str]:
    """Return an infer request with a binary tensor, and the field that goes with it."""
    array = np.array(values, np.float32).reshape(-1, 1)
    tensor = X | {"shape": array.shape, "parameters": {"binary_data_size": array.nbytes}}
    tensor = {name: value for name, value in tensor.items() if name != "data"}
    head = json.dumps({"inputs": [tensor], **more}).encode()
    return head + array.tobytes(), f"Inference-Header-Content-Length: {len(head)}"


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
            ([f"traceparent: 00-{TRACE}-{'1' * 16}-01-more"], TRACE.encode()),
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


def mutated(rng: random.Random, data: bytes) -> bytes:
    found = bytearray(data)
    for _ in range(rng.randint(0, 2)):
        at = rng.randrange(len(found) + 1)
        match rng.randrange(3):
            case 0:
                found[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                found[at:at] = rng.choice([b"1", b",", b"[", b"\r\n", b": ", b"e9", b"-", b"\0"])
            case 2:
                del found[at : at + rng.randint(1, 3)]
    return bytes(found)


def fuzz(seed: int, short: Server, long: Server) -> int:
    """Hold both ways against each other; how many requests the short one answered."""
    rng, answered = random.Random(seed), 0
    for _ in range(300):
        values = [[rng.choice([0, 1, -1e6, 0.1, 1e-9, rng.gauss(0, 1)])] for _ in range(3)]
        flat = [each for (each,) in values]
        path, body = rng.choice(
            [
                (PATH, {"inputs": values}),
                (PATH, {"instances": values}),
                (PATH, {"inputs": {"x": values}}),
                (RANK, {"items": {"x": flat}}),
                (INFER, {"inputs": [X | {"shape": [3, 1], "data": flat}], "id": "q"}),
            ]
        )
        fields = rng.sample(["A: b", "X-Request-Id: q", "Connection: keep-alive", "B:"], 2)
        content = json.dumps(body).encode()
        if path == INFER and rng.random() < 0.5:
            content, field = raw(flat, parameters={"binary_data_output": rng.random() < 0.5})
            fields.append(field)
        # A change of the body alone keeps the length right.
        if rng.random() < 0.7:
            data = request(mutated(rng, content), *fields, path=path)
        else:
            data = mutated(rng, request(content, *fields, path=path))
        found = short.short(data)
        if found is not None:
            answered += 1
            assert without_id(found) == without_id(long.send(data)), data
    return answered


class TestFuzz:
    def test_what_the_shortcut_answers_the_long_way_answers_the_same(self, server):
        assert fuzz(1, server, Server(Half(), short=False)) > 20

    def test_for_as_long_as_asked(self, server):
        until = time.monotonic() + float(os.environ.get("MARTLET_FUZZ_SECONDS", 0))
        long, seed = Server(Half(), short=False), 100
        while time.monotonic() < until:
            assert fuzz(seed, server, long) > 20, seed
            seed += 1


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
