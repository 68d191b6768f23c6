"""Zip archives that hold a model: looked into before anything is unpacked."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO

from martlet.errors import UnsupportedModel

_MAX_BYTES = 16 << 30
_MAX_RATIO = 100  # past _ANY_RATIO bytes: weights of zeros pack well
_ANY_RATIO = 16 << 20
MAX_MEMBERS = 100_000
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_ENCRYPTED = 1  # a flag of an entry


def room(size: int) -> int:
    """Return how many bytes a packed file of *size* bytes may unpack to."""
    return min(_MAX_BYTES, max(_ANY_RATIO, size * _MAX_RATIO))


def is_archive(path: Path) -> bool:
    """Return whether *path* is a file that ends as a zip archive does. Never raises."""
    try:
        return path.is_file() and zipfile.is_zipfile(path)
    except (OSError, zipfile.BadZipFile):  # the second: of a damaged end of more than 4 GB
        return False


def members(path: Path) -> list[str]:
    """Return the names in the archive at *path*; none: it is no zip archive. Never raises."""
    try:
        if not is_archive(path):
            return []
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return []


def check(path: Path) -> None:
    """
    Check that the archive at *path* may be unpacked, and is the same to every reader of it.

    What is checked here is opened by a library that has a zip reader of its own: where the two
    could find other members, they would not speak of the same model.

    Raises:
        UnsupportedModel: it would write outside its folder, or unpack to far more than it is; it
            has two files of one name, or two directories.
    """
    try:
        with path.open("rb") as file:
            check_open(file, str(path))
    except OSError as exc:
        raise UnsupportedModel(f"{path} is not a whole zip archive: {exc}") from exc


def check_open(file: IO[bytes], path: str) -> None:
    """As ``check``, of the archive that is all of *file*; *path* is what messages call it."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            one_way = _reads_one_way(file, archive)
            length = file.seek(0, io.SEEK_END)
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as exc:
        raise UnsupportedModel(f"{path} is not a whole zip archive: {exc}") from exc
    if any(each.compress_type not in _METHODS or each.flag_bits & _ENCRYPTED for each in entries):
        raise UnsupportedModel(f"{path} is packed in a way that is not read here, or encrypted")
    if not one_way or len({each.filename for each in entries}) < len(entries):
        raise UnsupportedModel(f"{path} is no plain zip archive: readers may differ on what it has")
    size = sum(each.file_size for each in entries)
    # The file's own size: members may lie upon each other, and each say that it is large.
    if size > room(length) or len(entries) > MAX_MEMBERS:
        raise UnsupportedModel(f"{path} would unpack to {size} bytes in {len(entries)} files")
    for each in entries:
        name = PurePosixPath(each.filename)
        if name.is_absolute() or ".." in name.parts or "\\" in each.filename:
            raise UnsupportedModel(f"{path} has a file {each.filename!r}, outside its own folder")


_END, _END64, _LOCATOR = (
    struct.Struct("<4s4H2LH"),
    struct.Struct("<4sQ2H2L4Q"),
    struct.Struct("<4sLQL"),
)


def _reads_one_way(file: IO[bytes], archive: zipfile.ZipFile) -> bool:
    """
    Whether *archive* begins where its file does, and its directory is where the file says.

    Python looks for the directory just before the end record, others where that record points;
    some take a file for an archive by its first bytes.

    Source: PKWARE's APPNOTE.TXT, 4.3.14 to 4.3.16.
    """
    file.seek(0)
    head = file.read(4)
    end = file.seek(-_END.size - len(archive.comment), io.SEEK_END)
    *_, size, start, _ = _END.unpack(file.read(_END.size))
    if end >= _LOCATOR.size + _END64.size:
        file.seek(end - _LOCATOR.size)
        mark, _, at, _ = _LOCATOR.unpack(file.read(_LOCATOR.size))
        if mark == b"PK\6\7":
            end -= _LOCATOR.size + _END64.size
            file.seek(end)
            sign, *_, size, start = _END64.unpack(file.read(_END64.size))
            if (at, sign) != (end, b"PK\6\6"):
                return False
    return head in (b"PK\3\4", b"PK\5\6") and start + size == end
