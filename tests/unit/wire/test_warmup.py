"""Warm-up records are read as TensorFlow writes them, and a version must answer them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from martlet.errors import UnsupportedModel
from martlet.servable import DEFAULT_SIGNATURE
from martlet.servers.warmup import warm_up
from martlet.tensors import DType, Signature, Spec
from martlet.wire.tfserving import messages, tensorproto, warmup


def record(**how: Any) -> bytes:
    made = messages.PredictionLog()
    request = made.predict_log.request
    request.model_spec.name = "another name"
    tensorproto.encode(np.ones(how.get("shape", (1, 2)), np.float32), request.inputs["x"])
    return framed(made.SerializeToString())


def framed(data: bytes) -> bytes:
    size = len(data).to_bytes(8, "little")
    return (
        size
        + warmup._masked_crc(size).to_bytes(4, "little")
        + data
        + (warmup._masked_crc(data).to_bytes(4, "little"))
    )


class Model:
    """Counts its calls."""

    def __init__(self) -> None:
        x = Spec("x", DType.FLOAT32, (-1, 2))
        self.signatures = {DEFAULT_SIGNATURE: Signature.of([x], [x])}
        self.calls = 0

    def predict(self, inputs: Any, signature_name: str = DEFAULT_SIGNATURE) -> Any:
        self.calls += 1
        return dict(inputs)

    def close(self) -> None:
        pass


def test_each_record_is_asked_as_often_as_wished(tmp_path):
    file = tmp_path / warmup.FILE
    file.parent.mkdir()
    file.write_bytes(record() + record() + framed(b""))
    model = Model()
    assert warm_up(model, tmp_path, times=3) == 3
    assert model.calls == 6


def test_no_file_is_no_work(tmp_path):
    assert warm_up(Model(), tmp_path) == 0


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"not a record at all", "no TFRecord"),
        (record()[:-1], "no TFRecord"),
        (record()[:-1] + b"\0", "corrupt"),
        (framed(b"\xff"), "no PredictionLog"),
        (framed(b"") * 1001, "exceeds the maximum"),
        (record(shape=(1, 3)), "record 0"),
    ],
)
def test_a_broken_or_refused_record_fails_the_load(tmp_path, raw, text):
    file = tmp_path / warmup.FILE
    file.parent.mkdir()
    file.write_bytes(raw)
    with pytest.raises(UnsupportedModel, match=text):
        warm_up(Model(), tmp_path)


def test_the_checksum_is_crc32c():
    # The check value of CRC-32C (RFC 3720, B.4): 32 bytes of zeros give 0x8a9136aa.
    rotated = (0x8A9136AA >> 15 | 0x8A9136AA << 17) + 0xA282EAD8
    assert warmup._masked_crc(b"\0" * 32) == rotated & 0xFFFFFFFF


@pytest.mark.slow
def test_tensorflows_own_writer_is_read(tmp_path):
    tf = pytest.importorskip("tensorflow")
    path = tmp_path / "records"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for each in (b"a", b"bc"):
            writer.write(each)
    assert list(warmup._records(path.read_bytes())) == [b"a", b"bc"]
