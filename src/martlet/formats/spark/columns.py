"""What is known of the columns that the stages read so far have made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from martlet.formats.stages.stage import Kind, Port, Stage


class Columns:
    """
    The columns made so far: their ports, and how many values an index column has.

    Spark keeps these in the schema's metadata, which is not saved with a model.
    """

    def __init__(self) -> None:
        self._ports: dict[str, Port] = {}
        self._categories: dict[str, int] = {}

    def add(self, stage: Stage) -> None:
        """Note what *stage* makes."""
        for port in stage.outputs:
            self._ports[port.name] = port
            self._categories.pop(port.name, None)
        if stage.same_width and stage.outputs[0].width < 0:
            self.widen(stage.outputs[0].name, self.width(stage.inputs[0].name))

    def widen(self, name: str, width: int) -> None:
        """Note the width of a vector column."""
        self._ports[name] = Port(name, Kind.VECTOR, width)

    def index(self, names: Iterable[str], sizes: Sequence[int]) -> None:
        """Note that these columns hold indices of so many values."""
        self._categories.update(zip(names, sizes, strict=True))

    def categories(self, name: str) -> int | None:
        """Return how many values an index column has; None: it is no index."""
        return self._categories.get(name)

    def made(self, name: str) -> bool:
        """Return whether a stage has made it."""
        return name in self._ports

    def port(self, name: str) -> Port:
        """Return what is known of a column that may be a number or a vector."""
        return self._ports.get(name, Port(name, Kind.ANY))

    def width(self, name: str) -> int:
        """Return the width of a vector column, -1 where it is not known."""
        return self._ports[name].width if name in self._ports else -1

    def is_vector(self, name: str) -> bool:
        """Return whether a stage has made it as a vector."""
        return self.made(name) and self._ports[name].kind is Kind.VECTOR
