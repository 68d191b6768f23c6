"""A request's id: the client's, its trace's, or one made here; in headers and in logs."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from martlet.cli.logs import JsonFormatter, _name_request
from martlet.servers.identity import current, id_of
from martlet.servers.routes import Request

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def request(**headers: str) -> Request:
    found = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return Request("GET", "/", found, b"")


def test_the_clients_own_id_is_kept():
    assert id_of(request(x_request_id="abc-1", traceparent=f"00-{TRACE}-{'1' * 16}-01")) == b"abc-1"


@pytest.mark.parametrize("traceparent", ["00-{}-{}-01", "01-{}-{}-00", "cc-{}-{}-01-what-will-be"])
def test_a_trace_gives_its_id_in_this_version_and_those_to_come(traceparent):
    told = traceparent.format(TRACE, "1" * 16)
    assert id_of(request(traceparent=told)) == TRACE.encode()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x_request_id": "a\tb"},
        {"x_request_id": "x" * 129},
        {"traceparent": f"00-{'0' * 32}-{'1' * 16}-01"},
        {"traceparent": f"ff-{TRACE}-{'1' * 16}-01"},
        {"traceparent": f"00-{TRACE}-{'0' * 16}-01"},
        {"traceparent": f"00-{TRACE}-{'1' * 16}-01-more"},
        {"traceparent": f"01-{TRACE}-{'1' * 16}-01more"},
        {"traceparent": f"00-{TRACE}-{'1' * 16}-1"},
        {"traceparent": TRACE},
    ],
)
def test_what_is_no_id_is_replaced_by_one_made_here(headers):
    one, two = request(**headers), request(**headers)
    assert id_of(one) == id_of(one) != id_of(two)
    assert id_of(one) not in list(one.headers.values())


def test_a_log_line_names_the_request_and_the_error():
    token = current.set(id_of(request(x_request_id="abc")))
    try:
        raise ValueError("broken")
    except ValueError:
        record = logging.LogRecord(
            "martlet.x", logging.ERROR, "f", 1, "it %s", ("fails",), sys.exc_info()
        )
        assert _name_request(record)
    finally:
        current.reset(token)
    told = json.loads(JsonFormatter().format(record))
    assert (told["level"], told["message"], told["request_id"]) == ("error", "it fails", "abc")
    assert "ValueError: broken" in told["error"]
    assert told["time"].endswith("Z")
