"""A registry whose disk is full, or whose clock jumps: what answers goes on, nothing is damaged."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from drive import ENV, Client, Load, Server, folder, from_folder, serving, until, write_version

MB = 1 << 20


def martlet(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "martlet", *arguments],
        env=ENV, text=True, capture_output=True, check=False, **options,
    )  # fmt: skip


def import_(root: Path, version: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return martlet("import", str(version), "--name", "m", "--root", str(root), "--as-is", **options)


@contextlib.contextmanager
def small_disk(path: Path, size_mb: int) -> Iterator[Path]:
    """A disk of its own at *path*; the test is skipped where nobody may mount one."""
    path.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(path)],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("a disk that is full needs the right to mount one (root)")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextlib.contextmanager
def full(disk: Path) -> Iterator[None]:
    """Not one byte is free on *disk*, and what others give back is taken at once."""
    filler, over = disk / "filler", threading.Event()
    with filler.open("wb", buffering=0) as file:

        def fill() -> None:
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * 4096)

        def fill_on() -> None:
            while not over.wait(0.001):
                fill()

        fill()
        thread = threading.Thread(target=fill_on)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            filler.unlink()


def is_sound(root: Path) -> bool:
    """Whether the catalog and every registered file are as they were written."""
    with contextlib.closing(sqlite3.connect(root / "catalog.db")) as db:
        found = db.execute("PRAGMA integrity_check").fetchall()
    verified = martlet("models", "--verify", "--root", str(root))
    return found == [("ok",)] and verified.returncode == 0


def registered(root: Path) -> list[int]:
    out = martlet("models", "m", "--json", "--root", str(root)).stdout
    return sorted(each["version"] for each in json.loads(out))


def of_size(tmp_path: Path, number: int, size_mb: int) -> Path:
    return write_version(tmp_path / "made", number, size_mb)


def test_a_full_disk_stops_imports_and_nothing_else(tmp_path, log, figures):
    """The registry's disk, and that of the server's own scratch files, is full under load."""
    answered: dict[str, int] = {}

    async def run(server: Server, root: Path, disk: Path) -> tuple[Load, list[str]]:
        refused: list[str] = []
        async with Load(server.port, connections=4, pause_s=0.002, seed=31) as load:
            await until(load, 1)
            with full(disk):
                before = len(load.answers)
                for _ in range(3):
                    found = await asyncio.to_thread(import_, root, of_size_2)
                    assert found.returncode == 6, found
                    refused.append(found.stderr)
                moved = await asyncio.to_thread(
                    martlet, "label", "m", "1", "stable", "--root", str(root)
                )
                assert moved.returncode in (0, 6), moved
                refused += [moved.stderr] if moved.returncode else []
                await asyncio.sleep(1.5)
                answered["while full"] = len(load.answers) - before
            assert await asyncio.to_thread(is_sound, root)
            assert await asyncio.to_thread(registered, root) == [1]
            found = await asyncio.to_thread(import_, root, of_size_2)
            assert found.returncode == 0, found.stderr
            await until(load, 2)
        return load, refused

    of_size_2 = of_size(tmp_path, 2, 2)
    with small_disk(tmp_path / "disk", 8) as disk:
        root = disk / "registry"
        found = import_(root, of_size(tmp_path, 1, 1))
        assert found.returncode == 0, found.stderr
        scratch = disk / "scratch"
        scratch.mkdir()
        with (
            changed(TMPDIR=str(scratch)),
            serving("--root", str(root), "--workers", "2", log=log) as server,
        ):
            load, refused = asyncio.run(run(server, root, disk))
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
        assert is_sound(root)
        assert registered(root) == [1, 2]
    figures(answers=len(load.answers), while_full=answered["while full"],
            failed=len(load.failed), refused=len(refused))  # fmt: skip
    assert (load.failed, load.torn, load.regressions) == ([], [], 0)
    for text in refused:
        assert "Traceback" not in text
        assert "No space left on device" in text or "is full" in text, text
    # What could not be done is said, and why.
    assert sum("nothing was imported" in text for text in refused) == 3
    told = log.read_text()
    assert "Traceback" not in told
    # Said by each of two when it began, not at every tenth of the seconds that it lasted.
    assert 2 <= told.count("not shared with the other workers") < 10


def test_an_import_that_may_write_no_more_leaves_nothing_behind(tmp_path, log):
    """A limit to the size of files, where no disk can be mounted: the write fails half-way."""
    root = tmp_path / "registry"
    assert import_(root, of_size(tmp_path, 1, 1)).returncode == 0
    large = of_size(tmp_path, 2, 8)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 * MB, 4 * MB))

    async def run(server: Server) -> Load:
        async with Load(server.port, connections=2, pause_s=0.002, seed=32) as load:
            await until(load, 1)
            found = await asyncio.to_thread(import_, root, large, preexec_fn=limited)
            assert (found.returncode, "Traceback" in found.stderr) == (6, False), found
            assert "File too large" in found.stderr
            assert registered(root) == [1]
            assert not list((root / "staging").iterdir())
            assert import_(root, large).returncode == 0
            await until(load, 2)
        return load

    with serving("--root", str(root), "--workers", "2", log=log) as server:
        load = asyncio.run(run(server))
    assert is_sound(root)
    assert (load.failed, load.torn, load.regressions) == ([], [], 0)


# -- clocks ------------------------------------------------------------------------------------

JUMPING = """
import datetime, time
_real, _real_ns, _n = time.time, time.time_ns, [0]
def _off():
    _n[0] += 1
    return 3600 if _n[0] % 2 else -3600
