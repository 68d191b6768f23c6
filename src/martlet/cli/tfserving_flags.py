"""``tensorflow_model_server``'s flags under their own names, for ``martlet serve``.

Source: tensorflow_serving/model_servers/main.cc and server.h (names, kinds and defaults).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from martlet.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Flags:
    """What the flags say, by their own names. A default here is upstream's."""

    port: int | None = None
    grpc_socket_path: str = ""
    rest_api_port: int | None = None
    rest_api_timeout_in_ms: int = 30_000
    rest_api_enable_cors_support: bool = False
    allow_version_labels_for_unavailable_models: bool = False
    enable_batching: bool = False
    batching_parameters_file: str = ""
    enable_per_model_batching_parameters: bool = False
    model_config_file: str = ""
    model_config_file_poll_wait_seconds: int = 0
    model_name: str = "default"
    model_base_path: str = ""
    file_system_poll_wait_seconds: int = 1
    enable_model_warmup: bool = True
    num_request_iterations_for_warmup: int = 0
    monitoring_config_file: str = ""
    ssl_config_file: str = ""
    enable_serialization_as_tensor_content: bool = False
    enable_grpc_healthcheck_service: bool = False
    ignored: tuple[str, ...] = ()
    """Flags that have no meaning here, as they were given."""
    given: frozenset[str] = field(default_factory=frozenset)
    """The names of those that were given."""


# They tune TensorFlow's server, not what a client sees.
_IGNORED = frozenset(
    {
        "rest_api_num_threads",
        "grpc_max_threads",
        "grpc_channel_arguments",
        "num_load_threads",
        "num_unload_threads",
        "max_num_load_retries",
        "load_retry_interval_micros",
        "flush_filesystem_caches",
        "saved_model_tags",
        "enable_signature_method_name_check",
        "tensorflow_session_parallelism",
        "tensorflow_intra_op_parallelism",
        "tensorflow_inter_op_parallelism",
        "tensorflow_session_config_file",
        "enable_profiler",
        "prefer_tflite_model",
        "num_tflite_pools",
        "num_tflite_interpreters_per_pool",
        "xla_cpu_compilation_enabled",
        "xla_gpu_compilation_enabled",
        "enable_cors_support",
        "mixed_precision",
        "platform_config_file",
        "thread_pool_factory_config_file",
        "per_process_gpu_memory_fraction",
        "remove_unused_fields_from_bundle_metagraph",
        "use_alts_credentials",
        "skip_initialize_tpu",
        "enable_signature_name_check",
        "v",
    }
)
_SETTINGS = {each.name: each for each in fields(Flags) if each.name not in ("ignored", "given")}
_BOOLS = {"true": True, "1": True, "false": False, "0": False}


def read(arguments: Sequence[str]) -> Flags:
    """
    Return what *arguments* say: each ``--name=value``, or ``--name`` alone for a boolean.

    Raises:
        InvalidInput: one is not a flag, or its value is of another kind.

    >>> read(["--rest_api_port=8501", "--model_name=half", "--enable_batching"]).model_name
    'half'
    """
    values: dict[str, Any] = {}
    ignored = []
    for argument in arguments:
        name, equals, text = argument.removeprefix("--").partition("=")
        if not argument.startswith("--"):
            raise InvalidInput(f"unexpected argument {argument!r}; see martlet serve --help")
        if name in _IGNORED:
            ignored.append(argument)
        elif name in _SETTINGS:
            values[name] = _value(name, text if equals else None)
        else:
            raise InvalidInput(f"no such option: --{name}; see martlet serve --help")
    return Flags(**values, ignored=tuple(ignored), given=frozenset(values))


def _value(name: str, text: str | None) -> Any:
    kind = str(_SETTINGS[name].type)
    if kind == "bool":
        found = True if text is None else _BOOLS.get(text.lower())
        if found is None:
            raise InvalidInput(f"--{name}={text}: give true or false")
        return found
    if text is None:
        raise InvalidInput(f"--{name} needs a value: --{name}=...")
    if kind.startswith("int"):
        try:
            return int(text)
        except ValueError:
            raise InvalidInput(f"--{name}={text}: give a whole number") from None
    return text


def contents(flag: str, path: str) -> str:
    """
    Return the text of the file that *flag* names.

    Raises:
        InvalidInput: it cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidInput(f"--{flag}: {path} cannot be read: {exc}") from None
