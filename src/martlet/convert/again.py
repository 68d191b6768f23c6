"""Compares an imported package again with the original that lies in it."""

from __future__ import annotations

import math
import time
from pathlib import Path

from martlet.certificate import Certificate, digests_of, read_certificates
from martlet.convert.asking.rows import Logged
from martlet.convert.parity.judge import judging
from martlet.convert.report import Step
from martlet.errors import MissingExtra, UnsupportedModel, first_line
from martlet.formats.package import original_in
from martlet.formats.package.manifest import CERTIFICATE, Manifest
from martlet.servable import Servable


def compared_again(
    path: Path, package: Servable, rows: Logged | None = None, *, trusted: bool = False
) -> Step:
    """
    Compare *package*, opened from *path*, with its original: a certificate alone is only a text.

    If that cannot be done here (the original's library is missing, or the package's numbers differ
    on purpose, having fewer bits), the certificate is believed, and the step says so.

    Raises:
        UnsupportedModel: it does not answer as its original does, or the original is not the one
            that was certified.
    """
    begun = time.perf_counter()
    certificate = read_certificates(path / CERTIFICATE)[-1]
    manifest = Manifest.read(path)
    original = original_in(path, certificate)
    certificate.demand_original(digests_of(original), str(original))

    def step(why: str, found: Certificate | None = None) -> Step:
        return Step("compare", True, why, time.perf_counter() - begun, found)

    if certificate.limits.relative == math.inf:
        return step("its numbers were changed on purpose: its certificate is believed")
    format, name = manifest.made_from.get("format"), manifest.signature_name
    try:
        with judging(original, format, rows, signature_name=name, trusted=trusted) as judge:
            found = judge.certify("compare", package, path, certificate.limits, manifest.files)
    except (MissingExtra, UnsupportedModel) as exc:
        return step(
            f"the original in it cannot be asked here ({first_line(exc)}): its certificate is "
            "believed"
        )
    found.demand(str(path))
    return step("it answers as the original that lies in it", found)
