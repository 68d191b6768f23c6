"""Spark ML's folders where they are passed on: within one other folder, as a zip, as a tar."""

from __future__ import annotations

import gzip
import re
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, cast

from martlet.errors import UnsupportedModel
from martlet.formats import archives

_METADATA = re.compile(r"(?:\./)?(?:[^/]+/)?metadata/part-[^/]+")
_BESIDE = ("__MACOSX",)  # what a zip made on a Mac has beside the folder
_GZIP = b"\x1f\x8b\x08"
_AT_ONCE = 1 << 20
_FIRST = 64
"""How many members of a tar are looked at to tell whether it holds a model."""


def model_in(folder: Path) -> Path:
    """Return *folder*, or the only folder in it where it has no metadata of its own."""
    if (folder / "metadata").is_dir():
        return folder
    inner = [each for each in folder.iterdir() if each.is_dir() and not _aside(each)]
    return inner[0] if len(inner) == 1 else folder


def _aside(folder: Path) -> bool:
    # A number is a version of a model: the folder around it is none itself.
    named = folder.name.startswith(".") or folder.name in _BESIDE or folder.name.isdigit()
    return named or folder.is_symlink()


def is_packed(path: Path) -> bool:
    """Return whether the file at *path* is a zip or a tar of such a folder. Never raises."""
    if names := archives.members(path):
        return any(map(_METADATA.fullmatch, names))
    try:
        with path.open("rb") as file:
            head = file.read(512)
        if head[257:262] != b"ustar" and not head.startswith(_GZIP):
            return False
        with _tar(path) as archive:
            return any(_METADATA.fullmatch(each.name) for each in islice(archive, _FIRST))
    except (OSError, EOFError, ValueError, zlib.error, tarfile.TarError):
        return False


class _Bounded:
    """
    The bytes of a tar, as tarfile reads them: never past *most*, nor many at a time.

    A header may say that it is as long as all that is packed, or lead back to an earlier one.
    """

    def __init__(self, file: IO[bytes] | gzip.GzipFile, most: int) -> None:
        self._file, self._most = file, most
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _AT_ONCE:
            raise ValueError(f"a header of {size} bytes")
        return self._file.read(size)

    def seek(self, at: int) -> int:
        if not 0 <= at <= self._most:
            raise ValueError(f"a header at byte {at}, past the {self._most} that it may unpack to")
        return self._file.seek(at)


@contextmanager
def _tar(path: Path) -> Iterator[tarfile.TarFile]:
    with path.open("rb") as raw:
        packed = raw.read(len(_GZIP)) == _GZIP
        raw.seek(0)
        file = gzip.GzipFile(fileobj=raw) if packed else raw
        bounded = cast(IO[bytes], _Bounded(file, archives.room(path.stat().st_size)))
        with tarfile.open(fileobj=bounded, mode="r:") as archive:
            yield archive


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """
    Yield the folder that the zip or tar at *path* holds, which is gone afterwards.

    Raises:
        UnsupportedModel: it would write outside its folder, holds a link, or unpacks to far more
            than it is.
    """
    with tempfile.TemporaryDirectory(prefix="martlet-") as name:
        folder = Path(name)
        try:
            if archives.is_archive(path):
                archives.check(path)
                with zipfile.ZipFile(path) as archive:
                    archive.extractall(folder)
            else:
                _untar(path, folder)
        except (OSError, EOFError, ValueError, RuntimeError, zlib.error,
                tarfile.TarError, zipfile.BadZipFile) as exc:  # fmt: skip
            raise UnsupportedModel(f"{path} does not unpack: {exc}") from exc
        yield model_in(folder)


def _untar(path: Path, folder: Path) -> None:
    most = archives.room(path.stat().st_size)
    with _tar(path) as archive:
        for i, member in enumerate(archive):
            name = PurePosixPath(member.name)
            if name.is_absolute() or ".." in name.parts or "\\" in member.name:
                raise UnsupportedModel(f"{path} has a file {member.name!r}, outside its own folder")
            most -= member.size
            if min(most, member.size) < 0 or i >= archives.MAX_MEMBERS:
                raise UnsupportedModel(f"{path} would unpack to far more than it is")
            if member.isdir():
                (folder / name).mkdir(parents=True, exist_ok=True)
                continue
            source = archive.extractfile(member) if member.isreg() else None
            if source is None:
                raise UnsupportedModel(f"{path} holds {member.name!r}, which is no plain file")
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with source, (folder / name).open("xb") as target:
                shutil.copyfileobj(source, target)
