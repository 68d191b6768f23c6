"""Damaged requests by both ways: what the shortcut answers, the long way answers the same."""

from __future__ import annotations

import json
import os
import random
import time

import pytest
from both_ways import (
    INFER,
    PATH,
    RANK,
    Half,
    Server,
    X,
    raw,
    request,
    without_id,
)

from martlet.native import find

pytestmark = [
    pytest.mark.usefixtures("patience"),
    pytest.mark.skipif(find("shortcut") is None, reason="the compiled part is not built"),
]


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
