"""TensorFlow Serving's configuration files, in protobuf's text format, as plain values.

Source: tensorflow_serving/config/model_server_config.proto, model_servers/server_core.cc
(ValidateModelConfigList), servables/tensorflow/session_bundle_config.proto and
sources/storage_path/file_system_storage_path_source.cc.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import text_format

from martlet.errors import InvalidInput
from martlet.wire.protos import pool
from martlet.wire.tfserving import messages

PLATFORM = "tensorflow"
METRICS_PATH = "/monitoring/prometheus/metrics"


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """
    One model of a ``model_config_list``.

    Args:
        base_path: The folder whose numbered children are its versions.
        latest: So many of the highest versions; 0 where *every* or *specific* says which.
        every: All versions there are.
        specific: These, where they are there.
        labels: Label to version.
    """

    name: str
    base_path: str
    latest: int = 1
    every: bool = False
    specific: tuple[int, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)

    def wanted(self, there: Iterable[int]) -> list[int]:
        """
        Return which of the versions that are *there* should be loaded, highest first.

        >>> ModelEntry("ctr", "/models/ctr", latest=2).wanted([1, 7, 3])
        [7, 3]
        """
        ordered = sorted(there, reverse=True)
        if self.every:
            return ordered
        if self.specific:
            return [each for each in ordered if each in self.specific]
        return ordered[: self.latest]


def versions_in(children: Iterable[str]) -> dict[int, str]:
    """
    Return the children of a base path that are versions, by number.

    >>> versions_in(["00000123", "2", "tmp", "-1", "2.bak"])
    {123: '00000123', 2: '2'}
    """
    found = {}
    for name in children:
        if name.isascii() and name.isdigit() and int(name) < 2**63:
            found[int(name)] = name
    return found


def read_model_config(text: str) -> list[ModelEntry] | None:
    """
    Return the models of a ``model_config_file``; None: it says nothing of models.

    Raises:
        InvalidInput: it is not in the text format, or TensorFlow Serving would refuse it.
    """
    return models_of(_read(text, messages.ModelServerConfig()))


def models_of(config: Any) -> list[ModelEntry] | None:
    """
    Return the models of a ``ModelServerConfig``: an empty list serves nothing. None: it has no
    list, and asks for nothing.

    Raises:
        InvalidInput: TensorFlow Serving would refuse it; in its words.
    """
    which = config.WhichOneof("config")
    if which is None:
        return None
    if which != "model_config_list":
        raise InvalidInput("Invalid ServerModelConfig type: Only ModelConfigList is supported.")
    entries: dict[str, ModelEntry] = {}
    for each in config.model_config_list.config:
        if each.name in entries:
            raise InvalidInput(f"Illegal to list model {each.name} multiple times in config list")
        entries[each.name] = _entry(each)
    return list(entries.values())


def _entry(given: Any) -> ModelEntry:
    name, path = given.name, given.base_path
    if not name:
        raise InvalidInput("a model of the config list has no name")
    if not (path.startswith("/") or "://" in path):
        raise InvalidInput(
            f"Expected model {name} to have an absolute path or URI; got base_path()={path}"
        )
    if not given.model_platform and given.model_type != 1:
        raise InvalidInput(f"Illegal setting neither ModelServerConfig::model_type nor "
                           f"ModelServerConfig::model_platform for model {name}.")  # fmt: skip
    if given.model_platform not in ("", PLATFORM):
        raise InvalidInput(
            f"model {name} has model_platform {given.model_platform!r}: only {PLATFORM!r} is known "
            "(whatever format its files have is found by their content)"
        )
    if given.HasField("logging_config") and given.logging_config.ByteSize():
        raise InvalidInput(f"model {name}: No request-logger-creator provided.")
    policy = given.model_version_policy
    which = policy.WhichOneof("policy_choice")
    return ModelEntry(
        name,
        path,
        latest=(policy.latest.num_versions or 1) if which in (None, "latest") else 0,
        every=which == "all",
        specific=tuple(policy.specific.versions) if which == "specific" else (),
        labels=dict(given.version_labels),
    )


@dataclass(frozen=True, slots=True)
class Batching:
    """``BatchingParameters``, by its own names and defaults; threads 0: one for each core."""

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = 0
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int = 0


def read_batching(text: str) -> Batching:
    """
    Return the settings of a ``batching_parameters_file``.

    Raises:
        InvalidInput: it is not in the text format, or its sizes contradict each other.
    """
    given = _read(text, messages.BatchingParameters())
    default = Batching()

    def value(name: str) -> int:
        found = getattr(given, name).value if given.HasField(name) else getattr(default, name)
        return int(found)

    splits = given.enable_large_batch_splitting.value
    sizes = tuple(given.allowed_batch_sizes)
    found = Batching(
        max_batch_size=value("max_batch_size"),
        batch_timeout_micros=value("batch_timeout_micros"),
        max_enqueued_batches=value("max_enqueued_batches"),
        num_batch_threads=value("num_batch_threads"),
        allowed_batch_sizes=sizes,
        pad_variable_length_inputs=given.pad_variable_length_inputs,
        enable_large_batch_splitting=splits,
        max_execution_batch_size=value("max_execution_batch_size"),
    )
    last = found.max_execution_batch_size if splits else found.max_batch_size
    if sizes and (list(sizes) != sorted(set(sizes)) or sizes[-1] != last):
        raise InvalidInput(
            "allowed_batch_sizes must be monotonically increasing, and its last entry equal to "
            f"{'max_execution_batch_size' if splits else 'max_batch_size'}; got {list(sizes)}"
        )
    return found


def read_metrics_path(text: str) -> str | None:
    """
    Return the path of the metrics that a ``monitoring_config_file`` asks for; None: no metrics.

    Raises:
        InvalidInput: it is not in the text format.
    """
    given = _read(text, messages.MonitoringConfig()).prometheus_config
    return (given.path or METRICS_PATH) if given.enable else None


@dataclass(frozen=True, slots=True)
class Tls:
    """``SSLConfig``: PEM texts."""

    server_key: str
    server_cert: str
    custom_ca: str
    client_verify: bool


def read_ssl(text: str) -> Tls:
    """
    Return the certificates of an ``ssl_config_file``.

    Raises:
        InvalidInput: it is not in the text format.
    """
    given = _read(text, messages.SSLConfig())
    return Tls(given.server_key, given.server_cert, given.custom_ca, given.client_verify)


def _read(text: str, message: Any) -> Any:
    try:
        return text_format.Parse(text, message, descriptor_pool=pool())
    except (text_format.ParseError, UnicodeDecodeError) as exc:
        name = message.DESCRIPTOR.name
        raise InvalidInput(f"Error parsing text-format {name}: {exc}") from None
