"""What the registry knows of a version: its files, where it came from, and which labels name it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from uuid import UUID

Note = str | int | float | bool | None
"""What a note or metric of a version may be: free-form, but plain."""


class Kind(Enum):
    """What a registered name holds. A name holds one kind for ever."""

    MODEL = "model"
    EMBEDDINGS = "embeddings"
    LISTS = "lists"
    FEATURES = "features"
    RECOMMENDER = "recommender"


class Standing(Enum):
    """Whether a version may serve."""

    AVAILABLE = "available"
    RETIRED = "retired"
    """Its files are kept, but neither "the latest" nor a label may name it."""
    DELETED = "deleted"
    """Its files are gone; its number is never used again."""


@dataclass(frozen=True, slots=True)
class File:
    """
    One file of a version.

    Args:
        path: Relative to the version's folder, with ``/`` between parts.
        size: In bytes.
        sha256: Of its content, in hex.
    """

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Lineage:
    """
    Where a version came from.

    Args:
        source: The path or URL it was imported from.
        imported_at: When, in UTC.
        imported_by: Who, as ``user@host``.
        format: As ``martlet.formats`` names it; "" for what is not a model.
        generation: What was trained together carries one generation; "" for none.
        notes: Free-form: data set, commit, parameters.
        metrics: Figures it was judged by, such as ``{"auc": 0.81}``.
    """

    source: str
    imported_at: datetime
    imported_by: str
    format: str = ""
    generation: str = ""
    notes: Mapping[str, Note] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Version:
    """
    One immutable version of a name. Only its standing and labels ever change.

    Args:
        entry: What to open, relative to the version's folder: the file's name, or "" where a
            folder was imported and the version's folder is the artifact.
        labels: Those that name it now, sorted.
    """

    name: str
    kind: Kind
    number: int
    uuid: UUID
    standing: Standing
    entry: str
    files: tuple[File, ...]
    lineage: Lineage
    labels: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Of all files together, in bytes."""
        return sum(file.size for file in self.files)

    def __str__(self) -> str:
        return f"{self.name}@{self.number}"


@dataclass(frozen=True, slots=True)
class Move:
    """A label was set, moved or taken away. None on a side: the label named nothing."""

    name: str
    label: str
    before: int | None
    after: int | None
    at: datetime
    by: str


@dataclass(frozen=True, slots=True)
class Model:
    """A registered name: its kind, its versions that have files, and its labels."""

    name: str
    kind: Kind
    versions: tuple[int, ...]
    """Newest first; retired ones are among them, deleted ones are not."""
    latest: int | None
    """The highest available one."""
    labels: Mapping[str, int]
