"""A model that hangs or crashes stalls nobody else, by whichever door its calls come."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from drive import (
    LIMIT_S,
    Client,
    Server,
    Stalls,
    comes,
    folder,
    from_folder,
    serving,
    two_models,
)
from faulty import CRASH, HANG, HOLD_GIL, LOOP, RAISE

grpc = pytest.importorskip("grpc")

from martlet.wire.openinference.contents import ModelInferRequest, ModelInferResponse  # noqa: E402
from martlet.wire.protos import message  # noqa: E402
from martlet.wire.tfserving import messages  # noqa: E402

DEADLINE_S = 0.3
MANY = 24
"""Calls at once: more than a worker has gRPC threads."""


def of_open_inference(model: str, x: float) -> tuple[str, bytes, Callable[[bytes], float]]:
    asked = ModelInferRequest(model_name=model)
    asked.inputs.add(name="x", datatype="FP32", shape=[1]).contents.fp32_contents.append(x)

    def score(raw: bytes) -> float:
        return float(ModelInferResponse.FromString(raw).outputs[0].contents.fp32_contents[0])

    return "/inference.GRPCInferenceService/ModelInfer", asked.SerializeToString(), score


def of_tfserving(model: str, x: float) -> tuple[str, bytes, Callable[[bytes], float]]:
    asked = messages.PredictRequest()
    asked.model_spec.name = model
    given = asked.inputs["x"]
    given.dtype = 1
    given.tensor_shape.dim.add(size=1)
    given.float_val.append(x)

    def score(raw: bytes) -> float:
        return float(messages.PredictResponse.FromString(raw).outputs["score"].float_val[0])

    return "/tensorflow.serving.PredictionService/Predict", asked.SerializeToString(), score


DOORS = pytest.mark.parametrize(
    "door", [of_open_inference, of_tfserving], ids=["Open Inference", "TensorFlow Serving"]
)


async def call(channel: Any, door: Any, model: str, x: float, timeout: float = 20.0) -> Any:
    """Return the score, or the code of the error."""
    path, raw, score = door(model, x)
    try:
        return score(await channel.unary_unary(path)(raw, timeout=timeout))
    except grpc.aio.AioRpcError as exc:
        return exc.code()


async def others(server: Server, channel: Any, door: Any, seconds: float) -> list[float]:
    """Ask the good model and the probes of each door, and check them; return how long each took."""
    took, client, end = [], Client(server.port), time.monotonic() + seconds
    while time.monotonic() < end:
        for ask in (
            call(channel, door, "m", 5.0),
            channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"", timeout=20),
            channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=20),
            client.ask("GET", "/healthz"),
        ):
            started = time.monotonic()
            found = await ask
            took.append(time.monotonic() - started)
            assert found in (1005.0, b"\x08\x01") or found[0] == 200
        await asyncio.sleep(0.01)
    return took


@DOORS
@pytest.mark.parametrize(
    "how", [LOOP, HOLD_GIL, CRASH], ids=["loops", "holds the interpreter", "crashes"]
)
def test_a_model_that_misbehaves_apart_stalls_no_grpc_call(
    tmp_path, log, times, figures, door, how
):
    seconds, stalls = times(2, 4), Stalls()

    async def run(server: Server) -> tuple[list[float], list[Any], list[Any]]:
        async with grpc.aio.insecure_channel(server.grpc) as channel, stalls:
            alone = await others(server, channel, door, seconds)
            bad = [asyncio.create_task(call(channel, door, "bad", how)) for _ in range(MANY)]
            beside = await others(server, channel, door, seconds)
            codes = await asyncio.gather(*bad)
            end = time.monotonic() + LIMIT_S
            while (found := await call(channel, door, "bad", 7.0)) != 1007.0:
                assert time.monotonic() < end, found
                await asyncio.sleep(0.1)
        return alone, beside, codes

    settings = f'isolation = "process"\ndeadline_ms = {DEADLINE_S * 1000}'
    with serving(*two_models(tmp_path, settings), log=log) as server:
        alone, beside, codes = asyncio.run(run(server))
    figures(
        longest_alone_ms=1000 * max(alone),
        longest_beside_ms=1000 * max(beside),
        longest_stall_of_the_machine_ms=1000 * stalls.longest_s,
        bad_calls=len(codes),
    )
    assert set(codes) <= {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE}
    assert max(beside) < 1.0 + stalls.slack_s


@DOORS
@pytest.mark.parametrize("settings", ['isolation = "thread"', ""], ids=["in threads", "inline"])
def test_calls_that_hang_in_the_worker_stall_no_grpc_call(
    tmp_path, log, times, figures, door, settings
):
    stalls = Stalls()

    async def run(server: Server) -> list[float]:
        async with grpc.aio.insecure_channel(server.grpc) as channel, stalls:
            # Until it is known to be quick: a hang comes as a surprise.
            for _ in range(5):
                assert await call(channel, door, "bad", 7.0) == 1007.0
            bad = [asyncio.create_task(call(channel, door, "bad", HANG, 3.0)) for _ in range(MANY)]
            took = await others(server, channel, door, times(2, 10))
            assert set(await asyncio.gather(*bad)) <= {
                grpc.StatusCode.DEADLINE_EXCEEDED,
                grpc.StatusCode.CANCELLED,
            }
        return took

    with serving(*two_models(tmp_path, settings), log=log) as server:
        took = asyncio.run(run(server))
    figures(longest_beside_ms=1000 * max(took))
    assert max(took) < 1.0 + stalls.slack_s


def test_streams_that_say_nothing_hold_up_no_call(tmp_path, log):
    async def run(server: Server) -> None:
        async with grpc.aio.insecure_channel(server.grpc) as channel:
            path = "/inference.GRPCInferenceService/ModelStreamInfer"
            streams = [channel.stream_stream(path)() for _ in range(MANY)]
            _, raw, _ = of_open_inference("m", 5.0)
            for each in streams:
                await each.write(raw)
                assert b"score" in await each.read()
            await others(server, channel, of_open_inference, 0.5)
            for each in streams:
                await each.done_writing()

    with serving(*two_models(tmp_path, ""), log=log) as server:
        asyncio.run(run(server))


def test_a_stream_ends_at_bytes_that_are_no_message(tmp_path, log):
    async def run(server: Server) -> None:
        async with grpc.aio.insecure_channel(server.grpc) as channel:
            path = "/inference.GRPCInferenceService/ModelStreamInfer"
            stream = channel.stream_stream(path)()
            await stream.write(b"\xff\xff\xff")
            assert await stream.code() is grpc.StatusCode.INVALID_ARGUMENT

    with serving(*two_models(tmp_path, ""), log=log) as server:
        asyncio.run(run(server))


CLIENTS = 12
WAITED_FOR_S = 0.05
"""How long a port that closes waits for a client's next call."""


