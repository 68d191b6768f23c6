"""Packages: what martlet makes of a model it brought online, certified to answer as it did."""

from __future__ import annotations

from pathlib import Path

from martlet.certificate import digests_of, read_certificates
from martlet.errors import UnsupportedModel
from martlet.formats import Format, LoadOptions
from martlet.formats.package.manifest import CERTIFICATE, NAME, Manifest
from martlet.servable import Servable


def load(path: Path, options: LoadOptions) -> Servable:
    """
    Open a package whose certificate passed and covers exactly its files.

    Raises:
        UnsupportedModel: the certificate is missing, failed, or of other files; or the package
            is damaged.
    """
    from martlet.formats.package.servable import PackageServable

    path = path.parent if path.is_file() else path
    certificates = read_certificates(path / CERTIFICATE)
    if not certificates:
        raise UnsupportedModel(f"{path / CERTIFICATE} holds no certificate; import the model again")
    last = certificates[-1]
    last.demand(str(path))
    last.demand_files(digests_of(path, Manifest.read(path).files), str(path))
    return PackageServable(path, options)


def _sniff(path: Path) -> bool:
    return (path / NAME).is_file() if path.is_dir() else path.name == NAME and path.is_file()


FORMAT = Format(name="package", suffixes=(NAME,), sniff=_sniff, load=load)
