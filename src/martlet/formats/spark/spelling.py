"""One spelling for each raw column: Spark's SQL does not tell capitals from small letters."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace

from martlet.formats.stages.stage import Port, Stage


def spelled(stages: Sequence[Stage], exact: Set[str]) -> list[Stage]:
    """Return *stages* with every raw column spelled as in *exact*, or as it is first."""
    spellings: dict[str, str] = {}
    raw = _raw(stages)
    for name in [*(name for name in raw if name in exact), *raw]:
        spellings.setdefault(name.lower(), name)
    changed = {name: spellings[name.lower()] for name in raw if name not in exact}
    changed = {old: new for old, new in changed.items() if old != new}

    def called(ports: tuple[Port, ...]) -> tuple[Port, ...]:
        return tuple(replace(port, name=changed.get(port.name, port.name)) for port in ports)

    return [
        replace(stage, inputs=called(stage.inputs), outputs=called(stage.outputs))
        if changed
        else stage
        for stage in stages
    ]


def _raw(stages: Sequence[Stage]) -> list[str]:
    """Return the columns that no stage makes before they are asked for."""
    made: set[str] = set()
    found: dict[str, None] = {}
    for stage in stages:
        found.update((port.name, None) for port in stage.inputs if port.name not in made)
        made.update(port.name for port in stage.outputs if port not in stage.inputs)
    return list(found)
