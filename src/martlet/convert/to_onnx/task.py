"""What a converter is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from martlet.tensors import Signature, Tensors


@dataclass(frozen=True, slots=True)
class Task:
    """
    One signature of one model.

    Args:
        path: The model's file or folder.
        name, signature: The signature's; what comes out has its inputs and outputs.
        sample: Rows that the model answers, without its text inputs.
        trusted: Whether the file may run code that it contains.
    """

    path: Path
    name: str
    signature: Signature
    sample: Tensors
    trusted: bool = False
