"""``martlet serve``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from martlet.fleet.scaling import Bounds

_LEAST_HANG_S = 0.5
"""A worker's loop beats four times a second: a shorter limit would replace healthy workers."""


@click.command(context_settings={"show_default": True, "ignore_unknown_options": True})
@click.option(
    "--model",
    "models",
    metavar="NAME=PATH",
    multiple=True,
    help="Serve this file or folder as NAME; may be repeated.",
)
@click.option(
    "--recommender",
    "recommenders",
    metavar="NAME=PATH",
    multiple=True,
    help="Serve this recommender (a .toml declaration) as NAME; may be repeated.",
)
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="MARTLET_ROOT",
    help="Serve the registry in this folder, and follow its changes.",
)
@click.option(
    "--host",
    help="The address to listen on.  [default: 127.0.0.1; 0.0.0.0 with tensorflow_model_server's "
    "own port flags]",
)
@click.option(
    "--rest-port",
    type=int,
    help="The HTTP port; 0 picks a free one and prints it.  [default: 8501]",
)
@click.option(
    "--grpc-port",
    type=int,
    help="The gRPC port; 0 picks a free one.  [default: no gRPC; 8500 with "
    "tensorflow_model_server's flags]",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    help="Worker processes.  [default: one for each core; 1 with tensorflow_model_server's flags]",
)
@click.option(
    "--workers-min",
    type=click.IntRange(1, 256),
    help="The fewest workers, if their number follows the load.  [default: 1]",
)
@click.option(
    "--workers-max",
    type=click.IntRange(1, 256),
    help="The most workers: their number follows the load.  [default: it is fixed]",
)
@click.option(
    "--target-p95-ms",
    default=0.0,
    help="Start another worker while the p95 latency is above this; 0: go by queues and busy "
    "workers alone.",
)
@click.option(
    "--shrink-s",
    default=30.0,
    help="How long one worker fewer must have been enough before one leaves.",
)
@click.option(
    "--threads", type=click.IntRange(1), default=1, help="Threads that one call of a model may use."
)
@click.option("--trusted", is_flag=True, help="Allow model files to run code that they contain.")
@click.option(
    "--max-body-bytes",
    type=click.IntRange(1),
    default=64 << 20,
    help="Refuse larger request bodies.",
)
@click.option(
    "--drain-s",
    type=click.FloatRange(0),
    default=30.0,
    help="How long requests may take to finish after SIGTERM.",
)
@click.option(
    "--model-settings",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A TOML file that says how each model is run: isolation, queue, batches, deadline.",
)
@click.option(
    "--memory-mb",
    type=click.IntRange(0),
    default=0,
    help="Memory that the workers together may hold; a version that needs more is refused; "
    "0: no limit.",
)
@click.option("--fixed-tables", is_flag=True, help="Refuse changes of table rows over HTTP.")
@click.option(
    "--on-demand",
    is_flag=True,
    help="Open a model when it is asked for; to stay within --memory-mb, close those unused the "
    "longest.",
)
@click.option(
    "--transition",
    type=click.Choice(["availability", "resource"]),
    default="availability",
    help="Open a new version beside the old one (availability), or after closing it (resource).",
)
@click.option(
    "--redis",
    metavar="URL",
    default="",
    show_default=False,
    help="Share the rows of tables with other machines through this Redis.",
)
@click.option(
    "--hang-s",
    type=click.FloatRange(_LEAST_HANG_S),
    default=30.0,
    help="Replace a worker that hangs for longer.",
)
@click.option(
    "--load-s",
    type=click.FloatRange(0, min_open=True),
    default=600.0,
    help="Give up a version that takes longer to open.",
)
@click.option("--log-level", default="warning", help="debug, info, warning or error.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    help="Lines for people, or one JSON object a line.",
)
@click.argument("tensorflow_flags", nargs=-1, type=click.UNPROCESSED)
def serve(
    models: tuple[str, ...],
    recommenders: tuple[str, ...],
    root: Path | None,
    host: str | None,
    rest_port: int | None,
    grpc_port: int | None,
    workers: int | None,
    workers_min: int | None,
    workers_max: int | None,
    target_p95_ms: float,
    shrink_s: float,
    threads: int,
    trusted: bool,
    max_body_bytes: int,
    drain_s: float,
    model_settings: Path | None,
    memory_mb: int,
    fixed_tables: bool,
    on_demand: bool,
    transition: str,
    redis: str,
    hang_s: float,
    load_s: float,
    log_level: str,
    log_format: str,
    tensorflow_flags: tuple[str, ...],
) -> None:
    """Serve models and recommenders over HTTP and gRPC.

    SIGTERM or Ctrl-C stops it once the requests under way are answered.

    The flags of tensorflow_model_server are taken under their own names (--port,
    --rest_api_port, --model_name, --model_base_path, --model_config_file, ...).

    \b
    Examples:
      martlet serve --model ctr=model.onnx --model cvr=model.txt --rest-port 8501
      martlet serve --root registry --workers 4
      curl localhost:8501/v1/models/ctr:predict -d '{"instances": [{"x": 1.0}]}'
    """
    from martlet import assemble
    from martlet.cli import logs, tfserving_flags, tfserving_settings
    from martlet.config import NamedPath, ServeConfig
    from martlet.errors import InvalidInput
    from martlet.fleet.policy import Patience
    from martlet.servers.limits import Limits
    from martlet.serving.settings import ModelSettings, Transition, read_settings

    flags = tfserving_flags.read(tensorflow_flags)
    folders = tfserving_settings.folders(flags)
    if not (models or recommenders or root or folders.entries or folders.file):
        raise InvalidInput(
            "nothing to serve: give --model NAME=PATH, --recommender, --root, "
            "--model_config_file or --model_base_path"
        )
    logs.configure(log_level, log_format)
    tfserving_settings.warn(flags)
    ports = tfserving_settings.ports(flags, host, rest_port, grpc_port)
    scaling = bounds(workers, workers_min, workers_max, target_p95_ms, shrink_s)
    # Upstream is one process, and a model that keeps state between calls keeps one.
    count = workers or (1 if flags.given else len(os.sched_getaffinity(0)))
    if on_demand and not memory_mb:
        raise InvalidInput(
            "--on-demand closes models where --memory-mb would be passed: give it too"
        )
    default = ModelSettings(on_demand=on_demand, transition=Transition(transition))
    config = ServeConfig(
        models=tuple(map(NamedPath.parse, models)),
        recommenders=tuple(map(NamedPath.parse, recommenders)),
        root=root,
        host=ports.host,
        rest_port=ports.rest,
        grpc_port=ports.grpc,
        workers=count if scaling is None else scaling.least,
        scaling=scaling,
        threads=threads,
        trusted=trusted,
        limits=Limits(body_bytes=max_body_bytes),
        drain_s=drain_s,
        folders=folders,
        protocols=tfserving_settings.protocols(flags),
        patience=Patience(hang_s, load_s),
        memory_bytes=memory_mb << 20,
        fixed_tables=fixed_tables,
        settings=read_settings(model_settings, default) if model_settings is not None else {},
        default_settings=tfserving_settings.batching(flags, default),
        version_settings=tfserving_settings.of_versions(flags),
        redis=redis,
    )
    sys.exit(assemble.serve(config, announce))


def bounds(
    workers: int | None,
    least: int | None,
    most: int | None,
    target_p95_ms: float,
    shrink_s: float,
) -> Bounds | None:
    """
    Return between which bounds the number of workers follows the load; None: it is fixed.

    Raises:
        InvalidInput: the options contradict each other.
    """
    from martlet.errors import InvalidInput
    from martlet.fleet.scaling import Bounds

    if most is None:
        if least is not None or target_p95_ms:
            raise InvalidInput("--workers-min and --target-p95-ms need --workers-max")
        return None
    if workers is not None:
        raise InvalidInput("--workers is a fixed number: give it, or --workers-max, not both")
    if (least or 1) > most:
        raise InvalidInput(f"--workers-min {least} is more than --workers-max {most}")
    if target_p95_ms < 0 or shrink_s <= 0:
        raise InvalidInput("--target-p95-ms must be 0 or more, and --shrink-s more than 0")
    return Bounds(least or 1, most, target_p95_ms, calm_s=shrink_s)


def announce(url: str) -> None:
    """Say where the server answers, on stdout: a script that asked for port 0 reads it."""
    click.echo(f"martlet is ready at {url}")
    sys.stdout.flush()
