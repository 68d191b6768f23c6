"""From ``tensorflow_model_server``'s flags to our settings."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

from martlet.cli.tfserving_flags import Flags, contents
from martlet.config import FolderConfig, ProtocolConfig
from martlet.errors import InvalidInput
from martlet.servers.certificates import check as check_certificates
from martlet.serving.settings import ModelSettings, VersionSettings, of_version
from martlet.wire.tfserving.config import (
    METRICS_PATH,
    Batching,
    ModelEntry,
    read_batching,
    read_metrics_path,
    read_model_config,
    read_ssl,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ports:
    """Where to listen; *grpc* None: not at all."""

    host: str
    rest: int
    grpc: int | None


def ports(flags: Flags, host: str | None, rest: int | None, grpc: int | None) -> Ports:
    """
    Return where to listen: our own options, then upstream's flags, then the defaults.

    Who starts us as upstream is started finds what upstream would give: gRPC on 8500, and every
    interface where a port was named.

    Raises:
        InvalidInput: REST and gRPC would share a port.
    """
    named = {"port", "rest_api_port"} & flags.given
    usual = 8500 if flags.given else None
    found = Ports(
        host or ("0.0.0.0" if named else "127.0.0.1"),
        next((each for each in (rest, flags.rest_api_port or None) if each is not None), 8501),
        next((each for each in (grpc, flags.port) if each is not None), usual),
    )
    if found.rest and found.rest == found.grpc:
        raise InvalidInput(f"REST and gRPC cannot share port {found.rest}: give each its own")
    return found


def warn(flags: Flags) -> None:
    """Say which of *flags* do nothing here."""
    for each in flags.ignored:
        log.warning("%s has no meaning here, and is ignored", each)


def folders(flags: Flags) -> FolderConfig:
    """
    Return the models that *flags* name: those of the config file, else the one base path.

    Raises:
        InvalidInput: the config file is broken.
    """
    entries: list[ModelEntry] = []
    file = None
    if flags.model_config_file:
        file = Path(flags.model_config_file)
        entries = read_model_config(contents("model_config_file", flags.model_config_file)) or []
    elif flags.model_base_path:
        path = str(Path(flags.model_base_path).absolute())
        entries = [ModelEntry(flags.model_name, path)]
    return FolderConfig(
        tuple(entries),
        file,
        flags.model_config_file_poll_wait_seconds,
        flags.file_system_poll_wait_seconds,
        flags.allow_version_labels_for_unavailable_models,
    )


def protocols(flags: Flags) -> ProtocolConfig:
    """
    Return what *flags* change for a client.

    Raises:
        InvalidInput: a file that they name is broken, or they contradict each other.
    """
    if flags.batching_parameters_file and not flags.enable_batching:
        raise InvalidInput("--batching_parameters_file is set without --enable_batching")
    metrics: str | None = METRICS_PATH
    if flags.monitoring_config_file:
        text = contents("monitoring_config_file", flags.monitoring_config_file)
        metrics = read_metrics_path(text)
    tls = None
    if flags.ssl_config_file:
        tls = read_ssl(contents("ssl_config_file", flags.ssl_config_file))
        check_certificates(tls)
    return ProtocolConfig(
        timeout_s=flags.rest_api_timeout_in_ms / 1000,
        metrics_path=metrics,
        cors=flags.rest_api_enable_cors_support,
        tensor_content=flags.enable_serialization_as_tensor_content,
        grpc_socket=flags.grpc_socket_path,
        tls=tls,
        warm_ups=max(1, flags.num_request_iterations_for_warmup)
        if flags.enable_model_warmup
        else 0,
    )


def batching(flags: Flags, default: ModelSettings) -> ModelSettings:
    """
    Return how models are run: as *default*, and in batches where ``--enable_batching`` is set.

    Raises:
        InvalidInput: the file with the batching parameters is broken.
    """
    if not flags.enable_batching or flags.enable_per_model_batching_parameters:
        return default
    return _batched(default, _common(flags))


def of_versions(flags: Flags) -> VersionSettings:
    """
    Return what gives the settings of a version.

    With ``--enable_per_model_batching_parameters`` a version goes in batches where its folder has
    a ``batching_params.pbtxt``, and as that says; the common file's part is the threads alone.

    Source:
        tensorflow_serving/servables/tensorflow/bundle_factory_util.cc (GetPerModelBatchingParams).
    """
    if not (flags.enable_batching and flags.enable_per_model_batching_parameters):
        return of_version
    threads = _common(flags).num_batch_threads

    def settings_of(path: Path, model: ModelSettings) -> ModelSettings:
        file = path / "batching_params.pbtxt"
        if file.is_file():
            try:
                own = read_batching(file.read_text(encoding="utf-8"))
            except (InvalidInput, UnicodeDecodeError, OSError) as exc:
                raise InvalidInput(f"{file}: {exc}") from None
            model = _batched(model, replace(own, num_batch_threads=threads))
        return of_version(path, model)

    return settings_of


def _common(flags: Flags) -> Batching:
    if not flags.batching_parameters_file:
        return Batching()
    return read_batching(contents("batching_parameters_file", flags.batching_parameters_file))


def _batched(default: ModelSettings, found: Batching) -> ModelSettings:
    return replace(
        default,
        threads=found.num_batch_threads or os.cpu_count() or 1,
        max_queue=found.max_enqueued_batches * found.max_batch_size,
        max_rows=found.allowed_batch_sizes[-1]
        if found.allowed_batch_sizes
        else found.max_batch_size,
        linger_ms=found.batch_timeout_micros / 1000,
        allowed_rows=found.allowed_batch_sizes,
    )
