"""The model formats: found by content, opened by the module named in the table below."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path

from martlet.errors import MartletError, MissingExtra, ModelNotFound, UnsupportedModel, brief
from martlet.servable import Servable


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """
    How a file is opened.

    Args:
        trusted: The user vouches for the file: a reader may run code that it contains (pickle).
        threads: Threads that one call may use. One per worker process is fastest for rankers.
    """

    trusted: bool = False
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Format:
    """
    One way a model is written to disk.

    Args:
        name: As ``--format`` takes it.
        suffixes: File names that usually hold it; a hint, asked only where content says nothing.
        sniff: Whether this path holds it. Reads a few kilobytes, imports nothing heavy; raises
            UnsupportedModel where that cannot be found out (a full disk), and nothing else.
        load: Opens it. Raises UnsupportedModel for a broken file or an unknown part of it.
        extra: The extra that brings its library; "" where the base install reads it.
    """

    name: str
    suffixes: tuple[str, ...]
    sniff: Callable[[Path], bool]
    load: Callable[[Path, LoadOptions], Servable]
    extra: str = ""


# Asked in this order: the surest content first, formats with weak marks last.
BUILTIN: dict[str, str] = {
    "mlflow": "martlet.formats.mlflow",
    "package": "martlet.formats.package",
    "savedmodel": "martlet.formats.tensorflow.savedmodel",
    "onnx": "martlet.formats.onnx",
    "lightgbm": "martlet.formats.lightgbm",
    "spark": "martlet.formats.spark",
    "mleap": "martlet.formats.mleap",
    "pfa": "martlet.formats.pfa",
    "xgboost": "martlet.formats.xgboost",
    "catboost": "martlet.formats.catboost",
    "tflite": "martlet.formats.tensorflow.tflite",
    "torch_export": "martlet.formats.torch.export",
    "torchscript": "martlet.formats.torch.script",
    "keras": "martlet.formats.tensorflow.keras",
    "sklearn": "martlet.formats.sklearn",
    "arrays": "martlet.formats.arrays",
    "pmml": "martlet.formats.pmml",
    "gzip": "martlet.formats.gzipped",
    "folder": "martlet.formats.folder",
}


@cache
def _format(name: str) -> Format:
    if name in BUILTIN:
        found = importlib.import_module(BUILTIN[name]).FORMAT
    else:
        plugins = _plugins()
        if name not in plugins.names:
            raise ModelNotFound(f"no format {name!r}; available: {', '.join(names())}")
        found = plugins[name].load()
    assert isinstance(found, Format), f"{name}: FORMAT is not a Format"
    return found


def names() -> list[str]:
    """Return the formats there are, in the order they are tried."""
    return [*BUILTIN, *_plugins().names]


@cache
def _plugins() -> EntryPoints:
    # To find them reads the metadata of everything that is installed: once in a process.
    return entry_points(group="martlet.formats")


def recognise(path: Path) -> Format | None:
    """Return the format whose marks are in the content of *path* (a file or folder), if any."""
    return None if not _exists(path) or _pipe(path) else _recognised(path)


def _recognised(path: Path) -> Format | None:
    return next((each for each in map(_format, names()) if each.sniff(path)), None)


def _pipe(path: Path) -> str:
    """Return what at *path*, or in a folder there, is a pipe, a socket or a device; "": nothing."""
    pending = [str(path)]
    if not path.is_dir():
        return "" if path.is_file() else pending[0]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for each in entries:
                    if each.is_dir(follow_symlinks=False):
                        pending.append(each.path)
                    elif not (each.is_file() or each.is_dir()) and _exists(each.path):
                        return each.path
        except OSError:  # a folder that may not be read: nothing in it is opened
            continue
    return ""


def _check(path: Path) -> None:
    """Check that *path* is there, and that to read it does not wait for who writes into a pipe."""
    if not _exists(path):
        raise ModelNotFound(f"there is no file or folder at {path}")
    if pipe := _pipe(path):
        raise UnsupportedModel(f"{pipe} is no file: a pipe, a socket or a device")


def _exists(path: str | Path) -> bool:
    try:
        Path(path).stat()
    except (OSError, ValueError):  # the second: of a name with a NUL
        return False
    return True


def sniff(path: Path) -> Format:
    """
    Return the format that *path* (a file or a folder) holds, judged by content, then by suffix.

    Raises:
        ModelNotFound: there is nothing at *path*.
        UnsupportedModel: no format knows it.
    """
    _check(path)
    found = _recognised(path)
    if found is not None:
        return found
    for each in map(_format, names()):
        if path.name.endswith(each.suffixes):
            return each
    raise UnsupportedModel(f"{path} is in no known format; the formats are: {', '.join(names())}")


def load(path: Path, options: LoadOptions = LoadOptions(), format: str | None = None) -> Servable:
    """
    Open the model at *path*; its format is found by content unless *format* names it.

    Returns a servable that trusts its caller to have checked the inputs.

    Raises:
        ModelNotFound: there is nothing at *path*, or no such format.
        UnsupportedModel: the file is broken, or uses what its reader does not know.
        MissingExtra: the format's library is not installed.
    """
    if format is None:
        chosen = sniff(path)
    else:
        _check(path)
        chosen = _format(format)
    try:
        return chosen.load(path, options)
    except ModuleNotFoundError as exc:
        if not chosen.extra:
            raise
        raise MissingExtra(f"the format {chosen.name}", chosen.extra) from exc
    except OSError as exc:  # a folder where a file is wanted, a file that may not be read
        raise UnsupportedModel(f"{path} cannot be read as {chosen.name}: {exc}") from exc
    except (MemoryError, RecursionError) as exc:
        raise UnsupportedModel(
            f"{path} asks for more room than there is, read as {chosen.name}: {exc}"
        ) from exc
    except MartletError:
        raise
    except Exception as exc:  # a reader cannot foresee all that a damaged file may hold
        raise UnsupportedModel(f"{path} does not load as {chosen.name}: {brief(exc)}") from exc
