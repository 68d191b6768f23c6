"""The files of versions: staged, hashed, checked, then published by one rename."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from martlet.errors import InvalidInput, MartletError, ModelNotFound, NotAvailable
from martlet.registry.version import File

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""

# Rows that are set while a table serves lie beside it, and are no part of the version.
_LIVE = re.compile(r"\.live(\.[0-9a-f]{32})?$")

_CHUNK_BYTES = 1 << 20
_OUT_OF_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Staged:
    """
    Content that nobody else sees yet.

    Args:
        path: Its folder.
        entry: What to open, relative to *path*; "" where the folder itself is the artifact.
        files: Everything in it, sorted by path, hashed while it was copied.
    """

    def __init__(self, path: Path, entry: str, files: tuple[File, ...]) -> None:
        self.path = path
        self.entry = entry
        self.files = files

    @property
    def content(self) -> Path:
        """The file or folder that a reader opens."""
        return self.path / self.entry


class Artifacts:
    """
    The folder *root*, with ``staging/<uuid>/`` and ``artifacts/<name>/<number>/`` in it.

    A folder under ``artifacts`` is whole, since it came there by one rename; whether it is a
    version is for the catalog to say.
    """

    def __init__(self, root: Path) -> None:
        self._staging = root / "staging"
        self._published = root / "artifacts"
        self._staging.mkdir(parents=True, exist_ok=True)
        self._published.mkdir(exist_ok=True)

    def path(self, name: str, number: int) -> Path:
        """Return the folder of version *number* of *name*."""
        return self._published / name / str(number)

    @contextmanager
    def stage(self, source: Path, progress: Progress | None = None) -> Iterator[Staged]:
        """
        Copy *source*, a file or a folder, and give the copy; what is not published is removed.

        Raises:
            ModelNotFound: there is nothing at *source*.
            InvalidInput: it holds something that is neither a file nor a folder (a link, a
                device), or it changed while it was read.
            NotAvailable: the disk is full, or refuses.
        """
        try:
            # The path itself may be a link, since the user named it; what is inside may not.
            source = source.resolve(strict=True)
        except OSError:
            raise ModelNotFound(f"there is no file or folder at {source}") from None
        with _translated(self._staging), self._folder() as folder:
            entry = "" if source.is_dir() else source.name
            yield Staged(folder, entry, _copy(source, folder, progress))

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        folder, lock = _locked_folder(self._staging)
        try:
            yield folder
        finally:
            os.close(lock)
            shutil.rmtree(folder, ignore_errors=True)

    def place(self, staged: Staged, name: str, number: int) -> None:
        """Publish *staged*. The caller holds the catalog's write lock."""
        target = self.path(name, number)
        if not target.parent.exists():
            target.parent.mkdir()
            _sync(self._published)
        if target.exists():
            # Nobody else can be publishing, so whoever put it there died before recording it.
            self.discard(target)
        staged.path.rename(target)
        _sync(target.parent)

    def sweep_staging(self) -> None:
        """Remove what crashed imports left behind; what a live one is at work on stays."""
        for folder in self._staging.iterdir():
            _remove_abandoned(folder)

    def orphans(self, numbers: Mapping[str, frozenset[int]]) -> list[Path]:
        """Return the published folders that are no version: *numbers* says which are, by name."""
        return [
            version
            for model in self._published.iterdir()
            if model.is_dir()
            for version in model.iterdir()
            if version.name not in set(map(str, numbers.get(model.name, ())))
        ]

    def discard(self, folder: Path) -> None:
        """Remove a published folder that the catalog does not, or no longer, know."""
        # Out of sight in one step, so that no reader sees it half removed.
        away = self._staging / uuid4().hex
        with suppress(FileNotFoundError):  # another sweep was here first
            folder.rename(away)
        shutil.rmtree(away, ignore_errors=True)


