"""From settings to a running server: the one file that knows everyone."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection

from martlet import formats
from martlet.config import ServeConfig
from martlet.fleet.supervisor import Supervisor
from martlet.fleet.swap import Fleet, shared_word
from martlet.fleet.worker import Door, WorkerLoop
from martlet.servable import Servable
from martlet.servers.health import Health
from martlet.servers.http import HttpServer, reserve, run
from martlet.servers.rest_tfserving import TFServing
from martlet.servers.routes import Router
from martlet.serving.engine import Engine
from martlet.serving.manager import Manager
from martlet.serving.reconciler import Reconciler
from martlet.serving.versions import Desired, Source
from martlet.wishes import FilesWish, RegistryWish

log = logging.getLogger(__name__)


def serve(config: ServeConfig, announce: Callable[[str], None]) -> int:
    """
    Serve until SIGTERM or Ctrl-C; return the exit status.

    Args:
        announce: Called with the base URL once the server answers.
    """
    holder = reserve(config.host, config.rest_port)
    port = holder.getsockname()[1]
    word = shared_word()
    wishes: list[FilesWish | RegistryWish] = [FilesWish(config.models, config.trusted)]
    if config.root is not None:
        wishes.append(RegistryWish(config.root, config.trusted))
    supervisor = Supervisor(
        count=config.workers,
        fleet=Fleet(word, Reconciler()),
        work=partial(_work, config, word, port),
        watch=partial(_merged, wishes, {}),
        on_ready=lambda: announce(f"http://{config.host}:{port}"),
        drain_s=config.drain_s,
        strict=config.root is None,
    )
    with holder:
        return supervisor.run()


def _merged(wishes: list[FilesWish | RegistryWish], known: dict[int, Desired]) -> Desired | None:
    """Return all wishes together if one has changed; *known* remembers the last of each."""
    changed = False
    for index, wish in enumerate(wishes):
        desired = wish.poll()
        if desired is not None:
            known[index] = desired
            changed = True
    if not changed:
        return None
    return {name: wanted for desired in known.values() for name, wanted in desired.items()}


def _work(config: ServeConfig, word: memoryview, port: int, index: int, pipe: Connection) -> int:
    """Be worker *index*: the parts of one process, put together."""
    engine = Engine(word)
    manager = Manager(engine, {"model": partial(_open_model, config.threads)})
    router = Router()
    for dialect in (Health(engine), TFServing(engine)):
        router.mount(dialect)
    doors: list[Door] = [HttpServer(router, config.host, port, config.limits)]
    return run(WorkerLoop(pipe, manager, doors, config.drain_s).run())


def _open_model(threads: int, source: Source) -> Servable:
    options = formats.LoadOptions(trusted=source.trusted, threads=threads)
    return formats.load(source.path, options, source.format)
