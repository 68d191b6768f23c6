"""The first step: a folder that holds a data set."""

from __future__ import annotations

from pathlib import Path

from martlet.demo import movielens
from martlet.demo.evaluate import Progress, silent
from martlet.demo.generate import Settings, generate, write


def prepare(source: Path | Settings, out: Path, progress: Progress = silent) -> Path:
    """
    Return the folder of a data set: *source* itself, or *out* with a generated one in it.

    Raises:
        InvalidInput: *source* holds no data set, or asks for one that cannot be made.
    """
    if isinstance(source, Settings):
        write(generate(source, progress), out)
        return out
    movielens.read(source)
    progress("read", 1.0)
    return source
