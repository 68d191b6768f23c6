"""martlet brings a model that was trained offline online, for recommenders and CTR ranking.

>>> import martlet
>>> model = martlet.load("model.onnx")                                    # doctest: +SKIP
>>> model.predict({"x": np.array([[1.0]], dtype=np.float32)})["y"]        # doctest: +SKIP
array([[2.5]], dtype=float32)
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from martlet.errors import MartletError
from martlet.servable import Checked, Servable
from martlet.tensors import DType, Signature, Spec

if TYPE_CHECKING:
    from martlet.embedded import Engine

__version__ = "0.1.0"

__all__ = ["Checked", "DType", "Engine", "MartletError", "Servable", "Signature", "Spec", "load"]


def load(
    path: str | PathLike[str],
    *,
    format: str | None = None,
    trusted: bool = False,
    threads: int = 1,
) -> Checked:
    """
    Open the model file (or folder) at *path* and return a servable that checks its inputs.

    Args:
        path: The file or folder, or a model of MLflow's registry (``models:/name@alias``). Its
            format is found by content unless *format* names it.
        format: One of ``martlet.formats.names()``.
        trusted: You vouch for the file: its reader may run code that it contains (pickle).
        threads: Threads that one ``predict`` may use.

    Raises:
        ModelNotFound: nothing is there, or no such format.
        UnsupportedModel: the file is broken, or uses what its reader does not know.
        MissingExtra: the format's library is not installed.
    """
    from martlet import formats

    options = formats.LoadOptions(trusted=trusted, threads=threads)
    from martlet.formats.mlflow import store

    here = store.fetch(str(path)) if store.is_kept(path) else Path(path)
    return Checked(formats.load(here, options, format))


def __getattr__(name: str) -> Any:
    # The engine brings the whole serving core: it is imported when it is asked for.
    if name == "Engine":
        from martlet.embedded import Engine

        return Engine
    raise AttributeError(f"module 'martlet' has no attribute {name!r}")
