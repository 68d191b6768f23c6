"""martlet.client, over both protocols, called and awaited."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from martlet.client import connect, connect_async
from martlet.errors import DeadlineExceeded, InvalidInput, ModelNotFound, NotAvailable


@pytest.fixture(params=["http", "grpc"])
def address(request, onnx_server):
    where = onnx_server.rest if request.param == "http" else onnx_server.grpc
    return f"{request.param}://{where}"


def test_arrays_go_in_and_come_out(address):
    with connect(address) as client:
        assert client.ready()
        found = client.predict("sums", {"x": np.array([[1, 2], [3, 4]], np.float32)})
        assert found.outputs["sum"].tolist() == [3.0, 7.0]
        assert found.version == 1
        assert client.predict("sums@1", {"x": np.ones((1, 2), np.float32)}).version == 1


def test_text_goes_in_and_bytes_come_out(address):
    ids = np.array([2**63 - 1, -1])
    with connect(address) as client:
        found = client.predict("words", {"word": ["é", "b"], "id": ids}).outputs
    assert found["word_out"].tolist() == ["é".encode(), b"b"]
    assert found["id_out"].tolist() == ids.tolist()


def test_it_raises_what_the_server_raised(address):
    with connect(address) as client:
        with pytest.raises(InvalidInput, match="'x'"):
            client.predict("sums", {"x": np.ones((1, 3), np.float32)})
        with pytest.raises(ModelNotFound, match="available"):
            client.predict("nobody", {"x": np.ones((1, 2), np.float32)})
        assert client.ready()


def test_a_signature_is_asked_by_name(address):
    rows = {"x": np.array([[1, 2], [3, 4]], np.float32)}
    with connect(address) as client:
        found = client.predict("sums", rows, signature_name="serving_default")
        assert found.outputs["sum"].tolist() == [3.0, 7.0]
        with pytest.raises(InvalidInput, match="no signature is named 'leaf'"):
            client.predict("sums", rows, signature_name="leaf")


def test_its_timeout_passes_and_the_next_call_is_answered(address):
    with connect(address) as client:
        with pytest.raises(DeadlineExceeded):
            client.predict("slow", {"steps": np.array([3000])}, timeout_s=0.2)
        # The server may be busy with it still; the client's next connection is its own.
        assert client.predict("sums", {"x": np.ones((1, 2), np.float32)}).version == 1


def test_threads_share_one(address):
    def ask(value: int) -> float:
        x = np.full((1, 2), value, np.float32)
        return float(client.predict("sums", {"x": x}).outputs["sum"][0])

    with connect(address) as client, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(100))) == [2.0 * value for value in range(100)]


def test_asyncio(address):
    async def ask() -> list[float]:
        async with connect_async(address) as client:
            assert await client.ready()
            asked = [
                client.predict("sums", {"x": np.full((1, 2), value, np.float32)})
                for value in range(50)
            ]
            found = [float(each.outputs["sum"][0]) for each in await asyncio.gather(*asked)]
            with pytest.raises(InvalidInput):
                await client.predict("sums", {"x": [[1.5]]})
            with pytest.raises(DeadlineExceeded):
                await client.predict("slow", {"steps": [3000]}, timeout_s=0.2)
        return found

    assert asyncio.run(ask()) == [2.0 * value for value in range(50)]


def test_nobody_there_is_not_available():
    for scheme in ("http", "grpc"):
        with connect(f"{scheme}://127.0.0.1:9") as client:
            assert not client.ready()
            with pytest.raises(NotAvailable):
                client.predict("sums", {"x": [1.0]}, timeout_s=5)


@pytest.mark.parametrize(
    "address", ["localhost:8501", "https://h:1", "http://", "http://h", "http://h:1/x"]
)
def test_an_address_says_its_protocol(address):
    with pytest.raises(InvalidInput, match="http://host:port"):
        connect(address)
