"""Bringing a model online: audited, converted, rewritten, split; what is not proved is not used.

Each step's result is compared with the original in its own library. What serves in the end is the
fastest that passed, and the original where nothing did: that is never a failure of the import.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from martlet import certificate, formats
from martlet.certificate import Certificate, Limits
from martlet.convert.audit import Audit, audit
from martlet.convert.catalogue import read_catalogue
from martlet.convert.converted import Renamed, repeated
from martlet.convert.parity import certify, compare, first_line
from martlet.convert.probes import Probe, count_rows, probes_for, random_rows
from martlet.convert.ranges import Domain, default_signature, domain_of
from martlet.convert.report import ORIGINAL, PACKAGE, Report, Step
from martlet.convert.rows import Logged
from martlet.convert.timing import microseconds
from martlet.convert.to_onnx import Bounds, can_convert, to_onnx
from martlet.convert.words import can_read, words_of
from martlet.errors import InvalidInput, MartletError, MissingExtra, UnsupportedModel
from martlet.formats.onnx import freed
from martlet.servable import Servable
from martlet.tensors import Signature, Tensors

log = logging.getLogger(__name__)

GAIN = 1.1
"""How many times faster a package must be to take the original's place."""
NO_LOSS = 0.95
"""The same, where tables left the graph: all workers share them, and rows of them can be set."""

_KEPT_BESIDE = ("golden.json", "settings.toml", "assets.extra")
"""What a version's folder may hold for serving, whatever its model is."""