time.time = lambda: _real() + _off()
time.time_ns = lambda: _real_ns() + _off() * 10**9
class _Datetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds=_off())
datetime.datetime = _Datetime
"""


@contextlib.contextmanager
def changed(**variables: str) -> Iterator[None]:
    """The environment of what is started in the block."""
    before = {name: ENV.get(name) for name in variables}
    ENV.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del ENV[name]
            else:
                ENV[name] = value


@pytest.fixture
def jumping(tmp_path: Path) -> Iterator[Callable[[], contextlib.AbstractContextManager[None]]]:
    """Have the wall clock of every process go back or forth by an hour whenever it is read."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(JUMPING)
    with changed(PYTHONPATH=f"{site}:{ENV['PYTHONPATH']}"):
        yield


def test_the_clock_may_jump_an_hour(tmp_path, log, figures, jumping):
    """The server reads the wall clock for nothing that it decides: it swaps and answers on."""
    versions = folder(tmp_path)

    async def run(server: Server) -> Load:
        async with Load(server.port, connections=4, pause_s=0.002, seed=17) as load:
            await until(load, 1)
            for number in (2, 3):
                write_version(versions, number)
                server.signal(signal.SIGHUP)
                await until(load, number)
        return load

    with serving(*from_folder(versions), "--log-format", "json", log=log) as server:
        load = asyncio.run(run(server))
        _, _, metrics = asyncio.run(
            Client(server.port).ask("GET", "/monitoring/prometheus/metrics")
        )
    figures(answers=len(load.answers), failed=len(load.failed), regressions=load.regressions)
    assert (load.failed, load.torn, load.regressions) == ([], [], 0)
    assert b'status="OK"' in metrics


def test_a_registry_may_be_written_by_clocks_that_jump(tmp_path, log, figures, jumping):
    """A later version may have been registered an hour before an earlier one: numbers decide."""
    root, versions = tmp_path / "registry", 4
    assert import_(root, of_size(tmp_path, 1, 0)).returncode == 0

    async def run(server: Server) -> Load:
        async with Load(server.port, connections=4, pause_s=0.002, seed=33) as load:
            await until(load, 1)
            for number in range(2, versions + 1):
                found = await asyncio.to_thread(import_, root, of_size(tmp_path, number, 0))
                assert found.returncode == 0, found.stderr
                await until(load, number)
        return load

    with serving("--root", str(root), "--workers", "2", log=log) as server:
        load = asyncio.run(run(server))
    figures(answers=len(load.answers), failed=len(load.failed), regressions=load.regressions)
    assert (load.failed, load.torn, load.regressions) == ([], [], 0)
    assert registered(root) == [*range(1, versions + 1)]
    assert is_sound(root)
