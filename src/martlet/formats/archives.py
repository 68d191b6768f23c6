"""Zip archives that hold a model: looked into before anything is unpacked."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

from martlet.errors import UnsupportedModel

_MAX_BYTES = 16 << 30
_MAX_RATIO = 1000
_MAX_MEMBERS = 100_000
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_ENCRYPTED = 1  # a flag of an entry


def members(path: Path) -> list[str]:
    """Return the names in the archive at *path*; none: it is no zip archive. Never raises."""
    try:
        if not path.is_file() or not zipfile.is_zipfile(path):
            return []
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return []


def check(path: Path) -> None:
    """
    Check that the archive at *path* may be unpacked.

    Raises:
        UnsupportedModel: it would write outside its folder, or unpack to far more than it is.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as exc:
        raise UnsupportedModel(f"{path} is not a whole zip archive: {exc}") from exc
    if any(each.compress_type not in _METHODS or each.flag_bits & _ENCRYPTED for each in entries):
        raise UnsupportedModel(f"{path} is packed in a way that is not read here, or encrypted")
    size = sum(each.file_size for each in entries)
    packed = max(sum(each.compress_size for each in entries), 1)
    if size > _MAX_BYTES or size / packed > _MAX_RATIO or len(entries) > _MAX_MEMBERS:
        raise UnsupportedModel(f"{path} would unpack to {size} bytes in {len(entries)} files")
    for each in entries:
        name = PurePosixPath(each.filename)
        if name.is_absolute() or ".." in name.parts or "\\" in each.filename:
            raise UnsupportedModel(f"{path} has a file {each.filename!r}, outside its own folder")
