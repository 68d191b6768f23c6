"""The states of a model's versions, as ``GET /v1/models/NAME`` tells them.

Source: tensorflow_serving/model_servers/get_model_status_impl.cc.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from martlet.errors import ModelNotFound
from martlet.states import VersionStatus


def choose(
    name: str, known: Sequence[VersionStatus], version: int | None = None
) -> list[VersionStatus]:
    """
    Return the states that are *known* of a model's versions, or that of *version* alone.

    Raises:
        ModelNotFound: in upstream's words: there is none.
    """
    if version is None:
        if not known:
            raise ModelNotFound(f"Could not find any versions of model {name}")
        return list(known)
    found = [each for each in known if each.version == version]
    if not found:
        raise ModelNotFound(f"Could not find version {version} of model {name}")
    return found


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
