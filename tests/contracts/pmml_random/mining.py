"""MiningModel: models of other kinds, combined."""

from __future__ import annotations

from pmml_random import linear, trees
from pmml_random.dice import Dice, element
from pmml_random.fields import Field
from pmml_random.models import Model, Task
from pmml_random.outputs import outputs, targets
from pmml_random.predicates import predicate

_PARTS = (trees.tree, trees.tree, linear.regression, linear.network, linear.general)
_NUMBERS = (
    "average",
    "weightedAverage",
    "sum",
    "weightedSum",
    "median",
    "weightedMedian",
    "max",
)
_LABELS = (
    "majorityVote",
    "weightedMajorityVote",
    "average",
    "weightedAverage",
    "max",
    "median",
)


def ensemble(dice: Dice, task: Task) -> Model:
    """Return models that answer together: averaged, summed, voted on."""
    method = dice.choice(_LABELS if task.labels else _NUMBERS)
    treatment = dice.maybe(0.5, dice.one("continue", "skipSegment", "returnMissing"))
    segments = [_segment(dice, task, place) for place in range(dice.randint(1, 4))]
    return _mining(
        task,
        segments,
        multipleModelMethod=method,
        missingPredictionTreatment=treatment,
        missingThreshold=dice.maybe(0.3, dice.one(0.25, 0.5))
        if treatment == "skipSegment"
        else None,
    )


def selection(dice: Dice, task: Task) -> Model:
    """Return models of which the first that is active answers, or all do."""
    method = dice.one("selectFirst", "selectFirst", "selectAll")
    segments = [_segment(dice, task, place) for place in range(dice.randint(1, 4))]
    found = _mining(task, segments, multipleModelMethod=method)
    found.entities = method == "selectFirst" and dice.chance(0.5)
    return found


def chain(dice: Dice, task: Task) -> Model:
    """Return models of which each sees the outputs of those before it."""
    made: list[Field] = []
    segments = []
    count = dice.randint(1, 3)
    for place in range(count):
        last = place == count - 1
        own = task if last else Task(task.fields, (), target=None)
        seen = Task([*own.fields, *made], own.labels, own.label_type, own.target, own.ordinal)
        part = dice.one(trees.tree, linear.regression)(dice, seen)
        name = f"z{place}"
        output = element(
            "Output",
            element(
                "OutputField",
                name=name,
                feature="predictedValue",
                optype="continuous",
                dataType="double",
            ),
        )
        test = "<True/>" if dice.chance(0.7) else predicate(dice, task.fields)
        body = part.xml(outputs(dice, part, "s") if last else output, inner=True)
        segments.append(element("Segment", test, body, id=f"s{place}"))
        cells = [dice.number() for _ in range(4)]
        made.append(Field(name, "double", "continuous", cells=list(cells)))
    return _mining(task, segments, multipleModelMethod="modelChain")


def _segment(dice: Dice, task: Task, place: int) -> str:
    part = dice.choice(_PARTS)(dice, task)
    test = "<True/>" if dice.chance(0.6) else predicate(dice, task.fields)
    body = part.xml("", targets(dice, part) if dice.chance(0.3) else "", inner=True)
    return element(
        "Segment",
        test,
        body,
        id=dice.maybe(0.7, f"m{place}"),
        weight=dice.maybe(0.6, dice.randint(1, 8) / 4),
    )


def _mining(task: Task, segments: list[str], **attributes: object) -> Model:
    method = str(attributes["multipleModelMethod"])
    return Model(
        "MiningModel",
        [element("Segmentation", *segments, **attributes)],
        {},
        task,
        probability=method != "selectAll",
        selects=method in ("selectAll", "selectFirst", "modelChain"),
    )
