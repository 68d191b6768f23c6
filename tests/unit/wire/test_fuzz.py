"""No input makes a reader of the wire raise anything but our errors, or take more than its share.

Seeded, so that a failure comes again; ``make fuzz`` runs it for minutes (MARTLET_FUZZ_SECONDS).
"""

from __future__ import annotations

import contextlib
import gzip
import os
import random
import time
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from martlet.errors import MartletError
from martlet.tensors import DType, Signature, Spec
from martlet.wire import compression
from martlet.wire.openinference import contents, request
from martlet.wire.tfserving import (
    config,
    examples,
    messages,
    predict,
    rapidjson,
    requests,
    responses,
    tensorproto,
)

MIXED = Signature.of(
    [
        Spec("x", DType.FLOAT32, (-1, 2)),
        Spec("id", DType.INT64, (-1,)),
        Spec("word", DType.STRING, (-1,)),
        Spec("yes", DType.BOOL, (-1,)),
    ],
    [Spec("y", DType.FLOAT32, (-1,))],
)
ONE = Signature.of([Spec("x", DType.FLOAT32, (-1, 2))], [Spec("y", DType.FLOAT32, (-1,))])


def tfs_predict(body: bytes) -> None:
    document = requests.parse_object(body)
    requests.signature_name_of(document)
    for signature in (ONE, MIXED):
        try:
            tensors, by_row = requests.PredictDecoder(signature, "s").decode(document)
        except MartletError:
            continue
        (responses.predictions if by_row else responses.outputs)(tensors)


def tfs_examples(body: bytes) -> None:
    examples.examples_of(requests.parse_object(body))


def oip_json(body: bytes) -> None:
    request.check(request.read(body, None, lambda _: ONE).inputs, ONE)


def oip_binary(body: bytes) -> None:
    # The first two bytes say where the JSON ends, so that the fuzzer can lie about it.
    request.read(body[2:], b"%d" % int.from_bytes(body[:2], "big"), lambda _: ONE)


def oip_grpc(body: bytes) -> None:
    contents.read(parsed(contents.ModelInferRequest, body))


def tfs_grpc(body: bytes) -> None:
    given = parsed(messages.PredictRequest, body)
    for signature in (ONE, MIXED):
        predict.inputs(given, signature)


def tfs_config(body: bytes) -> None:
    text = body.decode("utf-8", "replace")
    config.read_model_config(text)
    config.read_batching(text)


def unpack(body: bytes) -> None:
    for encoding in (b"gzip", b"deflate", b"gzip, deflate"):
        try:
            compression.inflate(body, encoding, 1 << 16)
        except MartletError:
            continue


def parsed(kind: Any, body: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return kind.FromString(body)
    except DecodeError:
        return kind()


def grpc_seed() -> bytes:
    made = contents.ModelInferRequest(model_name="m", raw_input_contents=[b"\0" * 8])
    made.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    return bytes(made.SerializeToString())


def typed_seed() -> bytes:
    made = contents.ModelInferRequest(model_name="m")
    one = made.inputs.add(name="x", datatype="BYTES", shape=[2])
    one.contents.bytes_contents.extend([b"a", b"b"])
    return bytes(made.SerializeToString())


def predict_seed() -> bytes:
    made = messages.PredictRequest()
    made.model_spec.name = "m"
    tensorproto.encode(np.ones((1, 2), np.float32), made.inputs["x"])
    return bytes(made.SerializeToString())


ROW = b'{"x": [1.5, -2e3], "id": 9007199254740993, "word": "\\u00e9\\n", "yes": true}'
JSON_SEEDS = [
    b'{"instances": [[1, 2.5], [3, NaN]]} tail',
    b'{"signature_name": "s", "instances": [' + ROW + b", " + ROW + b"]}",
    b'{"inputs": {"x": [[1, 2]], "id": [1], "word": [{"b64": "aGk="}], "yes": [false]}}',
    b'\xef\xbb\xbf{"inputs": [[[-Infinity]]], "deep": [[[[{"a": []}]]]]}',
    b'{"context": {"u": "a"}, "examples": [{"x": [1, 2]}, {"y": {"b64": "AA=="}}]}',
    b'{"id": "1", "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}],'
    b' "outputs": [{"name": "y", "parameters": {"binary_data": true}}]}',
]
BINARY_JSON = (
    b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}]}'
)
CONFIG = b'model_config_list { config { name: "m" base_path: "/m" model_platform: "tensorflow" } }'

