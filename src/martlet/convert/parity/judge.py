"""The original in its own library: what all that is made of a model is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from martlet import formats
from martlet.certificate import Certificate, Limits
from martlet.convert.asking.constants import constants_of
from martlet.convert.asking.draws import random_rows, take
from martlet.convert.asking.probes import Probe, probes_for, sorted_out
from martlet.convert.asking.ranges import Domain, default_signature, domain_of
from martlet.convert.asking.rows import Logged
from martlet.convert.parity.compare import certify
from martlet.convert.to_onnx import Bounds, to_onnx
from martlet.convert.to_onnx.strict import Strict
from martlet.servable import Servable
from martlet.tensors import Tensors

_SAMPLE = 512


@dataclass(frozen=True)
class Judge:
    """
    One signature of an opened model, and what it may be asked.

    Args:
        path, format: Of the model's file or folder.
        servable: The model.
        domain: What the signature takes, found by asking.
        logged: Real rows, if there are any.
        trusted: The file may run code that it contains.
        seed: Of the random rows.
    """

    path: Path
    format: str
    servable: Servable
    domain: Domain
    logged: Probe | None = None
    trusted: bool = False
    seed: int = 0

    @classmethod
    def of(
        cls,
        path: Path,
        format: str,
        servable: Servable,
        logged: Probe | None = None,
        *,
        signature_name: str = "",
        trusted: bool = False,
        seed: int = 0,
    ) -> Judge:
        """
        Find what *servable* may be asked.

        Raises:
            UnsupportedModel: as ``domain_of``.
        """
        domain = domain_of(
            servable,
            signature_name,
            constants=constants_of(path, format),
            logged=None if logged is None else logged.inputs,
        )
        return cls(path, format, servable, domain, logged, trusted, seed)

    def strict(self) -> Judge:
        """
        Return one that judges what an ONNX file has a way to say (see `Strict`).

        Logged rows tell it what inputs hold, and are no probe: not all of them need an answer.

        Raises:
            UnsupportedModel: nothing is left that can be asked.
        """
        of = Judge.of(
            self.path, self.format, strictly(self.servable, self.format), self.logged,
            signature_name=self.domain.name, trusted=self.trusted, seed=self.seed,
        )  # fmt: skip
        return replace(of, logged=None)

    def sample(self) -> Tensors:
        """Return a few hundred rows that it answers: the logged ones, or random ones."""
        if self.logged is not None:
            return self.logged.inputs
        drawn = random_rows(self.domain, _SAMPLE, np.random.default_rng(self.seed))
        answered, _ = sorted_out(self.servable, self.domain, drawn)
        return take(drawn, answered) if len(answered) else self.domain.base

    @cached_property
    def probes(self) -> list[Probe]:
        """What candidates are asked."""
        return probes_for(self.servable, self.domain, self.logged, seed=self.seed)

    def certify(
        self,
        step: str,
        candidate: Servable,
        made: Path,
        limits: Limits,
        names: Sequence[str] | None = None,
    ) -> Certificate:
        """Compare *candidate*, opened from *made*, over all probes (see ``parity.certify``)."""
        return certify(
            step,
            self.servable,
            candidate,
            self.probes,
            signature_name=self.domain.name,
            files=(self.path, made),
            names=names,
            limits=limits,
        )

    def to_onnx(self, made: Path, bounds: Bounds = Bounds()) -> Path:
        """Convert the signature (see ``to_onnx.to_onnx``): nobody has compared what comes out."""
        base = self.domain.base
        return to_onnx(
            self.path,
            self.format,
            self.domain.name,
            self.domain.signature,
            made,
            # Three rows: an exporter that follows a call with one takes it for a constant.
            sample={n: np.repeat(v, 3, axis=0) if v.ndim else v for n, v in base.items()},
            trusted=self.trusted,
            bounds=bounds,
        )


def strictly(servable: Servable, format: str) -> Strict:
    """Return *servable* without what ONNX has no way to say; in PMML an empty text is missing."""
    return Strict(servable, empty=format == "pmml")


@contextmanager
def judging(
    path: Path,
    format: str | None = None,
    rows: Logged | None = None,
    *,
    signature_name: str = "",
    trusted: bool = False,
    strict: bool = False,
) -> Iterator[Judge]:
    """
    Open the model at *path* to be compared with.

    Args:
        format: None: found by content.
        rows: Real rows, in columns named as the inputs.
        signature_name: "" for the one that a caller who names none means.
        strict: Without what an ONNX file has no way to say (see `Strict`).

    Raises:
        MartletError: it does not open, cannot be asked, or *rows* do not fit.
    """
    chosen = format or formats.sniff(path).name
    with closing(formats.load(path, formats.LoadOptions(trusted), chosen)) as opened:
        servable = strictly(opened, chosen) if strict else opened
        name = signature_name or default_signature(servable)
        logged = None if rows is None else rows.probe(servable.signatures[name])
        yield Judge.of(path, chosen, servable, logged, signature_name=name, trusted=trusted)
