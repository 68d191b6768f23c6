"""kill -9 between any two lines of the registry leaves whole versions and true labels."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from martlet.errors import MartletError
from martlet.registry import Registry

PACKAGE = str(Path(sys.modules[Registry.__module__].__file__ or "").parent)


def killed_at(line: int, root: Path, act: Callable[[Registry], object]) -> bool:
    """Run *act* in a child that kills itself at the *line*-th line of the registry it reaches."""
    child = os.fork()
    if child == 0:
        left = line
        registry = Registry.open(root)

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal left
            if not frame.f_code.co_filename.startswith(PACKAGE):
                return None
            if event == "line":
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        try:
            act(registry)
        finally:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"first")
    (folder / "inner" / "b.bin").write_bytes(b"second")
    return folder


def whole(root: Path) -> list[int]:
    """The versions of ctr, each checked; and nothing is there but they."""
    with Registry.open(root) as registry:
        versions = registry.versions("ctr")
        for version in versions:
            registry.verify(version)
    folders = {int(path.name) for path in (root / "artifacts" / "ctr").iterdir()}
    assert folders == {version.number for version in versions}
    assert not list((root / "staging").iterdir())
    return [version.number for version in versions]


@pytest.fixture
def begun(tmp_path: Path, source: Path) -> Path:
    """A registry with two versions, the first of them stable."""
    root = tmp_path / "begun"
    with Registry.open(root) as registry:
        for _ in range(2):
            registry.import_(source, "ctr")
        registry.label("ctr", "stable", 1)
    return root


def roots_after(begun: Path, act: Callable[[Registry], object]) -> Iterator[Path]:
    """Copies of *begun*, in each of which *act* was killed one line later than in the last."""
    for line in itertools.count(1):
        root = begun.with_name("root")
        shutil.copytree(begun, root)
        died = killed_at(line, root, act)
        yield root
        shutil.rmtree(root)
        if not died:
            break
    assert line > 25


class TestKilledAtEveryLine:
    def test_an_import_leaves_all_or_nothing(self, begun, source):
        found = []
        for root in roots_after(begun, lambda registry: registry.import_(source, "ctr")):
            found.append(whole(root))
            with Registry.open(root) as registry:
                assert registry.model("ctr").labels == {"stable": 1}
        assert found == sorted(found, key=len)
        assert [numbers for numbers, _ in itertools.groupby(found)] == [[2, 1], [3, 2, 1]]

    def test_a_label_moves_or_does_not_and_its_history_agrees(self, begun):
        found = []
        for root in roots_after(begun, lambda registry: registry.label("ctr", "stable", 2)):
            with Registry.open(root) as registry:
                found.append(registry.model("ctr").labels["stable"])
                assert [move.after for move in registry.moves("ctr")] == [1, 2][: found[-1]]
        assert [number for number, _ in itertools.groupby(found)] == [1, 2]

    def test_a_deletion_leaves_no_version_without_files(self, begun):
        found = []
        for root in roots_after(begun, lambda registry: registry.delete("ctr@2")):
            found.append(whole(root))
        assert [numbers for numbers, _ in itertools.groupby(found)] == [[2, 1], [1]]


class TestErrorsAfterTheRename:
    def test_files_without_a_row_are_removed_at_once(self, tmp_path, source, monkeypatch):
        root = tmp_path / "root"
        with Registry.open(root) as registry:
            registry.import_(source, "ctr")
            place = registry._artifacts.place

            def place_then_fail(*args: Any) -> None:
                place(*args)
                raise MartletError("pulled the plug")

            monkeypatch.setattr(registry._artifacts, "place", place_then_fail)
            with pytest.raises(MartletError, match="pulled the plug"):
                registry.import_(source, "ctr")
            monkeypatch.undo()
            assert whole(root) == [1]
            assert registry.import_(source, "ctr").number == 2