READERS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "tfserving predict": (tfs_predict, JSON_SEEDS),
    "tfserving examples": (tfs_examples, JSON_SEEDS),
    "tfserving gRPC": (tfs_grpc, [predict_seed()]),
    "tfserving config": (tfs_config, [CONFIG, b"max_batch_size { value: 8 }"]),
    "openinference JSON": (oip_json, JSON_SEEDS),
    "openinference binary": (
        oip_binary,
        [len(BINARY_JSON).to_bytes(2, "big") + BINARY_JSON + b"\0" * 8],
    ),
    "openinference gRPC": (oip_grpc, [grpc_seed(), typed_seed()]),
    "compression": (unpack, [gzip.compress(b"a" * 99), zlib.compress(b"b" * 99)]),
}
TOKENS = [b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"0", b"-", b"1e400", b"NaN", b"null",
          b"\xff", b"\0", b'"x":', b"\\ud800", b"[" * 50, b"9" * 30, b'{"b64":"']  # fmt: skip


def mutated(seeds: list[bytes], chance: random.Random) -> bytes:
    body = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, 6)):
        at = chance.randint(0, len(body))
        match chance.randint(0, 5):
            case 0:
                body[at : at + chance.randint(1, 8)] = b""
            case 1:
                body[at:at] = chance.choice(TOKENS)
            case 2 if body:
                body[at % len(body)] = chance.randrange(256)
            case 3:
                other = chance.choice(seeds)
                start = chance.randint(0, len(other))
                body[at:at] = other[start : start + chance.randint(1, 40)]
            case 4:
                del body[at:]
            case _:
                part = bytes(body[at : at + chance.randint(1, 20)])
                body[at:at] = part * chance.randint(1, 20)
    return bytes(body)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_a_reader_raises_nothing_but_our_errors(name):
    read, seeds = READERS[name]
    chance = random.Random(name)
    seconds = float(os.environ.get("MARTLET_FUZZ_SECONDS", "60")) / len(READERS)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(100):
            body = mutated(seeds, chance)
            try:
                read(body)
            except MartletError:
                continue
            except Exception as exc:
                raise AssertionError(f"{body!r} makes {name} raise {exc!r}") from exc


def grown(size: int) -> dict[str, bytes]:
    """Bodies of about *size* bytes that are made to cost more than they should."""
    half = size // 2
    return {
        "opened": b'{"instances":' + b"[" * size,
        "nested": b'{"instances":' + b"[" * half + b"]" * half + b"}",
        "nested objects": b'{"instances":'
        + b'{"":' * (size // 5)
        + b"1"
        + b"}" * (size // 5)
        + b"}",
        "both in turn": b'{"a":' + b'[{"":' * (size // 7) + b"1" + b"}]" * (size // 7) + b"}",
        "many empty lists": b'{"instances":[' + b"[]," * (size // 3) + b"[]]} x",
        "many objects": b'{"instances":[' + b'{"x":1},' * (size // 8) + b'{"x":1}]} x',
        "one long string": b'{"instances":["' + b"a" * size + b'"]} x',
        "all escapes": b'{"instances":["' + b"\\n" * half + b'"]} x',
        "one long number": b'{"instances":[' + b"9" * size + b"]} x",
        "one long fraction": b'{"instances":[0.' + b"9" * size + b"]} x",
        "many NaN": b'{"instances":[' + b"NaN," * (size // 4) + b"NaN]}",
        "unclosed string": b'{"instances":["' + b"a" * size,
        "backslashes": b'{"instances":["' + b"\\" * size,
        "spaces": b'{"instances":' + b" " * size + b"[1]} x",
        "a key given often": b"{" + b'"instances":1,' * (size // 14) + b'"instances":[]}',
    }


@pytest.mark.parametrize("name", grown(10))
def test_memory_is_a_small_multiple_of_the_body(name):
    body = grown(200_000)[name]
    tracemalloc.start()
    try:
        for read in (tfs_predict, oip_json):
            with contextlib.suppress(MartletError):
                read(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 45 * len(body) + 200_000, f"{peak / len(body):.0f} times the body"


@pytest.mark.parametrize("name", grown(10))
def test_time_is_linear_in_the_body(name):
    def took(size: int) -> float:
        body = grown(size)[name]
        best = float("inf")
        for _ in range(2):
            began = time.process_time()
            for read in (tfs_predict, oip_json):
                with contextlib.suppress(MartletError):
                    read(body)
            best = min(best, time.process_time() - began)
        return best

    small, large = took(50_000), took(400_000)
    # Eight times the body may cost eight times the time; a square would cost sixty-four.
    assert large < 24 * small + 0.05


def test_the_tolerant_reader_takes_any_depth():
    deep = b'{"a": 1, "b": ' + b"[" * 500_000 + b"]" * 500_000 + b"}"
    assert rapidjson.parse(deep)["a"] == 1
