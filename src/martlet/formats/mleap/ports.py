"""What every operation of a bundle asks its node: the columns at its ports, their widths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from martlet.errors import UnsupportedModel
from martlet.formats.mleap.bundle import Node
from martlet.formats.stages import classes
from martlet.formats.stages.classes import Names
from martlet.formats.stages.invalid import Invalid
from martlet.formats.stages.stage import Port, Stage

Reader = Callable[[Node, Mapping[str, Port]], list[Stage]]


def inputs(node: Node) -> list[str]:
    """Return the columns at ``input``, or at ``input0``, ``input1`` ... in that order."""
    # Early bundles call the input of a selector its features.
    return _ordered(node.inputs, "input") or _ordered(node.inputs, "features")


def outputs(node: Node) -> list[str]:
    """Return the columns at ``output``, or at ``output0``, ``output1`` ... in that order."""
    return _ordered(node.outputs, "output")


def _ordered(sockets: Sequence[tuple[str, str]], word: str) -> list[str]:
    numbered = [
        (int(port[len(word) :] or 0), name)
        for port, name in sockets
        if port.startswith(word) and (port[len(word) :] or "0").isdigit()
    ]
    return [name for _, name in sorted(numbered)]


def in_out(node: Node) -> tuple[str, str]:
    """Return the columns of an operation that has one each."""
    sources, targets = inputs(node), outputs(node)
    if len(sources) != 1 or len(targets) != 1:
        raise UnsupportedModel(f"{node.label} has {len(sources)} inputs, {len(targets)} outputs")
    return sources[0], targets[0]


def invalid(node: Node) -> Invalid:
    """Return what it does with a value that it cannot use."""
    return Invalid.named(str(node.get("handle_invalid") or "error"), node.label)


def width(node: Node, known: Mapping[str, Port]) -> int:
    """Return the width of its input, -1 where that is not known."""
    source = inputs(node)[0]
    return known[source].width if source in known else -1


def features(node: Node) -> str:
    """Return the column that a model takes."""
    found = node.port("features", "input")
    if not found:
        raise UnsupportedModel(f"{node.label} has no input 'features'")
    return found


def prediction(node: Node) -> str:
    """Return the column that a model answers in."""
    return node.port("prediction", "output", output=True)


def names(node: Node) -> Names:
    """Return the columns of a classifier; ports were named otherwise in early bundles."""
    return Names(
        features(node),
        node.port("raw_prediction", "rawPrediction", output=True),
        node.port("probability", output=True),
        prediction(node),
    )


def chooser(node: Node) -> classes.Chooser:
    """Return the choice of the highest score, or by ``thresholds`` where they are set."""
    thresholds = node.get("thresholds")
    if not thresholds:
        return classes.argmax_choice
    return classes.threshold_choice(node.label, [float(v) for v in thresholds])
