"""Bringing a model online: it is audited, converted, rewritten and split, and each step is proved.

Each step's result is compared with the original in its own library. The fastest result that passed
serves; if none did, the original serves, which is not a failure of the import.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from martlet import formats
from martlet.certificate import Limits
from martlet.convert.again import compared_again
from martlet.convert.asking.constants import can_read
from martlet.convert.asking.draws import count_rows, random_rows
from martlet.convert.asking.probes import Probe
from martlet.convert.asking.ranges import default_signature
from martlet.convert.asking.rows import Logged
from martlet.convert.audit import Audit, audit
from martlet.convert.catalogue import read_catalogue
from martlet.convert.pairing import PAIRED, paired
from martlet.convert.parity.compare import compare
from martlet.convert.parity.converted import Renamed
from martlet.convert.parity.judge import Judge
from martlet.convert.rebuild import Package, Rebuilding
from martlet.convert.report import ORIGINAL, PACKAGE, Report, Step
from martlet.convert.steps import Steps
from martlet.convert.timing import gain
from martlet.convert.to_onnx import Bounds, can_convert
from martlet.errors import InvalidInput, MissingExtra, UnsupportedModel, first_line
from martlet.servable import Servable
from martlet.tensors import Tensors

log = logging.getLogger(__name__)

GAIN = 1.1
"""How many times faster a package must be to take the original's place."""
NO_LOSS = 0.95
"""The same if tables left the graph, since workers then share them and their rows can be set."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    What the user asks for.

    Args:
        rows: Logged rows, if there are any.
        user_inputs: The inputs of the user and the context; if any, the model is split.
        items: A file of all items (see `read_catalogue`), whose part is computed beforehand.
        limits: By which every step is judged.
        bounds: On the time and memory of a conversion.
        trusted: Whether the file may run code that it contains.
        seed: Of the random rows.
        live_tables: Whether tables leave the graph even if that is no faster, so that their rows
            can be set.
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
        MartletError: the original does not open; it is a package that does not answer as the
            original in it does; or *wanted* names inputs or columns that are not there. Everything
            else is in the report.
    """
    say("opening the original")
    with closing(formats.load(path, formats.LoadOptions(wanted.trusted), format)) as original:
        return _Work(path, format, scratch, wanted, say).run(original)


