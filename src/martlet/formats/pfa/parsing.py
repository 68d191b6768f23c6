"""The text of a PFA document: JSON or YAML, within limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from martlet.errors import MissingExtra, UnsupportedModel

_MAX_BYTES = 512 << 20
_MAX_YAML_BYTES = 64 << 20
_MAX_YAML_DEPTH = 500


def parse(path: Path) -> dict[str, Any]:
    """
    Return the document at *path*, JSON or YAML.

    Raises:
        UnsupportedModel: it is neither, or too large or too deep.
        MissingExtra: it is YAML, and no library that reads it is installed.
    """
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise UnsupportedModel(f"{path} is larger than {_MAX_BYTES} bytes")
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise UnsupportedModel(f"{path} is not text: {exc}") from None
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise UnsupportedModel(f"{path} is not JSON: {exc}") from None
    else:
        found = _yaml(path, text)
    if not isinstance(found, dict):
        raise UnsupportedModel(f"{path} is not a PFA document")
    return found


def _yaml(path: Path, text: str) -> Any:
    try:
        import yaml
    except ModuleNotFoundError as exc:
        raise MissingExtra("PFA in YAML", "pfa") from exc
    if len(text) > _MAX_YAML_BYTES:
        raise UnsupportedModel(f"{path} is larger than {_MAX_YAML_BYTES} bytes of YAML")
    try:
        # An alias makes one node stand in many places: a few lines can unfold to gigabytes.
        # Each level makes the reader slower, too: tens of thousands of them take it minutes.
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_YAML_DEPTH:
                raise UnsupportedModel(f"{path} is nested deeper than {_MAX_YAML_DEPTH}")
            if isinstance(event, yaml.AliasEvent):
                raise UnsupportedModel(f"{path}: YAML with aliases is not supported")
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise UnsupportedModel(f"{path} is neither JSON nor YAML: {str(exc)[:200]}") from None
