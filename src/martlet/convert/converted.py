"""A conversion for its own sake: an ONNX file, and the certificate that says how good it is."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import numpy as np

from martlet import formats
from martlet.certificate import Certificate, Limits
from martlet.convert.parity import certify
from martlet.convert.probes import probes_for
from martlet.convert.ranges import domain_of
from martlet.convert.to_onnx import to_onnx
from martlet.convert.words import words_of
from martlet.servable import DEFAULT_SIGNATURE, Servable
from martlet.tensors import Signature, Tensor, Tensors


def converted(
    path: Path, format: str, made: Path, signature_name: str, limits: Limits, trusted: bool = False
) -> Certificate:
    """
    Convert one signature of the model at *path* to the ONNX file *made*, and compare the two.

    Raises:
        UnsupportedModel: it does not convert, or cannot be asked.
        MissingExtra: the converters are not installed.
    """
    options = formats.LoadOptions(trusted)
    with (
        closing(formats.load(path, options, format)) as original,
        tempfile.TemporaryDirectory(prefix="martlet-") as scratch,
    ):
        domain = domain_of(original, signature_name, words=words_of(path, format))
        file = to_onnx(
            path,
            format,
            domain.name,
            domain.signature,
            Path(scratch) / made.name,
            sample=repeated(domain.base),
            trusted=trusted,
        )
        for each in sorted(file.parent.glob(f"{file.name}*")) if format != "onnx" else [file]:
            if each.name in (file.name, f"{file.name}.data"):
                shutil.copyfile(each, made.with_name(each.name.replace(file.name, made.name, 1)))
        with closing(formats.load(made, format="onnx")) as candidate:
            return certify(
                "convert",
                original,
                Renamed(candidate, DEFAULT_SIGNATURE, domain.name),
                probes_for(original, domain),
                signature_name=domain.name,
                files=(path, made),
                limits=limits,
            )


class Renamed:
    """One signature of a servable, *own*, under another name."""

    def __init__(self, servable: Servable, own: str, name: str) -> None:
        self._servable = servable
        self._own = own
        self.signatures: Mapping[str, Signature] = {name: servable.signatures[own]}

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """Ask for it by its own name."""
        return self._servable.predict(inputs, self._own)

    def close(self) -> None:
        """Close the servable within."""
        self._servable.close()


def repeated(base: Tensors) -> dict[str, Tensor]:
    """Three rows: an exporter that follows a call with one takes it for a constant."""
    return {n: np.repeat(v, 3, axis=0) if v.ndim else v for n, v in base.items()}
