"""What the server and its models say of themselves: metadata, configuration, statistics.

Source: kserve/open-inference-protocol inference_rest.md; triton-inference-server/server
docs/protocol/extension_{model_configuration,model_repository,statistics}.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from martlet.states import State, VersionStatus
from martlet.tensors import Signature, Spec
from martlet.wire.openinference.datatypes import NAMES

SERVER = "martlet"
EXTENSIONS = [
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "statistics",
]
PLATFORM = "martlet"

_CONFIG_TYPES = {name: f"TYPE_{name}" for name in NAMES.values()} | {"BYTES": "TYPE_STRING"}

REPOSITORY_STATES = {
    State.START: "UNKNOWN",
    State.LOADING: "LOADING",
    State.AVAILABLE: "READY",
    State.UNLOADING: "UNLOADING",
    State.END: "UNAVAILABLE",
}


def server_metadata(version: str) -> dict[str, Any]:
    """Return the body of ``GET /v2``."""
    return {"name": SERVER, "version": version, "extensions": EXTENSIONS}


def tensor_metadata(specs: Mapping[str, Spec]) -> list[dict[str, Any]]:
    """Return what *specs* are; of unknown rank is said to be one size that varies."""
    return [
        {
            "name": spec.name,
            "datatype": datatype(spec),
            "shape": [-1] if spec.shape is None else list(spec.shape),
        }
        for spec in specs.values()
    ]


def datatype(spec: Spec) -> str:
    """Return the protocol's name of *spec*'s type; a type that it has no name for, by ours."""
    return NAMES.get(spec.dtype) or str(spec.dtype.value).upper()


def model_metadata(name: str, versions: Sequence[int], signature: Signature) -> dict[str, Any]:
    """Return the body of ``GET /v2/models/NAME``."""
    return {
        "name": name,
        "versions": [str(each) for each in versions],
        "platform": PLATFORM,
        "inputs": tensor_metadata(signature.inputs),
        "outputs": tensor_metadata(signature.outputs),
    }


def model_config(name: str, signature: Signature) -> dict[str, Any]:
    """Return the body of ``GET /v2/models/NAME/config``. Shapes are whole, batch too."""
    return {
        "name": name,
        "platform": PLATFORM,
        "backend": PLATFORM,
        "max_batch_size": 0,
        "input": [_config(each) for each in signature.inputs.values()],
        "output": [_config(each) for each in signature.outputs.values()],
    }


def _config(spec: Spec) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": spec.name,
        "data_type": _CONFIG_TYPES.get(NAMES.get(spec.dtype, ""), "TYPE_INVALID"),
        "dims": [-1] if spec.shape is None else list(spec.shape),
    }
    return found if spec.required else found | {"optional": True}


def repository_entry(name: str, status: VersionStatus) -> dict[str, str]:
    """Return one version of the repository's index."""
    return {
        "name": name,
        "version": str(status.version),
        "state": REPOSITORY_STATES[status.state],
        "reason": status.message or ("unloaded" if status.state is State.END else ""),
    }


def statistics(
    name: str,
    version: int,
    *,
    succeeded: int = 0,
    succeeded_ns: int = 0,
    failed: int = 0,
    failed_ns: int = 0,
    model_ns: int = 0,
    rows: int = 0,
    last_ms: int = 0,
) -> dict[str, Any]:
    """Return one version's statistics. What is not measured apart counts nothing: queue, cache."""
    nothing = {"count": 0, "ns": 0}
    rest = max(0, succeeded_ns - model_ns)
    return {
        "name": name,
        "version": str(version),
        "last_inference": last_ms,
        "inference_count": rows,
        "execution_count": succeeded,
        "inference_stats": {
            "success": {"count": succeeded, "ns": succeeded_ns},
            "fail": {"count": failed, "ns": failed_ns},
            "queue": nothing,
            "compute_input": {"count": succeeded, "ns": rest},
            "compute_infer": {"count": succeeded, "ns": model_ns},
            "compute_output": nothing,
            "cache_hit": nothing,
            "cache_miss": nothing,
        },
        "batch_stats": [],
        "memory_usage": [],
    }
