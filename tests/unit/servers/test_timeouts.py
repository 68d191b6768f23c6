"""How long a client of REST waits, from the headers that it or a proxy has sent."""

from __future__ import annotations

import pytest

from martlet.servers.timeouts import timeout_of


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({b"x-request-timeout": b"2"}, 2.0),
        ({b"x-request-timeout": b"0.25"}, 0.25),
        ({b"x-request-timeout": b"0"}, 0.0),
        ({b"grpc-timeout": b"1H"}, 3600.0),
        ({b"grpc-timeout": b"2M"}, 120.0),
        ({b"grpc-timeout": b"3S"}, 3.0),
        ({b"grpc-timeout": b"250m"}, 0.25),
        ({b"grpc-timeout": b"500000u"}, 0.5),
        ({b"grpc-timeout": b"1000000n"}, 0.001),
        ({b"x-envoy-expected-rq-timeout-ms": b"15000"}, 15.0),
        # Envoy's 0 means no limit.
        ({b"x-envoy-expected-rq-timeout-ms": b"0"}, None),
        ({b"x-envoy-expected-rq-timeout-ms": b"100", b"grpc-timeout": b"1S"}, 0.1),
    ],
)
def test_what_a_header_says(headers, seconds):
    assert timeout_of(headers) == (seconds if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("value", [b"", b"-1", b"1e9", b"soon", b"nan", b"inf", b"1 s", b"9" * 40])
@pytest.mark.parametrize(
    "header", [b"x-request-timeout", b"grpc-timeout", b"x-envoy-expected-rq-timeout-ms"]
)
def test_what_cannot_be_read_says_nothing(header, value):
    assert timeout_of({header: value}) is None
    assert timeout_of({header: value, b"grpc-timeout": b"1S"}) == 1.0