_SAID = {
    "extract": "writing the package",
    "split": "splitting it",
    "cross": "compiling what is left for each item",
}

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    What the user asks for.

    Args:
        rows: Logged rows, if there are any.
        user_inputs: The inputs that are the user's and the context's: the model is split.
        items: Every item there is (see `read_catalogue`): their part is computed beforehand.
        limits: That every step is judged by.
        bounds: Of a conversion.
        trusted: The file may run code that it contains.
        seed: Of the random rows.
        live_tables: Tables leave the graph whatever that gains, so that their rows can be set.
    """

    rows: Logged | None = None
    user_inputs: tuple[str, ...] = ()
    items: Path | None = None
    limits: Limits = field(default_factory=Limits)
    bounds: Bounds = field(default_factory=Bounds)
    trusted: bool = False
    seed: int = 0
    live_tables: bool = False


def bring(path: Path, format: str, scratch: Path, wanted: Wanted, say: Say = print) -> Report:
    """
    Bring the model at *path* online, and report.

    Args:
        format: As ``martlet.formats`` names it.
        scratch: An empty folder; the package, if one serves, is made in it.
        say: Called with a few words as each step begins.

    Raises:
        MartletError: the original itself does not open, or *wanted* names inputs or columns
            that are not there. All else is said in the report.
    """
    say("opening the original")
    with closing(formats.load(path, formats.LoadOptions(wanted.trusted), format)) as original:
        work = _Work(path, format, scratch, wanted, original, say)
        return work.run()


class _Work:
    """The state of one bringing: what was found so far, and the steps that were taken."""

    def __init__(
        self, path: Path, format: str, scratch: Path, wanted: Wanted, original: Servable, say: Say
    ) -> None:
        self._path = path
        self._format = format
        self._scratch = scratch
        self._wanted = wanted
        self._original = original
        self._say = say
        self._steps: list[Step] = []
        self._us: dict[int, float] = {}
        self._audit: Audit | None = None
        self._domain: Domain
        self._catalogue: Tensors | None = None
        self._probes: list[Probe] = []
        self._aliases: list[str] = []

    def run(self) -> Report:
        wanted = self._wanted
        logged = None
        if wanted.rows is not None or wanted.items is not None:
            signature = self._original.signatures[default_signature(self._original)]
            if wanted.rows is not None:
                logged = wanted.rows.probe(signature)
            if wanted.items is not None:
                self._catalogue = read_catalogue(wanted.items, signature, wanted.user_inputs)
        try:
            self._ask(logged)
            unfit = self._unfit()
            if not unfit:
                self._measure(logged)
        except Exception as exc:  # whatever a model makes of made rows: it serves as it came
            log.debug("asking %s", self._path, exc_info=True)
            return self._original_serves(f"it cannot be asked: {first_line(exc)}")
        if unfit:
            return self._original_serves(unfit)
        packages: Sequence[tuple[Path, Step]] = ()
        begun = time.perf_counter()
        try:
            graph = self._convert()
            packages = self._rebuild(graph) if graph is not None else ()
        except MissingExtra as exc:
            self._step("convert", False, str(exc), begun)
        except InvalidInput:  # what the user named is not there
            raise
        except Exception as exc:  # whatever a library makes of a graph: the original serves
            log.debug("bringing %s online", self._path, exc_info=True)
            self._step("convert", False, f"{type(exc).__name__}: {first_line(exc)}", begun)
        return self._choose(packages)

    def _ask(self, logged: Probe | None) -> None:
        """Find what the model may be asked, and audit it."""
        self._say("finding what it takes")
        words = words_of(self._path, self._format)
        self._domain = domain_of(
            self._original, words=words, logged=None if logged is None else logged.inputs
        )
        specs = self._domain.signature.inputs
        self._catalogue = self._catalogue and {
            name: value.reshape(self._domain.shape(specs[name], len(value)))
            for name, value in self._catalogue.items()
        }
        self._say("auditing it")
        self._audit = audit(
            self._original,
            self._domain,
            self._wanted.rows,
            readable=can_read(self._format),
            seed=self._wanted.seed,
        )

    def _measure(self, logged: Probe | None) -> None:
        """Find what it is compared by, and how fast it is."""
        self._say("finding where its answers change")
        self._probes = probes_for(self._original, self._domain, logged, seed=self._wanted.seed)
        self._us = microseconds(self._original, self._domain.name, self._some_rows())

    def _unfit(self) -> str:
        """Return why no package can take the original's place; "" where one may."""
        if self._format == "package":
            return "it is a package already"
        if self._format != "onnx" and not can_convert(self._format):
            return f"there is no converter from {self._format}; its own reader serves it"
        called = [name for name, each in self._original.signatures.items() if each.inputs]
        others = [name for name in called if name != self._domain.name]
        self._aliases = [name for name in others if self._is_alias(name)]
        if len(self._aliases) < len(others):
            few = ", ".join(called[:4]) + (", ..." if len(called) > 4 else "")
            return f"it is called in {len(called)} ways ({few}), and a package has one"
        return ""

    def _is_alias(self, name: str) -> bool:
        """Whether the signature *name* is that of the domain by another name, as Keras writes."""
        own, other = self._domain.signature, self._original.signatures[name]
        if (own.inputs, own.outputs) != (other.inputs, other.outputs):
            return False
        some = random_rows(self._domain, 64, np.random.default_rng(self._wanted.seed))
        limits = Limits(relative=0.0, absolute=0.0)
        judged = compare(
            self._original,
            Renamed(self._original, name, self._domain.name),
            [Probe("random", some)],
            limits,
            self._domain.name,
        )
        return all(each.passed for each in judged)

    def _convert(self) -> Path | None:
        """Return the naive conversion, if it gives the right numbers."""
        begun = time.perf_counter()
        made = self._scratch / "converted.onnx"
        domain = self._domain
        if self._format != "onnx":
            self._say("converting it to ONNX")
        try:
            made = to_onnx(
                self._path,
                self._format,
                domain.name,
                domain.signature,
                made,
                sample=repeated(domain.base),
                trusted=self._wanted.trusted,
                bounds=self._wanted.bounds,
            )
        except UnsupportedModel as exc:
            self._step("convert", False, str(exc), begun)
            return None
        if self._format == "onnx":
            return made
        # An assertion that the converter lost is given back by the steps that follow, or the
        # last certificate refuses.
        limits = replace(self._wanted.limits, same_refusals=False)
        found, us, why = self._judge("convert", made, limits)
        kept = found is not None and found.passed
        self._step("convert", kept, why or "to ONNX", begun, found, us)
        return made if kept else None

    def _rebuild(self, converted: Path) -> list[tuple[Path, Step]]:
        """Rewrite, extract and split; return the packages that passed, with their steps."""
        import onnx

        from martlet.convert.rewrite import rewrite

        begun = time.perf_counter()
        self._say("finding its lookups")
        model = onnx.load(str(converted))
        if self._format == "onnx" and _one_row(model, self._domain.signature):
            model = onnx.load_from_string(freed(converted))
        if not all(each.type.HasField("tensor_type") for each in model.graph.output):
            self._step("rewrite", False, "it gives sequences or maps, not tensors alone", begun)
            return []
        inputs = [dict(each.inputs) for each in self._probes if each.kind in ("random", "edge")]
        lookups: Sequence[Any] = ()
        try:
            found = rewrite(model, inputs, self._original, self._domain.name, self._wanted.seed)
        except MartletError as exc:
            self._step("rewrite", False, str(exc), begun)
        else:
            rewritten = self._scratch / "rewritten.onnx"
            onnx.save(found.model, str(rewritten))
            told = ", ".join(map(str, found.lookups)) or "no lookups of large tables"
            judged, us, why = self._judge("rewrite", rewritten, self._wanted.limits)
            kept = judged is not None and judged.passed and bool(found.lookups)
            self._step("rewrite", kept, why or "; ".join([told, *found.kept]), begun, judged, us)
            if kept:
                model, lookups = found.model, found.lookups
        packages = [self._package("extract", model, lookups)]
        if self._wanted.user_inputs:
            packages += self._split(model, lookups)
        return [each for each in packages if each is not None]

    def _package(
        self, name: str, model: Any, lookups: Sequence[Any], **parts: Any
    ) -> tuple[Path, Step] | None:
        """Write and certify a package; None where it did not pass."""
        from martlet.convert.package import write_package
        from martlet.formats.package.servable import PackageServable

        begun = time.perf_counter()
        self._say(_SAID[name])
        folder = self._scratch / name
        domain = self._domain
        try:
            written = write_package(
                folder,
                model,
                domain.signature,
                self._path,
                lookups=lookups,
                signature_name=domain.name,
                aliases=self._aliases,
                made_from={
                    "format": self._format,
                    "digest": certificate.digest_of(self._path),
                    "source": str(self._path.absolute()),
                },
                **parts,
            )
            candidate = PackageServable(folder, formats.LoadOptions())
        except MartletError as exc:
            self._step(name, False, str(exc), begun)
            return None
        with closing(candidate):
            found = self._certified(name, candidate, folder, self._wanted.limits, written.files)
            us = microseconds(candidate, domain.name, self._some_rows()) if found.passed else {}
        sizes = sum((folder / each).stat().st_size for each in written.files)
        tables = [each for each in written.files if each.endswith(".table")]
        why = f"{len(tables)} tables, {sizes / 1e6:.1f} MB served"
        step = self._step(name, found.passed, "; ".join(found.faults[:2]) or why, begun, found, us)
        if not found.passed:
            return None
        earlier = [each.certificate for each in self._steps[:-1] if each.certificate and each.kept]
        certificate.write_certificates(folder / "certificate.json", [*earlier, found])
        _copy_beside(self._path, folder)
        return folder, step

    def _split(self, model: Any, lookups: Sequence[Any]) -> list[tuple[Path, Step] | None]:
        """Split it; where what is left for a pair is sums and layers, that is a package too."""
        from martlet.convert.crossing import crossing
        from martlet.convert.split import catalogue_of, split

        begun = time.perf_counter()
        rows = next(each.inputs for each in self._probes if each.kind == "random")
        try:
            found = split(model, list(self._wanted.user_inputs), rows, lookups)
        except UnsupportedModel as exc:
            self._step("split", False, str(exc), begun)
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
            self._step("cross", False, f"onnxruntime runs what is left: {exc}", begun)
            return made
        parts |= {"user": crossed.user, "item": crossed.item, "cross": crossed.cross}
        return [*made, self._package("cross", found.main, lookups, **parts)]

    def _choose(self, packages: Sequence[tuple[Path, Step]]) -> Report:
        """Let the fastest serve; a package only where it gains."""
        if not packages:
            last = next((step for step in reversed(self._steps) if not step.kept), None)
            return self._original_serves(last.why if last else "there is nothing to gain")
        folder, step = max(packages, key=lambda each: gain(self._us, each[1].us))
        for other in packages:
            if other[1] is not step:
                self._drop(other[1], f"{step.name} is faster; {other[1].why}")
        gained = gain(self._us, step.us)
        shared = any(folder.glob("tables/*.table"))
        least = 0.0 if shared and self._wanted.live_tables else NO_LOSS if shared else GAIN
        if gained < least:
            self._drop(step, f"it is {gained:.2f} times as fast as the original; {step.why}")
            return self._original_serves(
                f"a package would be {gained:.2f} times as fast: nothing to gain"
            )
        why = f"it is {gained:.1f} times as fast, proved equal"
        return self._report(PACKAGE, f"{why}, and workers share its tables" * shared or why, folder)

    def _drop(self, step: Step, why: str) -> None:
        # The package that a split is made from stays a step on its way.
        at = self._steps.index(step)
        self._steps[at] = replace(step, kept=False, why=why)

    def _judge(
        self, name: str, made: Path, limits: Limits
    ) -> tuple[Certificate | None, dict[int, float], str]:
        """Open and certify an ONNX file: the certificate, its speed, and why it is not kept."""
        try:
            candidate = formats.load(made, format="onnx")
        except MartletError as exc:
            return None, {}, str(exc)
        with closing(candidate):
            found = self._certified(name, candidate, made, limits)
            us = {}
            if found.passed:
                us = microseconds(candidate, self._domain.name, self._some_rows())
        return found, us, "; ".join(found.faults[:2])

    def _certified(
        self,
        name: str,
        candidate: Servable,
        made: Path,
        limits: Limits,
        names: Sequence[str] | None = None,
    ) -> Certificate:
        self._say(f"comparing after {name}")
        return certify(
            name,
            self._original,
            candidate,
            self._probes,
            signature_name=self._domain.name,
            files=(self._path, made),
            names=names,
            limits=limits,
        )

    def _some_rows(self) -> Tensors:
        """Return the rows that speed is measured with: real ones where there are."""
        best = next((p for p in self._probes if p.kind == "logged"), None)
        found = dict(best.inputs if best is not None else self._probes[0].inputs)
        if not self._wanted.user_inputs:
            return found
        # A split pays where it is used: one user, many items of the catalogue.
        count = count_rows(found)
        for name, items in (self._catalogue or {}).items():
            found[name] = items[np.arange(count) % len(items)]
        for name in found.keys() & set(self._wanted.user_inputs):
            one = found[name][:1]
            found[name] = np.broadcast_to(one, (count, *one.shape[1:]))
        return found

    def _step(
        self,
        name: str,
        kept: bool,
        why: str,
        begun: float,
        found: Certificate | None = None,
        us: Mapping[int, float] | None = None,
    ) -> Step:
        step = Step(name, kept, why, time.perf_counter() - begun, found, us or {})
        self._steps.append(step)
        return step

    def _original_serves(self, why: str) -> Report:
        return self._report(ORIGINAL, why)

    def _report(self, serves: str, why: str, package: Path | None = None) -> Report:
        return Report(
            str(self._path),
            self._format,
            self._audit,
            tuple(self._steps),
            self._us,
            serves,
            why,
            package,
        )


def gain(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """Return how many times faster, as the geometric mean over the numbers of rows."""
    both = [before[rows] / after[rows] for rows in before if rows in after]
    return float(np.exp(np.mean(np.log(both)))) if both else 0.0


def _one_row(model: Any, signature: Signature) -> bool:
    """Whether the graph declares one row where its servable takes any number."""
    return any(
        each.type.tensor_type.shape.dim and each.type.tensor_type.shape.dim[0].dim_value == 1
        for each in model.graph.input
        if each.name in signature.inputs and (signature.inputs[each.name].shape or ())[:1] == (-1,)
    )


def _copy_beside(path: Path, folder: Path) -> None:
    """Let what the version's folder holds for serving stand beside the package too."""
    for name in _KEPT_BESIDE if path.is_dir() else ():
        source = path / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        elif source.is_file():
            shutil.copy2(source, folder / name)
