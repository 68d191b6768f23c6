"""Packages: the form in which a model brought online serves, certified to answer as it did."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

from martlet import formats
from martlet.certificate import Certificate, digests_of, read_certificates
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
    from martlet.formats.package.paired import Paired
    from martlet.formats.package.servable import PackageServable

    path = path.parent if path.is_file() else path
    certificates = read_certificates(path / CERTIFICATE)
    if not certificates:
        raise UnsupportedModel(f"{path / CERTIFICATE} holds no certificate; import the model again")
    last = certificates[-1]
    last.demand(str(path))
    manifest = Manifest.read(path)
    last.demand_files(digests_of(path, manifest.files), str(path))
    if manifest.beside is None:
        return PackageServable(path, options)
    original = original_in(path, last)
    last.demand_original(digests_of(original), str(original))
    with ExitStack() as stack:
        graph = stack.enter_context(closing(PackageServable(path, options)))
        beside = formats.load(original, options, manifest.made_from.get("format"))
        paired = Paired(graph, stack.enter_context(closing(beside)), manifest.signature_name,
                        manifest.beside)  # fmt: skip
        stack.pop_all()
    return paired


def original_in(package: Path, certificate: Certificate) -> Path:
    """
    Return the original that lies in *package*: a folder, or the one file that was certified.

    Raises:
        UnsupportedModel: it is not there.
    """
    folder = package / "model"
    if set(certificate.original) != {""}:
        return folder
    files = [each for each in sorted(folder.glob("*")) if each.is_file()]
    # Beside an ONNX file may lie its tensors.
    same = [each for each in files if digests_of(each) == certificate.original]
    found = same or files
    if len(found) != 1:
        raise UnsupportedModel(f"{folder} does not hold the one file that was certified")
    return found[0]


def _sniff(path: Path) -> bool:
    return (path / NAME).is_file() if path.is_dir() else path.name == NAME and path.is_file()


FORMAT = Format(name="package", suffixes=(NAME,), sniff=_sniff, load=load)
