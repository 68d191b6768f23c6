"""How one model is run: where its calls work, how many wait, whether they go as batches."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any

from martlet.errors import InvalidInput

MOST_THREADS = 1024
"""Of one model in one worker; with ``process`` each is a process."""

FILE = "settings.toml"
"""In a version's folder: the settings of that version, key by key over those of its model."""


class Isolation(Enum):
    """Where calls of a model work."""

    INLINE = "inline"
    """With the request that asks; in threads of its own while it is found to be slow."""
    THREAD = "thread"
    """In threads of its own."""
    PROCESS = "process"
    """In processes of its own: what crashes or hangs there stops nobody else."""


class Transition(Enum):
    """What a swap keeps: an answer at every moment, or room for no more than one version."""

    AVAILABILITY = "availability"
    RESOURCE = "resource"


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """
    How one model is run.

    Args:
        isolation: Where its calls work.
        threads: Calls, or batches, at once; with ``process``, processes. 0: four, or one where
            calls go as batches or in processes.
        max_queue: Calls that may wait for them; more are refused with Overloaded.
        max_rows: Of a batch; 0: calls never go as batches.
        linger_ms: How long a batch may wait for more rows. 0: what came while the model was busy.
        allowed_rows: Batches are padded to the next of these sizes; empty: to none.
        deadline_ms: A call that takes longer is given up; with ``process``, its process is ended.
            0: the server's own limit.
        on_demand: A version is opened when it is asked for, and closed, the longest unused first,
            when another needs the memory. Its calls work in threads: they may have to wait for it.
        transition: What a swap keeps. Of a model, not of one of its versions.
    """

    isolation: Isolation = Isolation.INLINE
    threads: int = 0
    max_queue: int = 512
    max_rows: int = 0
    linger_ms: float = 0.0
    allowed_rows: tuple[int, ...] = ()
    deadline_ms: float = 0.0
    on_demand: bool = False
    transition: Transition = Transition.AVAILABILITY

    def __post_init__(self) -> None:
        sizes = self.allowed_rows
        if list(sizes) != sorted(set(sizes)) or (sizes and sizes[-1] != self.max_rows):
            raise InvalidInput(
                f"allowed_rows must rise and end with max_rows ({self.max_rows}); "
                f"it is {list(sizes)}"
            )
        for name in ("threads", "max_queue", "max_rows", "linger_ms", "deadline_ms"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InvalidInput(f"{name} is {getattr(self, name)}; 0 or more is wanted")
        if self.threads > MOST_THREADS:
            raise InvalidInput(f"threads is {self.threads}; {MOST_THREADS} is the most")
        if self.linger_ms and not self.max_rows:
            raise InvalidInput("linger_ms is how long a batch waits: set max_rows too")

    @property
    def at_once(self) -> int:
        """How many calls, or batches, run at once."""
        single = self.max_rows or self.isolation is Isolation.PROCESS
        return self.threads or (1 if single else 4)

    @property
    def at_work(self) -> int:
        """How many calls can be at work at once: a batch is many."""
        return self.at_once * max(1, self.max_rows)

    @property
    def on_loop(self) -> bool:
        """Whether a call may work where its request came in."""
        return self.isolation is Isolation.INLINE and not (self.max_rows or self.on_demand)


DEFAULT = ModelSettings()

_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "linger_ms": ((int, float), "a number"),
    "deadline_ms": ((int, float), "a number"),
    "on_demand": ((bool,), "true or false"),
}
_CHOICES: dict[str, type[Enum]] = {"isolation": Isolation, "transition": Transition}


VersionSettings = Callable[[Path, ModelSettings], ModelSettings]
"""Gives the settings of the version at a path, from those of its model; as ``of_version``."""


def read_settings(path: Path, default: ModelSettings = DEFAULT) -> dict[str, ModelSettings]:
    """
    Return the settings of each model that a file names, over *default*: a table each, ``[ctr]``.

    Raises:
        InvalidInput: it is not TOML, or a key or value is none of ours; says where.
    """
    return {
        name: settings_of(table, f"{path} [{name}]", default)
        for name, table in _document(path).items()
    }


def of_version(path: Path, model: ModelSettings) -> ModelSettings:
    """
    Return the settings of the version at *path*: *model*'s, and over them its own file's.

    Raises:
        InvalidInput: its file is wrong.
    """
    file = path / FILE
    if not file.is_file():
        return model
    table = _document(file)
    if "transition" in table:
        raise InvalidInput(
            f"{file}: 'transition' is about two versions: set it for the model, in --model-settings"
        )
    return settings_of(table, str(file), model)


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as exc:
        raise InvalidInput(f"{path} cannot be read as TOML: {exc}") from None


def settings_of(table: object, where: str, default: ModelSettings = DEFAULT) -> ModelSettings:
    """
    Return the settings that a TOML table holds, over *default*.

    Raises:
        InvalidInput: a key or value is none of ours.
    """
    if not isinstance(table, Mapping):
        raise InvalidInput(f"{where} is {table!r}; a table of settings is wanted")
    known = {each.name for each in fields(ModelSettings)}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            raise InvalidInput(
                f"{where} does not take {key!r}; it takes: {', '.join(sorted(known))}"
            )
        values[key] = _value(key, value, f"{where}: {key!r}")
    try:
        return replace(default, **values)
    except InvalidInput as exc:
        raise InvalidInput(f"{where}: {exc}") from None


def _value(key: str, value: Any, where: str) -> Any:
    if key in _CHOICES:
        choices = [each.value for each in _CHOICES[key]]
        if value not in choices:
            raise InvalidInput(f"{where} is {value!r}; {', '.join(choices)} is wanted")
        return _CHOICES[key](value)
    if key == "allowed_rows":
        if not isinstance(value, list) or not all(type(v) is int and v > 0 for v in value):
            raise InvalidInput(f"{where} is {value!r}; a list of whole numbers is wanted")
        return tuple(value)
    kinds, wanted = _KINDS.get(key, ((int,), "a number"))
    if type(value) not in kinds:
        raise InvalidInput(f"{where} is {value!r}; {wanted} is wanted")
    return value
