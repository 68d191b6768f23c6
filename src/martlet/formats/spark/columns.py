"""What is known of the columns that the stages read so far have made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from martlet.errors import UnsupportedModel
from martlet.formats.stages.stage import Kind, Port, Stage


@dataclass(frozen=True, slots=True)
class Attribute:
    """
    What Spark's schema says of one number: a column's, or an element's of a vector.

    Args:
        name: "" where it has none.
        values: How many values an index has; 0: it is no index.
        labels: Their texts, where they are known.
        sparse: An element of an assembler's vector, which Spark keeps sparse where that is less.
    """

    name: str = ""
    values: int = 0
    labels: tuple[str, ...] = ()
    sparse: bool = False


Attributes = tuple[Attribute, ...]


class Columns:
    """
    The columns made so far: their ports, and the attributes of those that have any.

    Spark keeps these in the schema's metadata, which is not saved with a model.
    """

    def __init__(self) -> None:
        self._ports: dict[str, Port] = {}
        self._attributes: dict[str, Callable[[], Attributes | None]] = {}
        self._described: dict[str, Callable[[], Attributes | None]] = {}
        self._renamed: dict[str, str] = {}
        self.exact: set[str] = set()
        """The columns that stages ask for as they are spelled, which SQL does not."""

    def add(self, stage: Stage) -> None:
        """Note what *stage* makes; one that only lets rows go makes nothing."""
        for port in stage.outputs:
            if stage.keep is not None and port in stage.inputs:
                self._ports.setdefault(port.name, port)
                continue
            if port.name in self._renamed.values():
                raise UnsupportedModel(
                    f"{stage.name} makes {port.name!r} anew, whose first values go by another name"
                )
            self._ports[port.name] = port
            self._attributes.pop(port.name, None)
            self._renamed.pop(port.name, None)
            if port.name in self._described:
                self._attributes[port.name] = self._described.pop(port.name)
        if stage.same_width and stage.outputs[0].width < 0:
            self.widen(stage.outputs[0].name, self.width(stage.inputs[0].name))

    def rename(self, names: Mapping[str, str]) -> None:
        """Note other names, each for a column that there is, or a raw one."""
        self._renamed |= {new: self._renamed.get(old, old) for new, old in names.items()}

    def caller(self) -> Callable[[Stage], Stage]:
        """Return what gives a stage its inputs by the names that their columns have now."""
        names = dict(self._renamed)

        def called(stage: Stage) -> Stage:
            if not any(port.name in names for port in stage.inputs):
                return stage
            inputs = (replace(port, name=names.get(port.name, port.name)) for port in stage.inputs)
            return replace(stage, inputs=tuple(inputs))

        return called

    def widen(self, name: str, width: int) -> None:
        """Note the width of a vector column."""
        self._ports[name] = Port(name, Kind.VECTOR, width)

    def describe(self, name: str, attributes: Callable[[], Attributes | None]) -> None:
        """Say what attributes the column *name* of the stage being read will have, when asked."""
        self._described[name] = attributes

    def attributes(self, name: str) -> Attributes | None:
        """
        Return the attributes of a column, as many as its elements; None where they are not known.

        A raw column is a number, which has the column's name; so is a number without others.
        """
        column = self._renamed.get(name, name)
        if column in self._attributes:
            return self._attributes[column]()
        port = self.port(name)
        if port.kind is not Kind.VECTOR:
            return (Attribute(name),)
        return tuple(Attribute() for _ in range(port.width)) if port.width >= 0 else None

    def categories(self, name: str) -> int | None:
        """Return how many values an index column has; None: it is no index."""
        known = () if self.is_vector(name) else self.attributes(name) or ()
        return known[0].values or None if len(known) == 1 else None

    def made(self, name: str) -> bool:
        """Return whether a stage has made it."""
        return self._renamed.get(name, name) in self._ports

    def port(self, name: str) -> Port:
        """Return what is known of a column that may be a number or a vector."""
        known = self._ports.get(self._renamed.get(name, name))
        return Port(name, Kind.ANY) if known is None else replace(known, name=name)

    def found(self, name: str) -> Port:
        """Return what is known of the column that SQL calls *name*, by its own spelling."""
        if not self.made(name):
            every = [*self._renamed, *self._ports]
            alike = [each for each in every if each.lower() == name.lower()]
            name = alike[-1] if alike else name
        return self.port(name)

    def width(self, name: str) -> int:
        """Return the width of a vector column, -1 where it is not known."""
        return self.port(name).width

    def is_vector(self, name: str) -> bool:
        """Return whether a stage has made it as a vector."""
        return self.port(name).kind is Kind.VECTOR
