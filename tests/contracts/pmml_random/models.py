"""What every kind of model has: a task (its fields and target), a body, and outputs that fit it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pmml_random.dice import Dice, element
from pmml_random.fields import Field

LABELS = (("no", "yes"), ("low", "mid", "high"), ("1", "2", "3"), ("0", "1"))


@dataclass(frozen=True)
class Task:
    """
    What a model is to predict, and from what.

    Args:
        labels: The target's classes; () of a number.
        target: The target field's name; None where the schema names none.
    """

    fields: list[Field]
    labels: tuple[str, ...]
    label_type: str = "string"
    target: str | None = "y"
    ordinal: bool = False

    @property
    def function(self) -> str:
        return "classification" if self.labels else "regression"


@dataclass
class Model:
    """A model element before its schema, outputs and targets are put into it."""

    tag: str
    body: list[str]
    attributes: dict[str, object]
    task: Task
    function: str | None = None
    entities: bool = False
    ranked: tuple[str, ...] = ()
    """The ids of the entities that have an affinity."""
    confidence: bool = False
    reasons: int = 0
    rules: bool = False
    probability: bool = True
    selects: bool = False
    """Whether one segment's answer, or a list of them, is its own."""
    before: list[str] = field(default_factory=list)
    extra_schema: list[str] = field(default_factory=list)
    transformations: list[str] = field(default_factory=list)

    def xml(self, outputs: str = "", targets: str = "", *, inner: bool = False) -> str:
        """Return the whole element; an *inner* one treats no field again."""
        task = self.task
        schema = [
            element("MiningField", name=each.name) if inner else each.mining_field()
            for each in task.fields
        ]
        if task.target is not None:
            schema.insert(0, element("MiningField", name=task.target, usageType="target"))
        local = element("LocalTransformations", *self.transformations)
        return element(
            self.tag,
            element("MiningSchema", *schema, *self.extra_schema),
            outputs,
            targets,
            local if self.transformations else "",
            *self.body,
            functionName=self.function or task.function,
            **self.attributes,
        )


Maker = Callable[[Dice, Task], Model]


def numbers_of(task: Task) -> list[Field]:
    return [each for each in task.fields if each.is_number]


def texts_of(task: Task) -> list[Field]:
    return [each for each in task.fields if each.is_text]
