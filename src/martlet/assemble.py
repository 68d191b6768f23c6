"""From settings to a running server: the only file that knows all the parts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

from martlet.config import ServeConfig
from martlet.events import Sink
from martlet.fleet.board import Board, Word
from martlet.fleet.gauge import Gauge
from martlet.fleet.mail import Mail
from martlet.fleet.scaler import Scaler, read_told
from martlet.fleet.supervisor import Supervisor
from martlet.fleet.swap import Fleet
from martlet.fleet.worker import Door, WorkerLoop
from martlet.folders import FoldersWish
from martlet.monitor.together import Together, totals_of
from martlet.opening import open_model
from martlet.recommend.opening import open_recommender
from martlet.servers.catalogue import Catalogue
from martlet.servers.control import Control
from martlet.servers.health import Health
from martlet.servers.http import HttpServer, reserve, run
from martlet.servers.metrics import Metrics
from martlet.servers.rest_openinference import OpenInference
from martlet.servers.rest_recommendations import Recommendations
from martlet.servers.rest_tables import TableRows
from martlet.servers.rest_tfserving import TFServing
from martlet.servers.routes import Dialect, Router
from martlet.servers.shortcut import Shortcuts
from martlet.servers.tables_shared import TablesShared
from martlet.servers.workers import Workers
from martlet.serving import memory
from martlet.serving.engine import Engine
from martlet.serving.manager import Closable, Manager
from martlet.serving.reconciler import Reconciler
from martlet.serving.residents import Residents
from martlet.serving.roster import LoadOrder
from martlet.serving.versions import Source
from martlet.watch import Watch, Wish
from martlet.wishes import FilesWish, RegistryWish

log = logging.getLogger(__name__)

LONGEST_CONNECTION_S = 30.0
"""Age at which gRPC connections are closed if workers come and go: clients then find new ones."""


def serve(config: ServeConfig, announce: Callable[[str], None]) -> int:
    """
    Serve until SIGTERM or Ctrl-C; return the exit status.

    Args:
        announce: Called with the base URL once the server answers.
    """
    holder = reserve(config.host, config.rest_port)
    port = holder.getsockname()[1]
    grpc_holder = None if config.grpc_port is None else reserve(config.host, config.grpc_port)
    grpc_port = None if grpc_holder is None else grpc_holder.getsockname()[1]
    also = "" if grpc_port is None else f" (gRPC at {config.host}:{grpc_port})"
    board = Board(config.workers if config.scaling is None else config.scaling.most)
    counted = TemporaryDirectory(prefix="martlet-")
    folders = FoldersWish(
        config.folders.entries,
        config.trusted,
        config.folders.file,
        config.folders.file_poll_s,
        config.folders.poll_s,
    )
    wishes: list[Wish] = [
        FilesWish(config.models, config.recommenders, config.trusted),
        folders,
    ]
    if config.root is not None:
        wishes.append(RegistryWish(config.root, config.trusted))
    watch = Watch(wishes, folders, config.settings, config.default_settings)
    supervisor = Supervisor(
        count=config.workers,
        fleet=Fleet(
            board.force,
            Reconciler(),
            config.patience.load_s,
            config.memory_bytes,
            evictable=lambda index: board.read(index, Word.RESIDENT_BYTES),
        ),
        work=partial(_work, config, board, Path(counted.name), port, grpc_port),
        attempt=partial(_try, config),
        board=board,
        watch=watch.poll,
        asked=watch.ask,
        look=watch.look,
        on_ready=lambda: announce(f"http://{config.host}:{port}{also}"),
        drain_s=config.drain_s,
        strict=config.root is None,
        patience=config.patience,
        scaler=_scaler(config, board, Path(counted.name)),
    )
    with holder, grpc_holder or nullcontext(), counted:
        return supervisor.run()


def _scaler(config: ServeConfig, board: Board, counted: Path) -> Scaler | None:
    if config.scaling is None:
        return None
    return Scaler(config.scaling, Gauge(board, partial(totals_of, counted)), counted)


def _residents(board: Board) -> dict[str, int]:
    """Return how much the workers together have open of the versions on demand."""
    words = (Word.RESIDENT, Word.RESIDENT_BYTES, Word.OPENED, Word.EVICTED)
    return {w.name.lower(): sum(board.read(i, w) for i in range(board.workers)) for w in words}


def _work(
    config: ServeConfig,
    board: Board,
    counted: Path,
    port: int,
    grpc_port: int | None,
    index: int,
    pipe: Connection,
) -> int:
    """Be worker *index*: the parts of one process, put together."""
    engine = Engine(board.force)
    if config.on_demand:
        memory.one_arena()
    # A sixteenth is left for requests, whose memory cannot be foreseen.
    limit = config.memory_bytes * 15 // (16 * board.workers)
    residents = Residents(limit, frozen=True, open_s=config.patience.load_s)
    manager = Manager(
        engine,
        _openers(config, engine),
        residents=residents,
        settings_of=config.version_settings,
    )
    settings, together = config.protocols, Together(counted, index)
    counts = together.counts
    together.start()
    router, shortcuts = Router(body_bytes=config.limits.body_bytes), Shortcuts()
    mail = Mail(pipe)
    control = Control(engine, mail.send, config.folders.unavailable_labels)
    catalogue = Catalogue(engine, control, together.totals)
    workers = Workers(partial(read_told, counted), partial(_residents, board))
    dialects: list[Dialect] = [
        Health(engine),
        Recommendations(engine, counts, settings.timeout_s, shortcuts),
        _table_rows(config, engine),
        TFServing(engine, counts, settings.timeout_s, settings.cors, shortcuts),
        OpenInference(engine, catalogue, counts, settings.timeout_s, shortcuts),
        workers,
    ]
    for dialect in dialects:
        router.mount(dialect)
    if settings.metrics_path is not None:
        router.mount(Metrics(together.totals, settings.metrics_path, [workers.lines]))
    doors: list[Door] = [HttpServer(router, config.host, port, config.limits, shortcuts)]
    if grpc_port is not None:
        doors.append(_grpc_door(config, engine, catalogue, counts, grpc_port))

    before = board.read(index, Word.OPENED), board.read(index, Word.EVICTED)

    def beat(waiting: int, full: float) -> None:
        board.beat(index, time.monotonic(), waiting, full)
        board.write(index, Word.RESIDENT, residents.count)
        board.write(index, Word.RESIDENT_BYTES, residents.size)
        board.write(index, Word.OPENED, before[0] + residents.opened)
        board.write(index, Word.EVICTED, before[1] + residents.evicted)

    return run(WorkerLoop(mail, manager, doors, config.drain_s, beat, config.patience.hang_s).run())


def _try(config: ServeConfig, order: LoadOrder, pipe: Connection) -> int:
    """Open a version as a worker would, and report; runs in a process of its own."""
    engine = Engine()
    manager = Manager(engine, _openers(config, engine), settings_of=config.version_settings)
    pipe.send(manager.attempt(order))
    return 0


def _openers(config: ServeConfig, engine: Engine) -> dict[str, Callable[[Source], Closable]]:
    return {
        "model": partial(
            open_model,
            threads=config.threads,
            warm_ups=config.protocols.warm_ups,
            load_s=config.patience.load_s,
        ),
        "recommender": partial(open_recommender, engine=engine),
    }


def _table_rows(config: ServeConfig, engine: Engine) -> TableRows:
    if not config.redis:
        return TableRows(engine, writable=not config.fixed_tables)
    shared = TablesShared(engine, config.redis)
    shared.start()
    return TableRows(engine, writable=not config.fixed_tables, apply=shared.apply)


def _grpc_door(
    config: ServeConfig, engine: Engine, catalogue: Catalogue, sink: Sink, port: int
) -> Door:
    # grpcio starts threads, which do not survive a fork: it is imported in the workers only.
    from martlet.servers.grpc.door import Limits
    from martlet.servers.grpc.services import door

    addresses = [f"{config.host}:{port}"]
    if config.protocols.grpc_socket:
        addresses.append(f"unix:{config.protocols.grpc_socket}")
    return door(
        engine,
        catalogue,
        addresses,
        Limits(
            config.limits.body_bytes,
            connection_s=0.0 if config.scaling is None else LONGEST_CONNECTION_S,
        ),
        as_content=config.protocols.tensor_content,
        tls=config.protocols.tls,
        sink=sink,
    )
