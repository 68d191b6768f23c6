"""Deadlines, callers that leave, versions that come, metrics: over sockets, by no client."""

from __future__ import annotations

import json
import select
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from . import models
from .running import WAIT_S, ask, serving


def steps(count: int) -> dict[str, Any]:
    return {"inputs": {"steps": [count]}}


SLOW = "/v1/models/slow:predict"
SUMS = "/v1/models/sums:predict"
ROW = {"instances": [[1.0, 2.0]]}


class TestDeadlines:
    def test_an_answer_past_the_limit_is_504_and_others_go_on(self, onnx_server):
        where = onnx_server.rest
        began = time.monotonic()
        status, answer = ask(where, "POST", SLOW, steps(12_000))
        assert (status, list(answer)) == (504, ["error"])
        assert time.monotonic() - began > 1.9
        assert ask(where, "POST", SUMS, ROW) == (200, {"predictions": [3.0]})

    def test_callers_that_leave_free_their_work(self, tmp_path):
        path = models.slow(tmp_path / "slow.onnx")
        with serving("--model", f"slow={path}") as server:
            ask(server.rest, "POST", SLOW, steps(150))
            before = server.cpu_s()
            ask(server.rest, "POST", SLOW, steps(1200))
            alone = (server.cpu_s() - before) / 8
            host, port = server.rest.split(":")
            body = json.dumps(steps(150)).encode()
            head = f"POST {SLOW} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            gone = [socket.create_connection((host, int(port))) for _ in range(60)]
            for each in gone:
                each.sendall(head.encode() + body)
            for each in gone:
                each.close()
            before = server.cpu_s()
            assert ask(server.rest, "POST", SLOW, steps(1))[0] == 200
            assert server.cpu_s() - before < 30 * alone, "most of the sixty were not begun"


def test_one_port_speaks_every_protocol_of_a_model(onnx_server):
    where = onnx_server.rest
    assert ask(where, "POST", SUMS, ROW) == (200, {"predictions": [3.0]})
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
    status, answer = ask(where, "POST", "/v2/models/sums/infer", {"inputs": [tensor]})
    assert (status, answer["outputs"][0]["data"]) == (200, [3.0])
    assert ask(where, "GET", "/v1/models/sums")[0] == 200
    assert ask(where, "GET", "/v2/health/ready") == (200, {"ready": True, "live": True})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v2/models/sums/infer", 405), ("GET", "/v2/nothing", 404), ("PUT", SUMS, 400)],
)
def test_what_no_protocol_has_is_refused_in_its_words(onnx_server, method, path, status):
    found, answer = ask(onnx_server.rest, method, path)
    assert (found, list(answer)) == (status, ["error"])


def test_metrics_tell_what_was_answered(onnx_server):
    ask(onnx_server.rest, "POST", SUMS, ROW)
    status, text = ask(onnx_server.rest, "GET", "/monitoring/prometheus/metrics")
    assert status == 200
    assert b':tensorflow:serving:request_count{model_name="sums",status="OK"}' in text


def until(seen: Any, wanted: Any, seconds: float = WAIT_S) -> None:
    end = time.monotonic() + seconds
    while (found := seen()) != wanted:
        assert time.monotonic() < end, found
        time.sleep(0.05)


class TestFolders:
    """A model kept as TensorFlow Serving keeps it; ONNX, for it needs no TensorFlow."""

    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        folder = tmp_path / "sums"
        (folder / "1").mkdir(parents=True)
        models.sums(folder / "1" / "model.onnx")
        return folder

    def states(self, where: str) -> Any:
        answer = ask(where, "GET", "/v1/models/sums")[1]
        return [(v["version"], v["state"]) for v in answer.get("model_version_status", [])]

    def test_a_version_put_in_place_takes_over(self, folder):
        flags = ("--model_name=sums", f"--model_base_path={folder}")
        with serving(*flags, workers=2) as server:
            assert self.states(server.rest) == [("1", "AVAILABLE")]
            shutil.copytree(folder / "1", folder / "tmp")
            (folder / "tmp").rename(folder / "2")
            until(lambda: self.states(server.rest), [("2", "AVAILABLE"), ("1", "END")])
            assert ask(server.rest, "POST", SUMS, ROW) == (200, {"predictions": [3.0]})

    def test_a_broken_version_leaves_the_old_one(self, folder):
        flags = ("--model_name=sums", f"--model_base_path={folder}")
        with serving(*flags) as server:
            (folder / "tmp").mkdir()
            (folder / "tmp/model.onnx").write_bytes(b"\x08\x08\x12\x03not a model")
            (folder / "tmp").rename(folder / "2")
            until(lambda: self.states(server.rest), [("2", "END"), ("1", "AVAILABLE")])
            answer = ask(server.rest, "GET", "/v1/models/sums/versions/2")[1]
            assert answer["model_version_status"][0]["status"]["error_message"]
            assert ask(server.rest, "POST", SUMS, ROW) == (200, {"predictions": [3.0]})


def test_every_worker_tells_what_all_have_answered(tmp_path):
    path = models.sums(tmp_path / "sums.onnx")
    with serving("--model", f"sums={path}", workers=3) as server:
        for _ in range(30):
            assert ask(server.rest, "POST", SUMS, ROW)[0] == 200

        def counted() -> set[bytes]:
            scrapes = [
                ask(server.rest, "GET", "/monitoring/prometheus/metrics")[1] for _ in range(10)
            ]
            lines = b"\n".join(scrapes).splitlines()
            return {each.split()[-1] for each in lines if b"request_count{" in each}

        until(counted, {b"30"})


def test_a_model_that_takes_for_ever_holds_up_no_other(tmp_path):
    paths = [models.slow(tmp_path / "slow.onnx"), models.sums(tmp_path / "sums.onnx")]
    flags = [f"--model={path.stem}={path}" for path in paths]
    with serving(*flags) as server:
        host, port = server.rest.split(":")
        body = json.dumps(steps(8000)).encode()
        head = f"POST {SLOW} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        held = [socket.create_connection((host, int(port))) for _ in range(12)]
        for each in held:
            each.sendall(head.encode() + body)
        # The other model's first call goes to a thread too, and to none of those.
        assert ask(server.rest, "POST", SUMS, ROW) == (200, {"predictions": [3.0]})
        assert ask(server.rest, "GET", "/v2/health/live")[0] == 200
        answered, _, _ = select.select(held, [], [], 0)
        assert len(answered) < len(held)
        for each in held:
            each.close()
