"""What is registered: immutable versions of models and tables, and the labels that name them."""

from __future__ import annotations

from martlet.registry.registry import Registry
from martlet.registry.version import (
    File,
    Kind,
    Lineage,
    Model,
    Move,
    Standing,
    Version,
)

__all__ = ["File", "Kind", "Lineage", "Model", "Move", "Registry", "Standing", "Version"]
