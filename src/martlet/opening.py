"""A version's files become a servable that is checked, warm, and wrapped as its settings say."""

from __future__ import annotations

from functools import partial

from martlet import formats
from martlet.formats.isolated.servable import Isolated
from martlet.servable import Servable
from martlet.servers.warmup import warm_up
from martlet.serving import golden
from martlet.serving.batching import Batched
from martlet.serving.isolation import Pool
from martlet.serving.settings import Isolation
from martlet.serving.versions import Source

LONGEST_CALL_S = 600.0
"""Of a call in a process of its own whose caller has no deadline (a warm-up, an embedded use)."""


def open_model(
    source: Source, threads: int = 1, warm_ups: int = 1, load_s: float = 600.0
) -> Servable:
    """
    Open the version at *source*; what comes back has answered its golden and warm-up examples.

    Args:
        threads: That one call may use.
        warm_ups: How often it answers each warm-up record; 0: never.
        load_s: How long opening it in a process of its own may take.

    Raises:
        MartletError: it cannot be opened, or answers an example wrongly.
    """
    servable = _opened(source, formats.LoadOptions(source.trusted, threads), load_s)
    try:
        _check(servable, source, warm_ups)
    except BaseException:
        servable.close()
        raise
    return Batched(servable, source.settings) if source.settings.max_rows else servable


def _opened(source: Source, options: formats.LoadOptions, load_s: float) -> Servable:
    settings = source.settings
    if settings.isolation is not Isolation.PROCESS:
        return formats.load(source.path, options, source.format)
    call_s = settings.deadline_ms / 1000 or LONGEST_CALL_S
    open_one = partial(
        Isolated, "martlet.formats:load", source.path, options, load_s, call_s, source.format
    )
    return open_one() if settings.at_once == 1 else Pool(open_one, settings.at_once)


def _check(servable: Servable, source: Source, warm_ups: int) -> None:
    where = str(source.path)
    file = golden.find(source.path)
    if file is not None:
        golden.check(servable, golden.read(file), where)
    for example in getattr(servable, "examples", ()):
        golden.check_runs(servable, example, where)
    if warm_ups and source.path.is_dir():
        warm_up(servable, source.path, warm_ups)
