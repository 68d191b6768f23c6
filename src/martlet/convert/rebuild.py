"""From a certified graph to the packages that may serve: rewritten, extracted, split."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from martlet import certificate, formats
from martlet.certificate import Certificate
from martlet.convert.parity.judge import Judge
from martlet.convert.report import Step
from martlet.convert.steps import Steps
from martlet.errors import MartletError, UnsupportedModel
from martlet.formats.onnx.servable import freed
from martlet.tensors import Signature, Tensors

_KEPT_BESIDE = ("golden.json", "settings.toml", "assets.extra")
"""What a version's folder may hold for serving, whatever its model is."""

_SAID = {
    "extract": "writing the package",
    "split": "splitting it",
    "cross": "compiling what is left for each item",
}

Package = tuple[Path, Step]
"""A package's folder, and the step that made it."""


class Rebuilding:
    """
    Makes packages of one model's graph.

    Args:
        steps: Where each result is certified and noted.
        scratch: The folder that packages are made in.
        user_inputs: The inputs that are the user's: the graph is split. Empty: it is not.
        catalogue: Every item there is, where the user gave them.
        aliases: Other names of the signature.
    """

    def __init__(
        self,
        steps: Steps,
        scratch: Path,
        user_inputs: Sequence[str],
        catalogue: Tensors | None,
        aliases: Sequence[str],
    ) -> None:
        self._steps = steps
        self._judge = steps.judge
        self._scratch = scratch
        self._user_inputs = list(user_inputs)
        self._catalogue = catalogue
        self._aliases = aliases

    def packages(self, graph: Path) -> list[Package]:
        """Rewrite, extract and split *graph*, an ONNX file; return the packages that passed."""
        import onnx

        from martlet.convert.rewriting.rewrite import rewrite

        begun = time.perf_counter()
        steps, judge = self._steps, self._judge
        steps.say("finding its lookups")
        model = onnx.load(str(graph))
        if judge.format == "onnx" and _one_row(model, judge.domain.signature):
            model = onnx.load_from_string(freed(graph))
        if not all(each.type.HasField("tensor_type") for each in model.graph.output):
            steps.note("rewrite", False, "it gives sequences or maps, not tensors alone", begun)
            return []
        inputs = [dict(each.inputs) for each in judge.probes if each.kind in ("random", "edge")]
        lookups: Sequence[Any] = ()
        try:
            found = rewrite(model, inputs, judge.servable, judge.domain.name, judge.seed)
        except MartletError as exc:
            steps.note("rewrite", False, str(exc), begun)
        else:
            rewritten = self._scratch / "rewritten.onnx"
            onnx.save(found.model, str(rewritten))
            told = _told(found.lookups, found.model)
            judged, us, why = steps.certify_file("rewrite", rewritten)
            kept = judged is not None and judged.passed and bool(found.lookups or found.guarded)
            steps.note("rewrite", kept, why or "; ".join([told, *found.kept]), begun, judged, us)
            if kept:
                model, lookups = found.model, found.lookups
        packages = [self._package("extract", model, lookups)]
        if self._user_inputs:
            packages += self._split(model, lookups)
        return [each for each in packages if each is not None]

    def _package(
        self, name: str, model: Any, lookups: Sequence[Any], **parts: Any
    ) -> Package | None:
        """Write and certify a package; None where it did not pass."""
        from martlet.convert.package import write_package
        from martlet.formats.package.servable import PackageServable

        begun = time.perf_counter()
        steps, judge = self._steps, self._judge
        steps.say(_SAID[name])
        folder = self._scratch / name
        try:
            written = write_package(
                folder,
                model,
                judge.domain.signature,
                judge.path,
                lookups=lookups,
                signature_name=judge.domain.name,
                aliases=self._aliases,
                made_from=made_from(judge),
                **parts,
            )
            candidate = PackageServable(folder, formats.LoadOptions())
        except MartletError as exc:
            steps.note(name, False, str(exc), begun)
            return None
        with closing(candidate):
            found, us = steps.certify(name, candidate, folder, written.files)
        sizes = sum((folder / each).stat().st_size for each in written.files)
        tables = [each for each in written.files if each.endswith(".table")]
        count = "1 table" if len(tables) == 1 else f"{len(tables)} tables"
        why = f"{count} beside the graph, {sizes / 1e6:.1f} MB served"
        earlier = steps.kept()
        step = steps.note(name, found.passed, "; ".join(found.faults[:2]) or why, begun, found, us)
        if not found.passed:
            return None
        sealed(folder, judge, [*earlier, found])
        return folder, step

    def _split(self, model: Any, lookups: Sequence[Any]) -> list[Package | None]:
        """Split it; where what is left for a pair is sums and layers, that is a package too."""
        from martlet.convert.splitting.crossing import crossing
        from martlet.convert.splitting.split import catalogue_of, split

        begun = time.perf_counter()
        rows = next(each.inputs for each in self._judge.probes if each.kind == "random")
        try:
            found = split(model, self._user_inputs, rows, lookups)
        except UnsupportedModel as exc:
            self._steps.note("split", False, str(exc), begun)
            return []
        catalogue = self._catalogue
        if catalogue is None and found.item is not None:
            catalogue = catalogue_of(found.item, lookups)
        parts: dict[str, Any] = {"user": found.user, "item": found.item, "catalogue": catalogue}
        made = [self._package("split", found.main, lookups, **parts)]
        begun = time.perf_counter()
        try:
            crossed = crossing(found, rows)
        except UnsupportedModel as exc:
            self._steps.note("cross", False, f"onnxruntime runs what is left: {exc}", begun)
            return made
        parts |= {"user": crossed.user, "item": crossed.item, "cross": crossed.cross}
        return [*made, self._package("cross", found.main, lookups, **parts)]


def _told(lookups: Sequence[Any], model: Any) -> str:
    """Return what was found, in a person's words: the inputs, and the sizes of their tables."""
    from martlet.convert.rewriting.lookups import copies

    sizes = {each.name: tuple(each.dims) for each in model.graph.initializer}
    found = []
    for each in lookups:
        column = "" if each.column is None else f" (column {each.column})"
        size = next((sizes[y] for y in (each.table, *copies(each.table)) if y in sizes), ())
        what = f"{each.ids.count:,} rows of {size[1]}" if len(size) == 2 else "a table"
        least = len(each.ids.known[0])
        some = f", of which {each.asked:,} were asked" if 0 < each.asked < least else ""
        found.append(f"{each.input}{column} looks up {what}{some}")
    return "; ".join(found) or "no lookups of large tables"


def _one_row(model: Any, signature: Signature) -> bool:
    """Whether the graph declares one row where its servable takes any number."""
    return any(
        each.type.tensor_type.shape.dim and each.type.tensor_type.shape.dim[0].dim_value == 1
        for each in model.graph.input
        if each.name in signature.inputs and (signature.inputs[each.name].shape or ())[:1] == (-1,)
    )


def made_from(judge: Judge) -> dict[str, str]:
    """Return what a package remembers of its original."""
    return {
        "format": judge.format,
        "digest": certificate.digest_of(judge.path),
        "source": str(judge.path.absolute()),
    }


def sealed(folder: Path, judge: Judge, certificates: Sequence[Certificate]) -> None:
    """Write the package's certificates, and beside them what the original's folder serves with."""
    certificate.write_certificates(folder / "certificate.json", certificates)
    for name in _KEPT_BESIDE if judge.path.is_dir() else ():
        source = judge.path / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        elif source.is_file():
            shutil.copy2(source, folder / name)
