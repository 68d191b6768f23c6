"""A bundle as a plan: its nodes, nested as they may be, in their order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from martlet.errors import UnsupportedModel
from martlet.formats.mleap import boosters, estimators, formulas, operations, words
from martlet.formats.mleap.archive import open_archive
from martlet.formats.mleap.bundle import Files
from martlet.formats.mleap.ports import Reader
from martlet.formats.stages.plan import Plan
from martlet.formats.stages.stage import Port, Stage

_MAX_DEPTH = 32


def load(path: Path) -> Plan:
    """
    Read the bundle at *path*, a zip or a folder.

    Raises:
        UnsupportedModel: it is broken, or has an operation that is not supported; names the
            operation, its node and where in the bundle it lies.
    """
    archive = open_archive(path)
    try:
        files = Files.of(archive)
        found: list[Stage] = []
        _add(files, "root", found, {}, 0)
        return Plan(str(path), found)
    except UnsupportedModel as exc:
        raise UnsupportedModel(f"{path}: {exc}") from None
    finally:
        archive.close()


def _add(files: Files, folder: str, found: list[Stage], known: dict[str, Port], depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise UnsupportedModel(f"nodes lie in nodes more than {_MAX_DEPTH} deep")
    try:
        node = files.node(folder)
        if node.op == "pipeline":
            for name in node.need("nodes"):
                _add(files, f"{folder}/{name}.node", found, known, depth + 1)
            return
        if node.op not in READERS:
            raise UnsupportedModel(f"{node.label}: the operation {node.op!r} is not supported")
        stages = READERS[node.op](node, known)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as exc:
        what = f"no {exc}" if isinstance(exc, KeyError) else str(exc)
        raise UnsupportedModel(f"{folder} does not hold what its operation keeps: {what}") from exc
    for stage in stages:
        found.append(stage)
        known.update((port.name, port) for port in stage.outputs)


READERS: Mapping[str, Reader] = {
    **operations.READERS,
    **words.READERS,
    **formulas.READERS,
    **estimators.READERS,
    **boosters.READERS,
}