def verify(folder: Path, files: tuple[File, ...]) -> None:
    """
    Read every file in *folder* again.

    Raises:
        NotAvailable: one is missing, new, or not what *files* says; the text names it.
    """
    found = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not _LIVE.search(path.name)
    }
    if odd := found ^ {file.path for file in files}:
        name = min(odd)
        raise NotAvailable(f"{folder / name} was {'added' if name in found else 'removed'}")
    for file in files:
        digest, size = _digest(folder / file.path)
        if (size, digest) != (file.size, file.sha256):
            raise NotAvailable(
                f"{folder / file.path} is damaged: {size} bytes with sha256 {digest}, "
                f"where {file.size} bytes with {file.sha256} were imported"
            )


def protect(staged: Staged) -> None:
    """Make the files read-only and their content durable."""
    for file in staged.files:
        path = staged.path / file.path
        path.chmod(0o444)
        _sync(path)
    for folder, _, _ in os.walk(staged.path):
        _sync(Path(folder))


def _locked_folder(staging: Path) -> tuple[Path, int]:
    # A sweep removes only what it can lock, and a lock dies with its process.
    while True:
        folder = staging / uuid4().hex
        folder.mkdir()
        with suppress(OSError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                folder.stat()  # a sweep may have come between the first two steps
                return folder, lock
            except OSError:
                os.close(lock)


def _remove_abandoned(folder: Path) -> None:
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        pass  # its import is still at work
    finally:
        os.close(lock)


def _copy(source: Path, folder: Path, progress: Progress | None) -> tuple[File, ...]:
    plan = [(source, source.name)] if source.is_file() else list(_walk(source, source))
    if not plan:
        raise InvalidInput(f"{source} holds no file")
    total = sum(path.stat().st_size for path, _ in plan)
    done = 0
    files = []
    for path, name in plan:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)

        def report(size: int, before: int = done) -> None:
            if progress is not None:
                progress(before + size, total)

        files.append(_copy_file(path, folder, name, report))
        done += files[-1].size
    return tuple(files)


def _walk(folder: Path, top: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(folder.iterdir()):
        name = path.relative_to(top).as_posix()
        if not name.isprintable():
            raise InvalidInput(f"the file name {name!r} has characters that cannot be printed")
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            yield from _walk(path, top)
        elif stat.S_ISREG(mode):
            if not _LIVE.search(path.name):
                yield path, name
        else:
            what = "a link" if stat.S_ISLNK(mode) else "neither a file nor a folder"
            raise InvalidInput(f"{path} is {what}: only plain files and folders can be imported")


def _copy_file(source: Path, folder: Path, name: str, report: Callable[[int], None]) -> File:
    digest = hashlib.sha256()
    size = 0
    # Not followed and not blocking: it may have become a link or a pipe since it was listed.
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with io.FileIO(descriptor) as reader, (folder / name).open("xb") as writer:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise InvalidInput(f"{source} is not a plain file")
        while chunk := reader.read(_CHUNK_BYTES):
            digest.update(chunk)
            writer.write(chunk)
            size += len(chunk)
            report(size)
        after = os.fstat(descriptor)
    if (before.st_size, before.st_mtime_ns) != (size, after.st_mtime_ns):
        raise InvalidInput(f"{source} changed while it was read; import it when it is finished")
    return File(name, size, digest.hexdigest())


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as reader:
        digest = hashlib.file_digest(reader, "sha256").hexdigest()
        return digest, reader.tell()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(where: Path) -> Iterator[None]:
    try:
        yield
    except MartletError:
        raise
    except OSError as exc:
        if exc.errno in _OUT_OF_SPACE:
            free = shutil.disk_usage(where).free
            raise NotAvailable(
                f"no space left under {where} ({exc.strerror}; {free} bytes free): nothing was "
                "imported; free some space and import again"
            ) from exc
        raise NotAvailable(f"{exc.filename or where}: {exc.strerror or exc}") from exc
