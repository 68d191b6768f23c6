"""The states of a model's versions, as ``GET /v1/models/NAME`` tells them.

Source: tensorflow_serving/model_servers/get_model_status_impl.cc.
"""

from __future__ import annotations

import orjson

from martlet.errors import ModelNotFound
from martlet.servable import Servable
from martlet.serving.traffic import Model
from martlet.states import VersionStatus


def statuses(
    name: str, model: Model[Servable] | None, version: int | None = None
) -> list[VersionStatus]:
    """
    Return the states of *model*'s versions, highest first, or that of *version* alone.

    Raises:
        ModelNotFound: in upstream's words: there is none.
    """
    found = list(model.statuses) if model is not None else []
    if version is None:
        if not found:
            raise ModelNotFound(f"Could not find any versions of model {name}")
        return found
    chosen = [each for each in found if each.version == version]
    if not chosen:
        raise ModelNotFound(f"Could not find version {version} of model {name}")
    return chosen


def status_json(found: list[VersionStatus]) -> bytes:
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
