r"""The file beside a table that holds the rows which were set since the table was written.

::

    0     magic "MARTLIVE"                         8 bytes
    8     format version                           uint32, little-endian like all that follows
    12    bytes of one stored vector               uint32
    16    identity of the base table               32 bytes: a live file of another is refused
    48    rows of the base, room for new keys, room for their text, length of the file: 4 x uint64
    80    sha256 of the 80 bytes before            32 bytes
    128   words, uint64: records in use, bytes of text in use, updates ever, time of the last (ns),
          the version that these rows were folded into (0: none yet)
    192   boot id of the machine when it was last known whole   16 bytes
    256   cursor: uint32 word, and at 264 and 376 two texts of 104 bytes, as in stores/slots.py
    4096  pointers: of each base row the number of its record, 0 for none: uint32
    ...   records: see below, each at a multiple of 64 bytes; number 0 is never used
    ...   UTF-8 of new keys, where keys are strings

A record is: word uint32, kind uint32 (0 a base row, 1 a new key), owner int64 (the row; the key;
where its text begins), length of the text uint32, CRC-32 of these three and the text uint32, and
two payloads: flag uint32 (1: a vector), scale float32, CRC-32 uint32, the vector as stored.

The file is sparse: it is as long as it can ever be, and takes on disk what was written.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from martlet.errors import NotAvailable, UnsupportedModel
from martlet.stores.slots import RECORD_HEAD, Layout, Slots, payload_bytes

MAGIC: Final = b"MARTLIVE"
VERSION: Final = 1
SUFFIX: Final = ".live"

IN_USE, TEXT_END, UPDATES, UPDATED_NS, FOLDED = range(128, 168, 8)
"""Offsets of the words."""

BASE_ROW, NEW_KEY = 0, 1
"""What a record is of."""

_HEAD = struct.Struct("<8sII32sQQQQ")
_BOOT_AT = 192
_CURSOR_AT, _CURSOR_TEXTS, _CURSOR_BYTES = 256, (264, 376), 104
_PAGE = 4096
_TEXT_OF_A_KEY = 64
_NEW_KEYS = 1 << 16


@dataclass(frozen=True, slots=True)
class Shape:
    """
    What a live file is made for.

    Args:
        identity: Of the base table: the sha256 of its header. 32 bytes.
        rows: Of the base.
        row_bytes: Of one vector as it is stored.
        room: For so many keys that the base does not have.
        text_room: For so many bytes of them, where keys are strings.
    """

    identity: bytes
    rows: int
    row_bytes: int
    room: int
    text_room: int

    @classmethod
    def of(cls, identity: bytes, rows: int, row_bytes: int, *, text: bool) -> Shape:
        """Return the shape for a table: room for as many new keys again, 65,536 at least."""
        room = max(_NEW_KEYS, rows)
        return cls(identity, rows, row_bytes, room, room * _TEXT_OF_A_KEY if text else 0)

    @property
    def layout(self) -> Layout:
        """Where things lie."""
        payload = payload_bytes(self.row_bytes)
        stride = _aligned(RECORD_HEAD + 2 * payload, 64)
        records = _aligned(_PAGE + 4 * self.rows, _PAGE)
        return Layout(self.rows, _PAGE, records, self.rows + self.room + 1, stride, payload)

    @property
    def text_at(self) -> int:
        """Where the texts of new keys begin."""
        layout = self.layout
        return _aligned(layout.records + layout.capacity * layout.stride, _PAGE)

    @property
    def size(self) -> int:
        """Of the whole file."""
        return self.text_at + self.text_room

    @property
    def header(self) -> bytes:
        """The first 112 bytes of the file."""
        head = _HEAD.pack(
            MAGIC, VERSION, self.row_bytes, self.identity,
            self.rows, self.room, self.text_room, self.size,
        )  # fmt: skip
        return head + hashlib.sha256(head).digest()


class LiveFile:
    """
    An open live file.

    Args:
        path: As ``create`` wrote it.
        identity: Of the base table.
        writable: Whether its slots may be written; then who writes holds ``locked``.

    Raises:
        UnsupportedModel: it is damaged, or belongs to another table.
        NotAvailable: it cannot be opened.
    """

    def __init__(self, path: Path, identity: bytes, *, writable: bool = False) -> None:
        self.path = path
        try:
            self.descriptor = os.open(path, os.O_RDWR if writable else os.O_RDONLY)
        except OSError as exc:
            raise NotAvailable(f"the live rows {path} cannot be opened: {exc.strerror}") from exc
        try:
            about = os.fstat(self.descriptor)
            self.inode = (about.st_dev, about.st_ino)
            self.shape = _shape(path, os.pread(self.descriptor, 112, 0), about.st_size, identity)
            access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
            self.mapping = mmap.mmap(self.descriptor, self.shape.size, access=access)
        except BaseException:
            os.close(self.descriptor)
            raise
        self.slots = Slots(self.mapping, self.shape.layout, self.shape.row_bytes)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self.descriptor)

    @property
    def in_use(self) -> int:
        """The highest number of a record in use."""
        return min(self.slots.load(IN_USE), self.shape.layout.capacity - 1)

    @property
    def whole(self) -> bool:
        """Whether nothing but processes has died since it was last looked over."""
        return self.mapping[_BOOT_AT : _BOOT_AT + 16] == boot_id()

    @property
    def cursor(self) -> str:
        """How far a stream has been followed into this file: its own word for it; "" at first."""
        while True:
            word = self.slots.load(_CURSOR_AT, 4)
            at = _CURSOR_TEXTS[word & 1]
            text = self.mapping[at : at + _CURSOR_BYTES]
            if self.slots.load(_CURSOR_AT, 4) == word:
                return text.rstrip(b"\0").decode("ascii", "replace")

    def text(self, start: int, length: int) -> bytes:
        """Return the UTF-8 of a new key."""
        at = self.shape.text_at + start
        return self.mapping[at : at + length] if start + length <= self.shape.text_room else b""

    # -- the lock is held ------------------------------------------------------------------

    def move_cursor(self, text: str) -> None:
        """Note how far a stream has been followed, in at most 104 ASCII characters."""
        word = self.slots.load(_CURSOR_AT, 4) + 1
        at = _CURSOR_TEXTS[word & 1]
        self.mapping[at : at + _CURSOR_BYTES] = text.encode("ascii").ljust(_CURSOR_BYTES, b"\0")
        self.slots.store(_CURSOR_AT, word & 0xFFFFFFFF, 4)

    def reserve(self, start: int, length: int) -> None:
        """
        Take disk for these bytes, so that writing them cannot fail.

        Raises:
            NotAvailable: the disk is full.
        """
        try:
            os.posix_fallocate(self.descriptor, start, length)
        except OSError as exc:
            raise NotAvailable(
                f"{self.path} cannot grow: {exc.strerror}; its rows are as they were"
            ) from exc

    def note_whole(self) -> None:
        """Note that every record is whole as of this boot of the machine."""
        self.mapping[_BOOT_AT : _BOOT_AT + 16] = boot_id()


def live_path(table: Path) -> Path:
    """Return where the live rows of *table* lie: beside it."""
    return table.with_name(table.name + SUFFIX)


def create(path: Path, shape: Shape) -> None:
    """
    Make an empty live file at *path*, unless another process just did.

    Raises:
        NotAvailable: it cannot be made there.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(shape.header)
            file.seek(_BOOT_AT)
            file.write(boot_id())
            file.truncate(shape.size)
            file.flush()
            os.posix_fallocate(file.fileno(), 0, _PAGE)
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    except OSError as exc:
        raise NotAvailable(f"live rows cannot be kept at {path}: {exc.strerror}") from exc
    finally:
        temporary.unlink(missing_ok=True)


