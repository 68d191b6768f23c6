"""The states of a model's versions, as ``GET /v1/models/NAME`` tells them.

Source: tensorflow_serving/model_servers/get_model_status_impl.cc.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from martlet.errors import ModelNotFound
from martlet.states import VersionStatus


def choose(
    name: str, found: Sequence[VersionStatus], version: int | None = None
) -> Sequence[VersionStatus]:
    """
    Return the states *found* of the model's versions, or that of *version* alone.

    Raises:
        ModelNotFound: in upstream's words: there is none.
    """
    if version is None:
        if not found:
            raise ModelNotFound(f"Could not find any versions of model {name}")
        return found
    chosen = [each for each in found if each.version == version]
    if not chosen:
        raise ModelNotFound(f"Could not find version {version} of model {name}")
    return chosen


def status_json(found: Sequence[VersionStatus]) -> bytes:
    """Return the body of ``GET /v1/models/NAME``."""
    return orjson.dumps(
        {
            "model_version_status": [
                {
                    "version": str(each.version),
                    "state": each.state.value,
                    "status": {
                        "error_code": "OK" if each.error is None else each.error.name,
                        "error_message": each.message,
                    },
                }
                for each in found
            ]
        },
        option=orjson.OPT_INDENT_2,
    )
