"""Spark ML's folders where they are passed on: within one other folder, as a zip, as a tar."""

from __future__ import annotations

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

from martlet.errors import UnsupportedModel
from martlet.formats import archives

_METADATA = re.compile(r"(?:\./)?(?:[^/]+/)?metadata/part-[^/]+")
_BESIDE = ("__MACOSX",)  # what a zip made on a Mac has beside the folder
_MAX_FILES, _MAX_BYTES, _MAX_RATIO = 100_000, 8 << 30, 1000
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
        if head[257:262] != b"ustar" and head[:3] != b"\x1f\x8b\x08":
            return False
        with tarfile.open(path) as archive:
            return any(_METADATA.fullmatch(each.name) for each in islice(archive, _FIRST))
    except (OSError, EOFError, ValueError, zlib.error, tarfile.TarError):
        return False


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
    most = min(_MAX_BYTES, max(1 << 20, path.stat().st_size * _MAX_RATIO))
    with tarfile.open(path) as archive:
        for i, member in enumerate(archive):
            name = PurePosixPath(member.name)
            if name.is_absolute() or ".." in name.parts or "\\" in member.name:
                raise UnsupportedModel(f"{path} has a file {member.name!r}, outside its own folder")
            most -= member.size
            if most < 0 or i >= _MAX_FILES:
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