def boot_id() -> bytes:
    """Return 16 bytes that change when the machine is started again; zeros where none are told."""
    try:
        return UUID(Path("/proc/sys/kernel/random/boot_id").read_text().strip()).bytes
    except (OSError, ValueError):
        return bytes(16)


def owner_crc(kind: int, owner: int, text: bytes) -> int:
    """Return the CRC-32 of whose a record is."""
    head = kind.to_bytes(4, "little") + owner.to_bytes(8, "little", signed=True)
    return zlib.crc32(text, zlib.crc32(head + len(text).to_bytes(4, "little")))


def _shape(path: Path, head: bytes, size: int, identity: bytes) -> Shape:
    if len(head) < 112 or not head.startswith(MAGIC):
        raise UnsupportedModel(f"{path} holds no live rows: it does not begin with {MAGIC!r}")
    if hashlib.sha256(head[: _HEAD.size]).digest() != head[_HEAD.size : _HEAD.size + 32]:
        raise UnsupportedModel(f"{path} has a damaged header")
    _, version, row_bytes, base, rows, room, text_room, length = _HEAD.unpack_from(head)
    if version != VERSION:
        raise UnsupportedModel(f"{path} is live format {version}; this martlet reads {VERSION}")
    if base != identity:
        raise UnsupportedModel(
            f"{path} holds live rows of another table than the one beside it "
            f"({base.hex()[:12]}, not {identity.hex()[:12]}): put that table back, or remove it"
        )
    shape = Shape(base, rows, row_bytes, room, text_room)
    if not shape.size == length == size:
        raise UnsupportedModel(f"{path} is cut short: {size} bytes, where {length} were made")
    return shape


def _aligned(offset: int, to: int) -> int:
    return -(-offset // to) * to
