"""The files of a bundle, by name: of a zip, or below a folder. Nothing is unpacked to disk."""

from __future__ import annotations

import stat
import zipfile
import zlib
from pathlib import Path
from typing import Protocol

from martlet.errors import UnsupportedModel
from martlet.formats import archives

_MAX_FILES = 200_000
_MAX_BYTES = 4 << 30


class Archive(Protocol):
    """Named files."""

    def __contains__(self, name: str) -> bool:
        """Whether there is a file *name* (``root/model.json``)."""
        ...

    def read(self, name: str) -> bytes:
        """Return its bytes. Raises UnsupportedModel: there is none, or it is broken."""
        ...


class ZipArchive:
    """
    The members of a zip, each read when asked for.

    Names are looked up among the members, so none leads out of the archive. Links are refused,
    and so is what `archives.check` refuses.
    """

    def __init__(self, path: Path) -> None:
        archives.check(path)
        self._path = path
        self._file = zipfile.ZipFile(path)
        members = self._file.infolist()
        for each in members:
            if stat.S_ISLNK(each.external_attr >> 16):
                raise UnsupportedModel(f"{path} holds the link {each.filename!r}")
        self._members = {each.filename: each for each in members if not each.is_dir()}

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def read(self, name: str) -> bytes:
        """Unfold one member, no further than it claims."""
        if name not in self._members:
            raise UnsupportedModel(f"{self._path} holds no {name!r}")
        member = self._members[name]
        try:
            with self._file.open(member) as file:
                data = file.read(member.file_size + 1)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError) as exc:
            raise UnsupportedModel(f"{self._path}: {name!r} is broken: {exc}") from None
        if len(data) != member.file_size:
            raise UnsupportedModel(f"{self._path}: {name!r} is not as long as it claims")
        return data

    def close(self) -> None:
        """Close the zip."""
        self._file.close()


class FolderArchive:
    """The files below a folder; links are not followed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[str, Path] = {}
        total = 0
        for each in path.rglob("*"):
            if each.is_symlink():
                raise UnsupportedModel(f"{path} holds the link {each.name!r}")
            if each.is_file():
                self._files[each.relative_to(path).as_posix()] = each
                total += each.stat().st_size
            if len(self._files) > _MAX_FILES or total > _MAX_BYTES:
                raise UnsupportedModel(f"{path} holds more than a bundle does")

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def read(self, name: str) -> bytes:
        """Read one file."""
        if name not in self._files:
            raise UnsupportedModel(f"{self._path} holds no {name!r}")
        return self._files[name].read_bytes()

    def close(self) -> None:
        """Nothing is open."""


def open_archive(path: Path) -> ZipArchive | FolderArchive:
    """Return the files of the bundle at *path*."""
    return FolderArchive(path) if path.is_dir() else ZipArchive(path)