async def ask_to_the_end(server: Server, door: Any) -> tuple[int, str]:
    """Ask without a pause until nobody answers; return how often one did, and what went wrong."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    path, raw, score = door("m", 5.0)
    count = 0
    async with grpc.aio.insecure_channel(server.grpc, options) as channel:
        while True:
            try:
                assert score(await channel.unary_unary(path)(raw, timeout=60)) == 1005.0
                count += 1
            except grpc.aio.AioRpcError as exc:
                away = exc.code() is grpc.StatusCode.UNAVAILABLE and "connect" in exc.details()
                return count, "" if away else repr(exc)


async def stopped_under_load(
    server: Server, door: Any, stall_s: float
) -> tuple[int, list[str], list[str]]:
    """
    Stop a server that is asked; one of its workers stalls for *stall_s* meanwhile.

    Return how many were answered, the calls that were lost, and those that came too late: the
    machine held their clients up for longer than the port waits for them.
    """
    asking = [asyncio.create_task(ask_to_the_end(server, door)) for _ in range(CLIENTS)]
    await asyncio.sleep(1.0)
    worker = random.choice(server.children())
    async with Stalls() as stalls:
        server.signal(signal.SIGTERM)
        if stall_s:
            await asyncio.sleep(random.random() * WAITED_FOR_S)
            os.kill(worker, signal.SIGSTOP)
            await asyncio.sleep(stall_s)
            os.kill(worker, signal.SIGCONT)
        found = await asyncio.gather(*asking)
    missed = [how for _, how in found if how]
    answered = sum(count for count, _ in found)
    return (answered, missed, []) if stalls.longest_s < WAITED_FOR_S else (answered, [], missed)


@pytest.mark.parametrize(
    ("door", "stall_s"),
    [(of_open_inference, 0.0), (of_tfserving, 0.0), (of_tfserving, 0.08)],
    ids=["Open Inference", "TensorFlow Serving", "a worker stalls meanwhile"],
)
def test_sigterm_under_grpc_load_loses_no_call(tmp_path, log, times, figures, door, stall_s):
    """Whoever asks is answered, or finds nobody."""
    stops, answered, lost, late = times(1, 10), 0, [], []
    versions = folder(tmp_path)
    for _ in range(stops):
        with serving(*from_folder(versions), log=log) as server:
            found = asyncio.run(stopped_under_load(server, door, stall_s))
            assert server.wait(LIMIT_S) == 0, log.read_text()
        answered += found[0]
        lost += found[1]
        late += found[2]
    figures(stops=stops, answers=answered, lost=len(lost), too_late=len(late))
    assert not lost


# -- deadlines -----------------------------------------------------------------------------------


def begun(file: Path) -> list[str]:
    return file.read_text().splitlines()


@DOORS
@pytest.mark.parametrize("isolation", ["inline", "thread", "process"])
def test_grpc_calls_whose_deadline_passed_as_they_waited_are_not_begun(
    tmp_path, log, door, isolation
):
    file = tmp_path / "begun"
    file.touch()
    settings = f'isolation = "{isolation}"\nthreads = 1'

    async def run(server: Server) -> None:
        async with grpc.aio.insecure_channel(server.grpc) as channel:
            asked = (call(channel, door, "bad", 9.0, timeout=1.2) for _ in range(10))
            found = await asyncio.gather(*asked)
            assert found.count(1009.0) <= 2
            assert set(found) <= {1009.0, grpc.StatusCode.DEADLINE_EXCEEDED}
            # What follows is answered when its turn comes: it waits for nobody who has left.
            assert await call(channel, door, "bad", 8.0) == 1008.0

    arguments = two_models(tmp_path, settings, wait_ms=500, begun=str(file))
    with serving(*arguments, log=log) as server:
        asyncio.run(run(server))
    assert begun(file).count("[9.0]") <= 3


@pytest.mark.parametrize(
    "header",
    ["X-Request-Timeout: 1.2", "Grpc-Timeout: 1200m", "X-Envoy-Expected-Rq-Timeout-Ms: 1200"],
)
def test_rest_requests_whose_deadline_passed_as_they_waited_are_not_begun(tmp_path, log, header):
    file = tmp_path / "begun"
    file.touch()
    body, stalls = json.dumps({"instances": [9.0]}).encode(), Stalls()

    async def ask(server: Server) -> tuple[int, float]:
        started = time.monotonic()
        status, _, _ = await Client(server.port).ask(
            "POST", "/v1/models/bad:predict", body, header + "\r\n"
        )
        return status, time.monotonic() - started

    async def run(server: Server) -> None:
        async with stalls:
            found = await asyncio.gather(*(ask(server) for _ in range(10)))
        statuses, took = zip(*found, strict=True)
        assert 504 in statuses
        assert set(statuses) <= {200, 504}
        assert statuses.count(200) <= 2
        # Each is told when its time has passed, not when its turn would have come: after five.
        assert max(took) < 3 + stalls.slack_s

    arguments = two_models(
        tmp_path, 'isolation = "thread"\nthreads = 1', wait_ms=500, begun=str(file)
    )
    with serving(*arguments, log=log) as server:
        asyncio.run(run(server))
    assert begun(file).count("[9.0]") <= 3


# -- overload ------------------------------------------------------------------------------------

RETRIES = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.01s",
                "maxBackoff": "0.01s",
                "backoffMultiplier": 1,
                "retryableStatusCodes": ["RESOURCE_EXHAUSTED"],
            },
        }
    ]
}


@DOORS
def test_a_grpc_call_that_is_turned_away_says_when_to_come_again(tmp_path, log, door):
    """And one whose channel retries is answered: it comes when it was told to."""
    begun_at = tmp_path / "begun"
    settings = 'isolation = "thread"\nthreads = 1\nmax_queue = 0'

    async def run(server: Server) -> None:
        path, raw, score = door("bad", 5.0)
        retrying = [("grpc.service_config", json.dumps(RETRIES))]
        async with (
            grpc.aio.insecure_channel(server.grpc) as channel,
            grpc.aio.insecure_channel(server.grpc, retrying) as patient,
        ):
            working = asyncio.create_task(call(channel, door, "bad", 9.0))
            await comes(begun_at.exists, "a call that is under way")
            refused = channel.unary_unary(path)(raw, timeout=60)
            again = patient.unary_unary(path)(raw, timeout=60)
            assert await refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            told = dict(await refused.trailing_metadata())
            assert told["grpc-retry-pushback-ms"] == "1000"
            assert told["x-request-id"]
            status = message("google.rpc.Status").FromString(told["grpc-status-details-bin"])
            assert (status.code, status.message) == (8, await refused.details())
            info = message("google.rpc.RetryInfo")()
            assert status.details[0].Unpack(info)
            assert info.retry_delay.seconds == 1
            assert score(await again) == 1005.0
            assert await working == 1009.0

    arguments = two_models(tmp_path, settings, wait_ms=2500, begun=str(begun_at))
    with serving(*arguments, log=log) as server:
        asyncio.run(run(server))


# -- whose request ------------------------------------------------------------------------------

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@DOORS
def test_a_grpc_call_has_an_id_in_its_trailers_and_in_the_log(tmp_path, log, door):
    async def run(server: Server) -> None:
        async with grpc.aio.insecure_channel(server.grpc) as channel:
            path, raw, _ = door("m", 1.0)

            async def id_of(*metadata: tuple[str, str]) -> str:
                asked = channel.unary_unary(path)(raw, metadata=metadata, timeout=20)
                return str(dict(await asked.trailing_metadata())["x-request-id"])

            assert await id_of(("x-request-id", "abc-1")) == "abc-1"
            assert await id_of(("traceparent", f"00-{TRACE}-{'1' * 16}-01")) == TRACE
            assert await id_of() != await id_of()
            path, raw, _ = door("bad", RAISE)
            failing = channel.unary_unary(path)(
                raw, metadata=(("x-request-id", "abc-2"),), timeout=20
            )
            assert await failing.code() is grpc.StatusCode.INTERNAL
            assert dict(await failing.trailing_metadata())["x-request-id"] == "abc-2"

    with serving(*two_models(tmp_path, 'isolation = "process"'), log=log) as server:
        asyncio.run(run(server))
    line = next(each for each in log.read_text().splitlines() if "abc-2" in each)
    assert "this model raises when asked to [request abc-2]" in line
