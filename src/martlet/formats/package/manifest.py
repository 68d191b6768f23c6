"""What a package's ``martlet-package.json`` says: signatures, graphs, and what feeds them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from martlet.errors import UnsupportedModel, brief
from martlet.formats.package.ids import Ids
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import Signature, Spec

NAME: Final = "martlet-package.json"
CERTIFICATE: Final = "certificate.json"
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Gather:
    """
    Vectors that a graph is fed, taken from a table by the ids of an input.

    Args:
        table: The table file, relative to the package.
        input: The input that holds the ids.
        column: Which of its columns; None for all.
        ids: Which id is which row.
        feeds: The graph's input that gets them: the shape of the ids, and the dim.
    """

    table: str
    input: str
    column: int | None
    ids: Ids
    feeds: str

    @property
    def key(self) -> tuple[str, int | None]:
        """What the ids are read from."""
        return self.input, self.column


@dataclass(frozen=True, slots=True)
class Known:
    """An input of ids whose table is inside a graph: for a clear message when an id is refused."""

    input: str
    column: int | None
    ids: Ids


@dataclass(frozen=True, slots=True)
class Part:
    """
    One graph and what it is fed.

    Args:
        graph: The file, relative to the package: ONNX, but for the main part of a `Cross`.
        inputs: The package's inputs that it takes as they come.
        gathers: Its inputs that come from tables.
        outputs: What it gives, in this order.
    """

    graph: str
    inputs: tuple[str, ...]
    gathers: tuple[Gather, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Items:
    """
    The part that was computed for every item of the catalogue at import.

    Args:
        part: What computes it: the graph of the items' side.
        table: Its answers by item, all outputs side by side; a derived file.
        key: The input that holds the item's id; [n] or [n, 1].
        width: How many numbers a row of it has.
        columns: The items' other inputs, which the table holds too: an item for which other
            values come is computed anew. Empty where the key is all.
    """

    part: Part
    shapes: tuple[tuple[int, ...], ...]
    table: str
    key: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """
    A package's own description.

    Args:
        signature: As the original's.
        main: What runs for every request.
        user: What runs once for all rows that share the user's inputs; its outputs feed *main*.
        items: What was computed before; feeds *main*.
        cross: Whether *main* is not a graph, but the arrays of a `Cross` over both sides' shares.
        known: The ids that are looked up within the graphs.
        aliases: Other names of the same signature.
        beside: From how many rows on the graph answers, where the original is opened beside it and
            answers the rest (see `Paired`). None: the graphs answer alone.
        made_from: The original's format, digest and source.
    """

    signature: Signature
    main: Part
    user: Part | None = None
    user_inputs: tuple[str, ...] = ()
    items: Items | None = None
    cross: bool = False
    known: tuple[Known, ...] = ()
    signature_name: str = DEFAULT_SIGNATURE
    aliases: tuple[str, ...] = ()
    beside: int | None = None
    made_from: Mapping[str, str] = field(default_factory=dict)

    @property
    def parts(self) -> list[Part]:
        """Every graph."""
        found = [self.main]
        found += [self.user] if self.user is not None else []
        found += [self.items.part] if self.items is not None else []
        return found

    @property
    def files(self) -> list[str]:
        """What is served: the manifest itself, graphs and tables, each once."""
        names = [NAME]
        for part in self.parts:
            names += [part.graph, *(each.table for each in part.gathers)]
        if self.items is not None:
            names.append(self.items.table)
        return list(dict.fromkeys(names))

    def write(self, folder: Path) -> None:
        """Write it into *folder*."""
        text = json.dumps(self._to_json(), indent=1) + "\n"
        (folder / NAME).write_text(text, encoding="utf-8")

    def _to_json(self) -> dict[str, Any]:
        items = self.items
        return {
            "version": VERSION,
            "signature_name": self.signature_name,
            "aliases": list(self.aliases),
            "beside": self.beside,
            "method": self.signature.method,
            "definition": base64.b64encode(self.signature.definition).decode(),
            "inputs": [each.to_json() for each in self.signature.inputs.values()],
            "outputs": [each.to_json() for each in self.signature.outputs.values()],
            "main": _part_json(self.main),
            "cross": self.cross,
            "user": None if self.user is None else _part_json(self.user),
            "user_inputs": list(self.user_inputs),
            "items": None
            if items is None
            else {
                "part": _part_json(items.part),
                "shapes": [list(each) for each in items.shapes],
                "table": items.table,
                "key": items.key,
                "columns": list(items.columns),
            },
            "known": [
                {"input": each.input, "column": each.column, "ids": each.ids.to_json()}
                for each in self.known
            ],
            "made_from": dict(self.made_from),
        }

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """
        Read the manifest in *folder*.

        Raises:
            UnsupportedModel: it is damaged, of a later martlet, or names a file outside.
        """
        path = folder / NAME
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            if told["version"] != VERSION:
                raise UnsupportedModel(
                    f"{path} is of version {told['version']}; this martlet reads {VERSION}"
                )
            found = cls._from_json(told)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
            raise UnsupportedModel(f"{path} is not a package's manifest: {brief(exc)}") from exc
        for name in found.files:
            _check_inside(folder, name)
        return found

    @classmethod
    def _from_json(cls, told: Mapping[str, Any]) -> Manifest:
        inputs = [Spec.from_json(each) for each in told["inputs"]]
        outputs = [Spec.from_json(each) for each in told["outputs"]]
        items = told["items"]
        return cls(
            signature=Signature(
                {each.name: each for each in inputs},
                {each.name: each for each in outputs},
                str(told["method"]),
                base64.b64decode(told["definition"]),
            ),
            main=_part(told["main"]),
            cross=bool(told.get("cross", False)),
            user=None if told["user"] is None else _part(told["user"]),
            user_inputs=tuple(told["user_inputs"]),
            items=None
            if items is None
            else Items(
                part=_part(items["part"]),
                shapes=tuple(map(tuple, items["shapes"])),
                table=str(items["table"]),
                key=str(items["key"]),
                columns=tuple(items["columns"]),
            ),
            known=tuple(
                Known(each["input"], each["column"], Ids.from_json(each["ids"]))
                for each in told["known"]
            ),
            signature_name=str(told["signature_name"]),
            aliases=tuple(map(str, told.get("aliases", ()))),
            beside=None if told.get("beside") is None else int(told["beside"]),
            made_from=dict(told["made_from"]),
        )


def _part_json(part: Part) -> dict[str, Any]:
    return {
        "graph": part.graph,
        "inputs": list(part.inputs),
        "gathers": [
            {
                "table": each.table,
                "input": each.input,
                "column": each.column,
                "ids": each.ids.to_json(),
                "feeds": each.feeds,
            }
            for each in part.gathers
        ],
        "outputs": list(part.outputs),
    }


def _part(told: Mapping[str, Any]) -> Part:
    gathers = [
        Gather(
            table=str(each["table"]),
            input=str(each["input"]),
            column=None if each["column"] is None else int(each["column"]),
            ids=Ids.from_json(each["ids"]),
            feeds=str(each["feeds"]),
        )
        for each in told["gathers"]
    ]
    return Part(str(told["graph"]), tuple(told["inputs"]), tuple(gathers), tuple(told["outputs"]))


def _check_inside(folder: Path, name: str) -> None:
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts:
        raise UnsupportedModel(f"{folder / NAME} names {name!r}, which lies outside the package")
    path = folder
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise UnsupportedModel(f"{folder / NAME} names {name!r}, which is a link")
