"""Imports point towards the ground; heavy libraries are imported when they are needed."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import martlet

SOURCE = Path(martlet.__file__).parent

# From the ground up; within a line, a room may import those to its left.
ROOMS = [
    [
        "errors",
        "deadline",
        "names",
        "tensors",
        "rankings",
        "states",
        "servable",
        "events",
        "native",
        "certificate",
    ],
    ["registry", "stores", "retrieval"],
    ["formats", "convert"],
    ["serving", "recommend"],
    ["monitor"],
    ["wire", "client", "servers", "fleet"],
    [
        "config",
        "wishes",
        "folders",
        "watch",
        "importing",
        "opening",
        "embedded",
        "assemble",
        "demo",
        "cli",
    ],
]
# The rooms of convert, a step of bringing a model online each; its own files put them together.
STEPS = ["asking", "timing", "rewriting", "to_onnx", "parity", "audit", "splitting", "shrinking"]
RANK = {room: (line, place) for line, rooms in enumerate(ROOMS) for place, room in enumerate(rooms)}
TOP = {"__init__", "__main__"}

# wire turns bytes into values: it knows the ground, and nothing of what is behind it.
WIRE_MAY_IMPORT = set(ROOMS[0]) | {"wire"}


def room_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    return parts[0].removesuffix(".py")


def imports_of(path: Path, depth: int = 1) -> Iterator[str]:
    """The rooms that *path* imports, at any place of its code; of depth 2, those within rooms."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [node.module]
            if node.module == "martlet":
                names = [f"martlet.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "martlet" and len(parts) > depth:
                yield ".".join(parts[1 : depth + 1])


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_imports_point_towards_the_ground(path: Path):
    room = room_of(path)
    if room in TOP:
        return
    assert room in RANK, f"the room {room!r} has no place yet: give it one in ROOMS"
    for found in imports_of(path):
        if found == room or found not in RANK:
            continue
        assert RANK[found] < RANK[room], f"{room} imports {found}, which is above it"
        if room == "wire":
            assert found in WIRE_MAY_IMPORT, f"wire imports {found}: it must stay pure"


@pytest.mark.parametrize("step", STEPS)
def test_a_step_of_convert_imports_earlier_ones_only(step: str):
    own = {path.name.removesuffix(".py") for path in (SOURCE / "convert").iterdir()}
    later = own - set(STEPS[: STEPS.index(step) + 1])
    files = [path for path in FILES if path.is_relative_to(SOURCE / "convert" / step)]
    for path in files or [SOURCE / "convert" / f"{step}.py"]:
        found = {f"convert.{each}" for each in later} & set(imports_of(path, depth=2))
        assert not found, f"{path.relative_to(SOURCE)} imports {found}, which come after it"


def test_the_map_shows_the_rooms_in_their_order():
    text = (SOURCE.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    assert [re.findall(r"`(\w+)`", row) for row in rows] == ROOMS
    assert {room_of(path) for path in FILES} - TOP == set(RANK)


def test_only_the_top_imports_the_command_line_or_the_assembly():
    for path in FILES:
        room = room_of(path)
        if room in ("cli", "assemble", *TOP):
            continue
        assert not {"cli", "assemble"} & set(imports_of(path)), path


@pytest.mark.parametrize("module", ["martlet", "martlet.formats", "martlet.cli"])
def test_importing_it_loads_nothing_heavy(module: str):
    heavy = [
        "onnxruntime",
        "lightgbm",
        "sklearn",
        "scipy",
        "pandas",
        "torch",
        "tensorflow",
        "grpc",
        "google.protobuf",
        "pyarrow",
        "xgboost",
        "catboost",
        "uvloop",
        "faiss",
    ]
    code = f"import sys, {module}; print([m for m in {heavy!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_no_test_imports_a_conftest():
    """There are several, and one name: which is found depends on the order of the tests."""
    tests = Path(__file__).parents[1]
    named = [p for p in tests.rglob("*.py") if "conftest" in imports_of_tests(p)]
    assert named == []


def imports_of_tests(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and not n.level} | {
        each.name for n in ast.walk(tree) if isinstance(n, ast.Import) for each in n.names
    }
