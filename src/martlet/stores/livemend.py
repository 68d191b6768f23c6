"""Looks a live file over after the machine stopped: the disk may hold some pages and not others."""

from __future__ import annotations

import logging

import numpy as np

from martlet.stores.livefile import BASE_ROW, IN_USE, TEXT_END, LiveFile, owner_crc
from martlet.stores.slots import ABSENT, payload_crc

log = logging.getLogger(__name__)


def mend(file: LiveFile, *, text: bool) -> int:
    """
    Take back every row whose newest vector did not reach the disk whole; return how many.

    A row goes back to the vector before, where that is whole, else to the base. The caller holds
    the file's lock. What a process that was killed left behind needs no mending: no word selects
    it, and the pages outlive the process.
    """
    slots, rows = file.slots, file.shape.rows
    in_use, lost = file.in_use, 0
    texts_end = 0
    for number in range(1, in_use + 1):
        record = slots.records[number]
        key = file.text(int(record["owner"]), int(record["length"])) if text else b""
        kind, owner = int(record["kind"]), int(record["owner"])
        named = b"" if kind == BASE_ROW else key
        if int(record["crc"]) != owner_crc(kind, owner, named):
            # Nobody knows whose it was: it becomes the record of a row that is not there.
            slots.records["kind"][number], slots.records["owner"][number] = BASE_ROW, -1
            slots.words[number] = 0
            lost += 1
            continue
        if kind != BASE_ROW and text:
            texts_end = max(texts_end, owner + int(record["length"]))
        lost += _newest_whole(file, number)
    # A pointer may be older or newer than the records.
    numbers = slots.pointers.astype(np.int64)
    pointing = np.flatnonzero(numbers)
    inside = numbers[pointing] <= in_use
    owners = slots.records["owner"][np.where(inside, numbers[pointing], 0)]
    wrong = pointing[~inside | (owners != pointing)]
    slots.pointers[wrong] = 0
    of_base = slots.records["kind"][: in_use + 1] == BASE_ROW
    for number in np.flatnonzero(of_base)[1:].tolist():
        row = int(slots.records["owner"][number])
        if 0 <= row < rows and not slots.pointers[row]:
            slots.point(row, number)
    slots.store(IN_USE, in_use)
    slots.store(TEXT_END, max(texts_end, slots.load(TEXT_END)))
    file.mapping.flush()
    file.note_whole()
    if lost:
        log.warning("%s: %d rows did not reach the disk and were taken back", file.path, lost)
    return lost


def _newest_whole(file: LiveFile, number: int) -> int:
    """Let the record select a whole payload; return 1 if the newest was not."""
    slots = file.slots
    word = int(slots.words[number])
    payloads = slots.records["payloads"]
    if word == 0 or _is_whole(payloads[number, word & 1]):
        return 0
    before = word - 1
    if before and _is_whole(payloads[number, before & 1]):
        slots.words[number] = before
    else:
        payload = payloads[number, word & 1]
        payload["flag"], payload["crc"] = ABSENT, 0
        slots.words[number] = 0
    return 1


def _is_whole(payload: object) -> bool:
    crc: int = payload["crc"]  # type: ignore[index]  # a record of numpy's
    return int(crc) == payload_crc(payload)
