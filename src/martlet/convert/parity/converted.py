"""Comparisons for their own sake: of a conversion to ONNX, and of any two models."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from martlet import formats
from martlet.certificate import Certificate, Limits
from martlet.convert.parity.judge import Judge, judging
from martlet.errors import InvalidInput
from martlet.servable import DEFAULT_SIGNATURE, Servable
from martlet.tensors import Signature, Tensor, Tensors


def converted(
    path: Path,
    format: str | None,
    made: Path,
    signature_name: str = "",
    limits: Limits = Limits(),
    trusted: bool = False,
) -> Certificate:
    """
    Convert one signature of the model at *path* to the ONNX file *made*, and compare the two.

    Raises:
        UnsupportedModel: it does not convert, or cannot be asked.
        MissingExtra: the converters are not installed.
    """
    with judging(
        path, format, signature_name=signature_name, trusted=trusted, strict=True
    ) as judge:
        return conversion(judge, made, limits)


def conversion(judge: Judge, made: Path, limits: Limits) -> Certificate:
    """Convert what *judge* judges to the ONNX file *made*, and compare the two."""
    with tempfile.TemporaryDirectory(prefix="martlet-") as scratch:
        file = judge.to_onnx(Path(scratch) / made.name)
        for each in sorted(file.parent.glob(f"{file.name}*")) if judge.format != "onnx" else [file]:
            if each.name in (file.name, f"{file.name}.data"):
                shutil.copyfile(each, made.with_name(each.name.replace(file.name, made.name, 1)))
    with closing(formats.load(made, format="onnx")) as candidate:
        named = Renamed(candidate, DEFAULT_SIGNATURE, judge.domain.name)
        return judge.certify("convert", named, made, limits)


def compared(judge: Judge, path: Path, format: str | None, limits: Limits) -> Certificate:
    """
    Compare the model at *path* with what *judge* judges.

    Raises:
        InvalidInput: it has no signature of that name, or wants an input that the other has not.
        MartletError: it does not open.
    """
    name = judge.domain.name
    options = formats.LoadOptions(trusted=judge.trusted)
    with closing(formats.load(path, options, format)) as candidate:
        if name not in candidate.signatures:
            raise InvalidInput(f"{path} has no signature {name!r}, which {judge.path} has")
        asked = judge.domain.signature.inputs
        for wanted, spec in candidate.signatures[name].inputs.items():
            if spec.required and wanted not in asked:
                raise InvalidInput(
                    f"{path} wants the input {wanted!r}, which {judge.path} has not; it has "
                    + ", ".join(map(repr, asked))
                )
        return judge.certify("compare", candidate, path, limits)


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
