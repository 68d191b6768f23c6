"""Warm-up records: a TFRecord file of ``PredictionLog`` beside a SavedModel.

Source: tensorflow_serving/servables/tensorflow/saved_model_warmup_util.cc and
tensorflow/core/lib/io/record_reader.cc.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import DecodeError

from martlet.errors import UnsupportedModel
from martlet.wire.tfserving import messages

FILE = "assets.extra/tf_serving_warmup_requests"
"""Where the records are, under a version's folder."""

MOST_RECORDS = 1000

_HEADER, _FOOTER = 12, 4
_CHECKED_BYTES = 1 << 16
_POLYNOMIAL = 0x82F63B78


def read(raw: bytes) -> list[Any]:
    """
    Return the PredictionLogs of *raw*, a TFRecord file.

    Raises:
        UnsupportedModel: it is no TFRecord file, or has more than MOST_RECORDS.
    """
    found: list[Any] = []
    for record in _records(raw):
        if len(found) == MOST_RECORDS:
            raise UnsupportedModel(f"Number of warmup records exceeds the maximum ({MOST_RECORDS})")
        try:
            found.append(messages.PredictionLog.FromString(record))
        except DecodeError as exc:
            raise UnsupportedModel(
                f"Failed to parse warmup record {len(found)}, no PredictionLog: {exc}"
            ) from None
    return found


def _records(raw: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(raw):
        start = at + _HEADER
        size = int.from_bytes(raw[at : at + 8], "little")
        end = start + size
        if end + _FOOTER > len(raw) or not _matches(raw[at : at + 8], raw[at + 8 : start]):
            raise UnsupportedModel(
                f"data loss: the warm-up file is no TFRecord, or is cut, at byte {at}"
            )
        record = raw[start:end]
        # The sum is Python's work, byte by byte: of a long record the length's own must do.
        if size <= _CHECKED_BYTES and not _matches(record, raw[end : end + _FOOTER]):
            raise UnsupportedModel(f"data loss: the warm-up record at byte {at} is corrupt")
        yield record
        at = end + _FOOTER


def _matches(data: bytes, masked: bytes) -> bool:
    return _masked_crc(data).to_bytes(4, "little") == masked


def _masked_crc(data: bytes) -> int:
    """Return TFRecord's checksum: CRC-32C, rotated and offset."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _entry(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_TABLE = [_entry(each) for each in range(256)]