class _Work:
    """The state of one bringing: what was found so far, and the steps that were taken."""

    def __init__(self, path: Path, format: str, scratch: Path, wanted: Wanted, say: Say) -> None:
        self._path = path
        self._format = format
        self._scratch = scratch
        self._wanted = wanted
        self._say = say
        self._audit: Audit | None = None
        self._before: tuple[Step, ...] = ()
        self._steps: Steps | None = None

    def run(self, original: Servable) -> Report:
        wanted = self._wanted
        logged, catalogue = self._real_data(original)
        if self._format == "package":
            self._say("comparing it with the original that lies in it")
            self._before = (
                compared_again(self._path, original, wanted.rows, trusted=wanted.trusted),
            )
        try:
            judge = self._ask(original, logged)
            unfit, aliases = self._fitness(judge)
            if unfit:
                return self._original_serves(unfit)
            if catalogue is not None:
                catalogue = _fitted(catalogue, judge)
            strict = judge.strict() if self._format in PAIRED else judge
            sample = judge.sample() if logged is not None else strict.sample()
            rows = _request(sample, wanted.user_inputs, catalogue)
            steps = self._steps = Steps(judge, rows, wanted.limits, self._say)
        except Exception as exc:  # whatever a model makes of made rows: it serves as it came
            log.debug("asking %s", self._path, exc_info=True)
            return self._original_serves(f"it cannot be asked: {first_line(exc)}")
        return self._choose(steps, self._packages(steps, strict, catalogue, aliases))

    def _real_data(self, original: Servable) -> tuple[Probe | None, Tensors | None]:
        """
        Return the logged rows and the items that the user gave, as inputs of the model.

        Raises:
            InvalidInput: the model has no such input, or the files do not fit its inputs.
            ModelNotFound: a file is not there.
        """
        wanted = self._wanted
        if wanted.rows is None and wanted.items is None and not wanted.user_inputs:
            return None, None
        signature = original.signatures[default_signature(original)]
        for name in wanted.user_inputs:
            if name not in signature.inputs:
                known = ", ".join(signature.inputs)
                raise InvalidInput(f"the model has no input {name!r}; it has {known}")
        logged = None if wanted.rows is None else wanted.rows.probe(signature)
        if wanted.items is None:
            return logged, None
        return logged, read_catalogue(wanted.items, signature, wanted.user_inputs)

    def _packages(
        self, steps: Steps, strict: Judge, catalogue: Tensors | None, aliases: Sequence[str]
    ) -> Sequence[Package]:
        """Return the packages that passed. What a library raises on the way is noted as a step."""
        begun = time.perf_counter()
        try:
            if strict is not steps.judge:
                pair = paired(steps, strict, self._scratch, self._wanted.bounds, GAIN)
                return [] if pair is None else [pair]
            graph = self._convert(steps)
            if graph is None:
                return []
            user_inputs = self._wanted.user_inputs
            return Rebuilding(steps, self._scratch, user_inputs, catalogue, aliases).packages(graph)
        except MissingExtra as exc:
            steps.note("convert", False, str(exc), begun)
        except InvalidInput:  # what the user named is not there
            raise
        except Exception as exc:  # whatever a library makes of a graph: the original serves
            log.debug("bringing %s online", self._path, exc_info=True)
            steps.note("convert", False, f"{type(exc).__name__}: {first_line(exc)}", begun)
        return []

    def _ask(self, original: Servable, logged: Probe | None) -> Judge:
        """Find what the model may be asked, and audit it."""
        wanted = self._wanted
        self._say("finding what it takes")
        judge = Judge.of(
            self._path, self._format, original, logged, trusted=wanted.trusted, seed=wanted.seed
        )
        self._say("auditing it")
        self._audit = audit(
            original, judge.domain, wanted.rows, readable=can_read(self._format), seed=wanted.seed
        )
        return judge

    def _fitness(self, judge: Judge) -> tuple[str, list[str]]:
        """
        Return why no package can take the original's place; "" if one can.

        Also return the other names of its signature: Keras writes one signature under two names.
        """
        if self._format == "package":
            return "it is a package already", []
        if self._format != "onnx" and not can_convert(self._format):
            return f"there is no converter from {self._format}; its own reader serves it", []
        if self._format in PAIRED:
            return "", []  # the original, beside the graph, answers every other way
        called = [name for name, each in judge.servable.signatures.items() if each.inputs]
        others = [name for name in called if name != judge.domain.name]
        aliases = [name for name in others if _is_alias(judge, name)]
        if len(aliases) < len(others):
            few = ", ".join(called[:4]) + (", ..." if len(called) > 4 else "")
            return f"it is called in {len(called)} ways ({few}), and a package has one", []
        return "", aliases

    def _convert(self, steps: Steps) -> Path | None:
        """Return the naive conversion, if it gives the right numbers."""
        begun = time.perf_counter()
        if self._format != "onnx":
            self._say("converting it to ONNX")
        try:
            made = steps.judge.to_onnx(self._scratch / "converted.onnx", self._wanted.bounds)
        except UnsupportedModel as exc:
            steps.note("convert", False, str(exc), begun)
            return None
        if self._format == "onnx":
            return made
        # Converters lose assertions. The steps that follow restore them, or the last certificate
        # fails.
        found, us, why = steps.certify_file("convert", made, same_refusals=False)
        kept = found is not None and found.passed
        steps.note("convert", kept, why or "to ONNX", begun, found, us)
        return made if kept else None

    def _choose(self, steps: Steps, packages: Sequence[Package]) -> Report:
        """Let the fastest serve; a package only where it gains."""
        if not packages:
            last = next((step for step in reversed(steps.taken) if not step.kept), None)
            return self._original_serves(last.why if last else "there is nothing to gain")
        folder, step = max(packages, key=lambda each: gain(steps.us, each[1].us))
        for _, other in packages:
            if other is not step:
                steps.drop(other, f"{step.name} is faster; {other.why}")
        gained = gain(steps.us, step.us)
        shared = any(folder.glob("tables/*.table"))
        least = 0.0 if shared and self._wanted.live_tables else NO_LOSS if shared else GAIN
        if gained < least:
            steps.drop(step, f"it is {gained:.2f} times as fast as the original; {step.why}")
            return self._original_serves(
                f"a package would be {gained:.2f} times as fast: nothing to gain"
            )
        why = f"it is {gained:.1f} times as fast, proved equal"
        return self._report(PACKAGE, f"{why}, and workers share its tables" * shared or why, folder)

    def _original_serves(self, why: str) -> Report:
        return self._report(ORIGINAL, why)

    def _report(self, serves: str, why: str, package: Path | None = None) -> Report:
        steps = self._steps
        return Report(
            str(self._path),
            self._format,
            self._audit,
            (*self._before, *(steps.taken if steps else ())),
            steps.us if steps else {},
            serves,
            why,
            package,
        )


def _fitted(catalogue: Tensors, judge: Judge) -> Tensors:
    """Return the items in the shapes that the model was found to take."""
    domain = judge.domain
    return {
        name: value.reshape(domain.shape(domain.signature.inputs[name], len(value)))
        for name, value in catalogue.items()
    }


def _is_alias(judge: Judge, name: str) -> bool:
    """Whether the signature *name* is the one that is judged, by another name."""
    domain = judge.domain
    own, other = domain.signature, judge.servable.signatures[name]
    if (own.inputs, own.outputs) != (other.inputs, other.outputs):
        return False
    some = random_rows(domain, 64, np.random.default_rng(judge.seed))
    judged = compare(
        judge.servable,
        Renamed(judge.servable, name, domain.name),
        [Probe("random", some)],
        Limits(relative=0.0, absolute=0.0),
        domain.name,
    )
    return all(each.passed for each in judged)


def _request(rows: Tensors, user_inputs: Sequence[str], catalogue: Tensors | None) -> Tensors:
    """Return *rows* as the requests by which speed is measured: one user, many items."""
    found = dict(rows)
    if not user_inputs:
        return found
    count = count_rows(found)
    for name, items in (catalogue or {}).items():
        found[name] = items[np.arange(count) % len(items)]
    for name in found.keys() & set(user_inputs):
        one = found[name][:1]
        found[name] = np.broadcast_to(one, (count, *one.shape[1:]))
    return found
