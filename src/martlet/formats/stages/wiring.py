"""Which stages answer what, and which columns they ask for that none of them makes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from martlet.errors import UnsupportedModel
from martlet.formats.stages.stage import Kind, Port, Stage

# When several stages ask for one raw column: a number reads as a category too, and a vector
# that an assembler takes is a vector.
_STRICTER = [
    Kind.HASHES,
    Kind.WORDS,
    Kind.VECTOR,
    Kind.LONG,
    Kind.INTEGER,
    Kind.NUMBER,
    Kind.WHOLE,
    Kind.TRUTH,
    Kind.EITHER,
    Kind.ANY,
    Kind.TEXT,
    Kind.CATEGORY,
]


def answers(stages: list[Stage]) -> list[Port]:
    """Return what the pipeline is asked for: what its models give, and what is made after them."""
    first = next((i for i, stage in enumerate(stages) if stage.predicts), None)
    if first is not None:
        models = [p for stage in stages[first:] if stage.predicts for p in stage.outputs]
        after = [p for stage in stages[first:] if not stage.predicts for p in stage.outputs]
        return [*models, *after]
    used = {port.name for stage in stages for port in stage.inputs}
    loose = [p for stage in stages for p in stage.outputs if p.name not in used]
    return loose or list(stages[-1].outputs)


def needed(stages: list[Stage], answers: Iterable[Port]) -> list[Stage]:
    """Return the stages that *answers* depend on, and those that let rows go, in their order."""
    wanted = {port.name for port in answers}
    found: list[Stage] = []
    for stage in reversed(stages):
        if stage.keep is not None or any(port.name in wanted for port in stage.outputs):
            found.append(stage)
            wanted.update(port.name for port in stage.inputs)
    return found[::-1]


def reachable(stages: list[Stage], known: set[str]) -> list[Port]:
    """Return what can be made from the columns *known*, to which these are added."""
    found: list[Port] = []
    for stage in stages:
        if all(port.name in known for port in stage.inputs):
            known.update(port.name for port in stage.outputs)
            found.extend(stage.outputs)
    return found


def asked(stages: list[Stage]) -> dict[str, Port]:
    """Return the raw columns by name, each as the strictest of those that ask for it takes it."""
    made: set[str] = set()
    asked: dict[str, Port] = {}
    for stage in stages:
        for port in stage.inputs:
            if port.name in made:
                continue
            earlier = asked.setdefault(port.name, port)
            wider = port.kind is earlier.kind and port.width > earlier.width
            if wider or _STRICTER.index(port.kind) < _STRICTER.index(earlier.kind):
                asked[port.name] = port
        made.update(port.name for port in stage.outputs)
    _solve(stages, asked)
    return asked


def open_widths(
    stages: list[Stage], asked: Mapping[str, Port]
) -> list[tuple[tuple[int, int], ...]]:
    """
    Return, for each stage, the inputs whose width only a request tells: place and width wanted.

    Raises:
        UnsupportedModel: a stage is given vectors of another width than it takes.
    """
    known = dict(asked)
    found: list[tuple[tuple[int, int], ...]] = []
    for stage in stages:
        open_here: list[tuple[int, int]] = []
        for place, port in enumerate(stage.inputs):
            given = known[port.name]
            if port.kind is not Kind.VECTOR or port.width < 0:
                continue
            if given.kind is not Kind.VECTOR or given.width < 0:
                open_here.append((place, port.width))
            elif given.width != port.width:
                raise UnsupportedModel(
                    f"{stage.name} takes {port.width} numbers; {port.name!r} has {given.width}"
                )
        known.update((port.name, _as_wide(port, stage, known)) for port in stage.outputs)
        found.append(tuple(open_here))
    return found


def _as_wide(port: Port, stage: Stage, known: Mapping[str, Port]) -> Port:
    """Return *port* with the width of its stage's input, where it has none of its own."""
    if not stage.same_width or port.kind is not Kind.VECTOR or port.width >= 0:
        return port
    return Port(port.name, Kind.VECTOR, known[stage.inputs[0].name].width)


def _solve(stages: list[Stage], asked: dict[str, Port]) -> None:
    """Find whether what an assembler takes raw is a number or a vector, from the widths around."""
    widths: dict[str, int] = {}
    for stage in reversed(stages):
        first = stage.outputs[0]
        if stage.same_width and first.name in widths:
            widths.setdefault(stage.inputs[0].name, widths[first.name])
        for port in stage.inputs:
            if port.kind is Kind.VECTOR and port.width >= 0:
                widths.setdefault(port.name, port.width)
    produced: dict[str, Port] = {}
    for stage in stages:
        for port in stage.outputs:
            produced[port.name] = port
        if not stage.parts:
            continue
        loose = [p.name for p in stage.inputs if p.name in asked and asked[p.name].kind is Kind.ANY]
        rest = widths.get(stage.outputs[0].name, -1)
        for port in stage.inputs:
            if port.name in loose or rest < 0:
                continue
            known = produced.get(port.name, asked.get(port.name, port))
            size = known.width if known.kind is Kind.VECTOR else 1
            rest = -1 if size < 0 else rest - size
        if rest < 0:
            continue
        if rest == len(loose):
            for name in loose:
                asked[name] = Port(name, Kind.NUMBER)
        elif len(loose) == 1:
            asked[loose[0]] = Port(loose[0], Kind.VECTOR, rest)
    for name, port in asked.items():
        if port.kind is Kind.VECTOR and port.width < 0 and name in widths:
            asked[name] = Port(name, Kind.VECTOR, widths[name])
