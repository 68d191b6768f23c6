"""What is known of the columns that the stages read so far have made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from martlet.errors import UnsupportedModel
from martlet.formats.stages.stage import Kind, Port, Stage


class Columns:
    """
    The columns made so far: their ports, and how many values an index column has.

    Spark keeps these in the schema's metadata, which is not saved with a model.
    """

    def __init__(self) -> None:
        self._ports: dict[str, Port] = {}
        self._categories: dict[str, int] = {}
        self._renamed: dict[str, str] = {}

    def add(self, stage: Stage) -> None:
        """Note what *stage* makes."""
        for port in stage.outputs:
            if port.name in self._renamed.values():
                raise UnsupportedModel(
                    f"{stage.name} makes {port.name!r} anew, whose first values go by another name"
                )
            self._ports[port.name] = port
            self._categories.pop(port.name, None)
            self._renamed.pop(port.name, None)
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

    def index(self, names: Iterable[str], sizes: Sequence[int]) -> None:
        """Note that these columns hold indices of so many values."""
        self._categories.update(zip(names, sizes, strict=True))

    def categories(self, name: str) -> int | None:
        """Return how many values an index column has; None: it is no index."""
        return self._categories.get(self._renamed.get(name, name))

    def made(self, name: str) -> bool:
        """Return whether a stage has made it."""
        return self._renamed.get(name, name) in self._ports

    def port(self, name: str) -> Port:
        """Return what is known of a column that may be a number or a vector."""
        known = self._ports.get(self._renamed.get(name, name))
        return Port(name, Kind.ANY) if known is None else replace(known, name=name)

    def width(self, name: str) -> int:
        """Return the width of a vector column, -1 where it is not known."""
        return self.port(name).width

    def is_vector(self, name: str) -> bool:
        """Return whether a stage has made it as a vector."""
        return self.port(name).kind is Kind.VECTOR
