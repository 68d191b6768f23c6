"""What a kind of model is given when it compiles: its element, its fields, its target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from martlet.formats.pmml.document import Element
from martlet.formats.pmml.prediction import Model
from martlet.formats.pmml.scope import Scope
from martlet.formats.pmml.values import DOUBLE, FLOAT, DataType, Value, parse


@dataclass(frozen=True, slots=True)
class Context:
    """
    A model element that compiles.

    Args:
        target: The target field's name, or None where the schema names none.
        label: The type that class labels are read as: the target's.
        labels: The target's declared values, in order.
        targets: All target fields' names and types.
        nested: Compiles a model within this one, which sees this scope.
    """

    element: Element
    scope: Scope
    target: str | None
    label: DataType
    labels: tuple[Value, ...]
    targets: tuple[tuple[str, DataType, str], ...]
    open: Callable[[Element], Context]
    """Reads the fields of a model within this one, and leaves the model itself to the caller."""
    nested: Callable[[Element], NestedModel]

    @property
    def is_classification(self) -> bool:
        return self.element.get("functionName") == "classification"

    @property
    def number(self) -> DataType:
        """The type that the model computes in: x-mathContext."""
        return FLOAT if self.element.get("x-mathContext") == "float" else DOUBLE

    def parse_label(self, text: str, element: Element) -> Value:
        """
        Return the class label that *text* of *element* writes.

        Raises:
            UnsupportedModel: the target's type holds none such.
        """
        try:
            return parse(text, self.label)
        except ValueError as exc:
            raise element.error(f"names a class of the wrong type: {exc}") from None


@dataclass(frozen=True, slots=True)
class NestedModel:
    """A model compiled into the program."""

    element: Element
    scope: Scope
    slot: int
    """Of its Prediction, targets applied."""
    targets: tuple[tuple[str, DataType, str], ...]
    """The names, types and optypes of its target fields; () where the schema names none."""
    kind: DataType
    """The type of what it predicts."""
    outputs: tuple[str, ...]
    """The names of its output fields, declared in *scope*."""
    told: frozenset[str]
    """Those of them that are features of its prediction."""
    model: Model
    """The model element alone, before its targets."""
    plain: bool
    """Whether the prediction is the model's own: no Targets and no cast change it."""


Compile = Callable[[Context], Model]
