"""What should answer, as the command line or a registry says it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from martlet.config import NamedPath
from martlet.errors import InvalidInput, ModelNotFound
from martlet.names import ModelRef
from martlet.recommend.reading import parse
from martlet.registry import Kind, Model, Registry, Version
from martlet.serving.versions import Desired, Reference, Source, Wanted
from martlet.stores.plain import make_table
from martlet.stores.tablefile import kind_of


class FilesWish:
    """
    Files named on the command line: each is version 1, and they never change.

    A recommender's tables are paths beside its file. Plain ones (npz, csv, json) are made into
    table files in a folder that lives as long as the server.

    Raises:
        ModelNotFound: there is nothing at a path.
        InvalidInput: a declaration or a plain table is wrong.
    """

    def __init__(
        self, models: Sequence[NamedPath], recommenders: Sequence[NamedPath], trusted: bool
    ) -> None:
        for each in (*models, *recommenders):
            if not each.path.exists():
                raise ModelNotFound(f"there is no file or folder at {each.path}")
        self._scratch = tempfile.TemporaryDirectory(prefix="martlet-tables-")
        self._made: dict[Path, Path] = {}
        self._models = {each.name: each.path.resolve() for each in models}
        self._desired: dict[str, Wanted] = {
            name: Wanted({1: Source(path, trusted=trusted)}) for name, path in self._models.items()
        }
        for each in recommenders:
            self._desired[each.name] = Wanted({1: self._recommender(each)}, {"1": 1})
        self._told = False

    def _recommender(self, named: NamedPath) -> Source:
        declared = parse(_read(named.path), str(named.path))
        file = named.path.resolve()
        references = {f"recommender:{named.name}": Reference("recommender", named.name, 1, file)}
        for alias, text in declared.tables.items():
            path = named.path.parent / text
            if not path.exists():
                raise ModelNotFound(
                    f"{named.path}: table {alias!r} is {text!r}, and there is no file {path}"
                )
            references[alias] = Reference("table", alias, 1, self._table(path.resolve()))
        for model in declared.models:
            if model.name not in self._models:
                raise InvalidInput(
                    f"{named.path} ranks by {model.name!r}; give --model {model.name}=PATH too"
                )
            references[f"model:{model.name}"] = Reference(
                "model", model.name, 1, self._models[model.name]
            )
        return Source(named.path.resolve(), kind="recommender", references=references)

    def _table(self, path: Path) -> Path:
        if kind_of(path) is not None:
            return path
        if path not in self._made:
            # items.csv and items.npz are two tables.
            made = Path(self._scratch.name) / f"{len(self._made)}-{path.stem}.table"
            make_table(path, made)
            self._made[path] = made
        return self._made[path]

    def poll(self) -> Desired | None:
        """Return what should answer, the first time."""
        if self._told:
            return None
        self._told = True
        return self._desired


class RegistryWish:
    """
    What a registry holds: of each model and recommender its latest version and every labelled one.

    A recommender takes the latest of what it refers to, or what the reference's label names, as
    found now: when one of these moves, the recommender is opened anew beside the old one, and
    both swap as any version does. The registry is opened in the process that polls, since a
    catalog does not survive a fork.
    """

    def __init__(self, root: Path, trusted: bool) -> None:
        self._root = root
        self._trusted = trusted
        self._registry: Registry | None = None
        self._seen: int | None = None
        self._instances: dict[str, list[tuple[int, Mapping[str, Reference]]]] = {}

    def poll(self) -> Desired | None:
        """Return what should answer, if the registry has changed since the last call."""
        if self._registry is None:
            self._registry = Registry.open(self._root, create=False)
        revision = self._registry.revision()
        if revision == self._seen:
            return None
        self._seen = revision
        desired: dict[str, Wanted] = {}
        for model in self._registry.models(Kind.MODEL):
            desired[model.name] = self._model(self._registry, model)
        for model in self._registry.models(Kind.RECOMMENDER):
            desired[model.name] = self._recommender(self._registry, model)
        return desired

    def _model(self, registry: Registry, model: Model) -> Wanted:
        sources = {
            version.number: Source(
                registry.path_of(version),
                format=version.lineage.format or None,
                trusted=self._trusted,
            )
            for version in _served(registry, model)
        }
        return Wanted(sources, model.labels)

    def _recommender(self, registry: Registry, model: Model) -> Wanted:
        sources: dict[int, Source] = {}
        labels: dict[str, int] = {}
        for version in _served(registry, model):
            path = registry.path_of(version)
            references = _references(registry, path)
            references[f"recommender:{model.name}"] = Reference(
                "recommender", model.name, version.number, path
            )
            instance = self._instance(model.name, version.number, references)
            sources[instance] = Source(path, kind="recommender", references=references)
            labels[str(version.number)] = instance
            labels |= {name: instance for name, at in model.labels.items() if at == version.number}
        return Wanted(sources, labels)

    def _instance(self, name: str, version: int, references: Mapping[str, Reference]) -> int:
        """Return a number for a version with these references; of later versions it is higher."""
        known = self._instances.setdefault(name, [])
        if (version, references) not in known:
            known.append((version, references))
        return (version << 20) + known.index((version, references))


def _served(registry: Registry, model: Model) -> list[Version]:
    numbers = {*model.labels.values(), model.latest}
    return [each for each in registry.versions(model.name) if each.number in numbers]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise InvalidInput(f"{path} cannot be read as a declaration: {exc.strerror}") from None


def _references(registry: Registry, path: Path) -> dict[str, Reference]:
    """
    Return what is registered now of what the declaration at *path* refers to.

    It never raises: what is wrong or missing is the version's failure, which the opener finds and
    reports, and no reason to stop the rest.
    """
    found: dict[str, Reference] = {}
    try:
        declared = parse(_read(path), path.name)
    except InvalidInput:
        return found
    wanted = {alias: ("table", text) for alias, text in declared.tables.items()}
    wanted |= {f"model:{ref.name}": ("model", str(ref)) for ref in declared.models}
    for alias, (kind, text) in wanted.items():
        try:
            version = registry.get(ModelRef.parse(text))
        except (ModelNotFound, InvalidInput):
            continue
        found[alias] = Reference(kind, version.name, version.number, registry.path_of(version))
    return found
