"""The settings of a server: one frozen tree, read once, handed down as plain arguments."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from martlet.errors import InvalidInput
from martlet.fleet.policy import Patience
from martlet.fleet.scaling import Bounds
from martlet.formats.mlflow import store
from martlet.names import check_name
from martlet.servers.limits import Limits
from martlet.serving.settings import DEFAULT, ModelSettings, VersionSettings, of_version
from martlet.wire.tfserving.config import METRICS_PATH, ModelEntry, Tls


@dataclass(frozen=True, slots=True)
class NamedPath:
    """``NAME=PATH`` of the command line: a model file, or a recommender's declaration."""

    name: str
    path: Path

    @classmethod
    def parse(cls, text: str) -> NamedPath:
        """
        Read ``NAME=PATH``; a PATH that MLflow keeps (``models:/name@alias``) is fetched.

        Raises:
            InvalidInput: it is written otherwise, or the name cannot be one.
            UnsupportedModel: MLflow does not give it.
        """
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise InvalidInput(f"{text!r} is not NAME=PATH, as in ctr=models/ctr.onnx")
        check_name(name)
        return cls(name, store.fetch_apart(path) if store.is_kept(path) else Path(path))


@dataclass(frozen=True, slots=True)
class FolderConfig:
    """
    Models kept as TensorFlow Serving keeps them: a folder each, its numbered children the versions.

    Args:
        entries: The models.
        file: The model config they were read from; read again every *file_poll_s*, 0: never.
        poll_s: How often the folders are looked at; 0: once; below 0: never.
        unavailable_labels: Whether a new label may point at a version that does not answer yet.
    """

    entries: tuple[ModelEntry, ...] = ()
    file: Path | None = None
    file_poll_s: float = 0.0
    poll_s: float = 1.0
    unavailable_labels: bool = False


@dataclass(frozen=True, slots=True)
class ProtocolConfig:
    """
    What a client of TensorFlow Serving or Open Inference can notice.

    Args:
        timeout_s: A REST answer that takes longer becomes 504.
        metrics_path: Where Prometheus reads; None: nowhere.
        cors: Whether browsers of other origins may call.
        tensor_content: Whether TensorFlow Serving's gRPC answers come in ``tensor_content``.
        grpc_socket: A Unix socket for gRPC beside the port; "" for none.
        tls: gRPC's certificates; None speaks plain text.
        warm_ups: How often a version first answers each of its warm-up records; 0: never.
    """

    timeout_s: float = 30.0
    metrics_path: str | None = METRICS_PATH
    cors: bool = False
    tensor_content: bool = False
    grpc_socket: str = ""
    tls: Tls | None = None
    warm_ups: int = 1


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """
    What ``martlet serve`` was asked for.

    Args:
        models, recommenders: Files served without a registry, as version 1.
        root: The registry whose models and recommenders are served, or None.
        host: The address to listen on.
        rest_port: 0 picks a free one.
        grpc_port: 0 picks a free one; None serves no gRPC.
        workers: Worker processes, each with its own socket on the port. With *scaling*: at first.
        scaling: How their number follows the load; None: it is fixed.
        threads: Threads that one call of a model may use.
        trusted: Whether model files may run code that they contain.
        limits: What a client may ask of one HTTP connection.
        drain_s: How long requests under way may take after SIGTERM.
        folders: Models whose versions are the numbered children of a folder.
        protocols: What a client of TensorFlow Serving or Open Inference can notice.
        patience: How long the supervisor waits for a worker or a load.
        fixed_tables: Whether setting rows of tables over HTTP is refused.
        redis: Through which rows of tables are shared with other machines; "": not at all.
        memory_bytes: Bytes that the workers may hold together; 0: no limit.
        settings: How models are run, by name.
        default_settings: How the other models are run.
        version_settings: Returns the settings of a version, from those of its model.
    """

    models: tuple[NamedPath, ...] = ()
    recommenders: tuple[NamedPath, ...] = ()
    root: Path | None = None
    host: str = "127.0.0.1"
    rest_port: int = 8501
    grpc_port: int | None = None
    workers: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    scaling: Bounds | None = None
    threads: int = 1
    trusted: bool = False
    limits: Limits = field(default_factory=Limits)
    drain_s: float = 30.0
    folders: FolderConfig = field(default_factory=FolderConfig)
    protocols: ProtocolConfig = field(default_factory=ProtocolConfig)
    patience: Patience = field(default_factory=Patience)
    fixed_tables: bool = False
    redis: str = ""
    memory_bytes: int = 0
    settings: Mapping[str, ModelSettings] = field(default_factory=dict)
    default_settings: ModelSettings = DEFAULT
    version_settings: VersionSettings = of_version

    @property
    def on_demand(self) -> bool:
        """Whether any model is opened when it is asked for."""
        return any(each.on_demand for each in (self.default_settings, *self.settings.values()))
