"""The audit: which inputs of a model matter, leak the label or are ignored, found by running it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from martlet.convert.asking.draws import concatenate, count_rows, random_rows, random_values, take
from martlet.convert.asking.ranges import Domain, Range
from martlet.convert.asking.rows import Logged
from martlet.convert.audit.dead import Variation
from martlet.convert.audit.leaks import Leak, leaks_in
from martlet.servable import Servable
from martlet.tensors import DType, Spec, Tensor

_BASES = 256
_CLIMBS = 12


@dataclass(frozen=True, slots=True)
class Input:
    """
    One input, as the audit found it.

    Args:
        name, dtype, shape: As the signature says.
        required: Whether a request without it is refused.
        dead: Whether no output changed by a bit, whatever it held, on any row that was tried.
        tried: How many pairs of a row and a value were tried.
        range: What it may hold.
        leak: How it gives the label away, if logged rows show that it does.
        unsure: Whether no output changed, but maybe for want of the right rows: the model takes
            text and no word that it knows was found, or no input changed any output. Then it is
            not called dead.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None
    required: bool
    dead: bool
    tried: int
    range: Range
    leak: Leak | None = None
    unsure: bool = False

    @property
    def demanded(self) -> bool:
        """Whether a request must carry it although it changes nothing."""
        return self.dead and self.required


@dataclass(frozen=True, slots=True)
class Output:
    """
    One output, as the audit found it.

    Args:
        low, high: The least and greatest finite number found, by climbing too; None where it is
            not a number.
        finite: Whether rows of finite numbers never gave NaN or infinity.
        probability: Whether every number found is in 0..1; None where it is not a float.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None
    low: float | None
    high: float | None
    finite: bool
    probability: bool | None


@dataclass(frozen=True, slots=True)
class Audit:
    """
    What was found of one signature.

    Args:
        rows: How many logged rows were used, 0 for none.
        steady: Whether the same rows were answered the same each time.
    """

    signature: str
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    rows: int = 0
    steady: bool = True

    @property
    def dead(self) -> list[str]:
        """The inputs that change nothing."""
        return [each.name for each in self.inputs if each.dead]

    @property
    def demanded(self) -> list[str]:
        """Those of them that a request must carry all the same."""
        return [each.name for each in self.inputs if each.demanded]

    @property
    def leaks(self) -> list[str]:
        """The inputs that give the label away, by the logged rows."""
        return [each.name for each in self.inputs if each.leak]

    def findings(self) -> list[str]:
        """Return what a person should know, a sentence each, the most serious first."""
        found = []
        for each in self.inputs:
            if each.leak:
                used = "the model ignores it" if each.dead else "and the model uses it"
                found.append(f"input {each.name!r} gives the label away: {each.leak.why}; {used}")
        if self.dead:
            names = ", ".join(self.dead)
            found.append(
                f"{len(self.dead)} of {len(self.inputs)} inputs are dead, no output moves with "
                f"them: {names}"
            )
        if self.demanded:
            which = f"{len(self.demanded)} dead inputs are demanded all the same"
            if self.demanded == self.dead:
                which = "all of these are demanded"
            elif len(self.demanded) == 1:
                which = "one of these is demanded"
            few = self.demanded if self.demanded != self.dead else self.demanded[:1]
            found.append(f"{which}: a request without " + ", ".join(map(repr, few)) + " is refused")
        unsure = [each.name for each in self.inputs if each.unsure]
        if unsure:
            found.append(
                "no output moved with these, but no row was found that the model is made for: give "
                "logged rows to be sure: " + ", ".join(unsure)
            )
        if not self.steady:
            found.append("the same row is not always answered the same: it draws numbers itself")
        for output in self.outputs:
            if output.probability is False:
                found.append(
                    f"output {output.name!r} is not a probability: it goes from {output.low:.6g} "
                    f"to {output.high:.6g}"
                )
            if not output.finite:
                found.append(f"output {output.name!r} can be NaN or infinite")
        for each in self.inputs:
            if each.range.low is not None or each.range.high is not None:
                found.append(f"input {each.name!r} is answered from {each.range}")
        return found

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        document = dataclasses.asdict(self)
        for each in document["inputs"]:
            each["range"] = {name: each["range"][name] for name in ("low", "high", "nan")}
        for each, found in zip(document["inputs"], self.inputs, strict=True):
            each["demanded"] = found.demanded
        lists = {"dead": self.dead, "demanded": self.demanded, "leaks": self.leaks}
        return {**document, **lists, "findings": self.findings()}


def audit(
    servable: Servable,
    domain: Domain,
    logged: Logged | None = None,
    *,
    readable: bool = True,
    seed: int = 0,
) -> Audit:
    """
    Return what the signature of *domain* takes and gives, by asking *servable*.

    An input is dead when, of each of some hundred rows, it can hold dozens of other values with
    no output changing by one bit. That is found by running, so an input that matters only for
    values nobody drew may be called dead: logged rows make that unlikely.

    Args:
        readable: Whether the words of the model's format can be read off its file.
        logged: Real rows: the ground to vary from, and where a leak can be seen at all.
    """
    random = np.random.default_rng(seed)
    probe = None if logged is None else logged.probe(domain.signature)
    variation = Variation(servable, domain, random)
    # Half of them with small numbers: with huge ones a net saturates, and no input changes it.
    halves = [random_rows(domain, _BASES // 2, random, calm=calm) for calm in (True, False)]
    bases = variation.answered(concatenate(halves))
    if probe is not None:
        few = np.unique(np.linspace(0, probe.rows - 1, _BASES).astype(int))
        real = variation.answered(take(probe.inputs, few))
        bases = real if count_rows(real) else bases
    bases = bases if count_rows(bases) else dict(domain.base)
    found = variation.dead(bases)
    unsure = logged is None and (
        (not readable and _wants_words(domain)) or all(dead for dead, _ in found.values())
    )
    leaks = {} if logged is None else leaks_in(logged, domain.signature)
    specs = [spec for spec in domain.signature.inputs.values() if spec.name in found]
    inputs = [
        Input(
            spec.name,
            spec.dtype.value,
            spec.shape,
            spec.required,
            dead and not unsure,
            tried,
            domain.ranges[spec.name],
            leaks.get(spec.name),
            dead and unsure,
        )
        for spec in specs
        for dead, tried in [found[spec.name]]
    ]
    live = [spec for spec in specs if not found[spec.name][0]]
    outputs = _Ends(variation, domain, bases, live, random).outputs()
    rows = 0 if probe is None else probe.rows
    steady = not variation.noise
    return Audit(domain.name, tuple(inputs), tuple(outputs), rows, steady)


def _wants_words(domain: Domain) -> bool:
    """Whether it has a text input for which no words are known."""
    return any(
        spec.dtype is DType.STRING and not domain.ranges[spec.name].values
        for spec in domain.signature.inputs.values()
        if spec.name in domain.ranges
    )


class _Ends:
    """Looks for the least and the greatest number of each output."""

    def __init__(
        self,
        variation: Variation,
        domain: Domain,
        bases: dict[str, Tensor],
        live: list[Spec],
        random: np.random.Generator,
    ) -> None:
        self._variation = variation
        self._domain = domain
        self._bases = bases
        self._live = live
        self._random = random

    def outputs(self) -> list[Output]:
        """Return each output with the ends that were found by climbing towards them."""
        found = self._variation.ask(self._bases)
        assert found is not None
        result = []
        for spec in self._domain.signature.outputs.values():
            value = found[spec.name]
            if value.dtype.kind not in "iuf":
                result.append(_output(spec, None, None, True, None))
                continue
            low, high = self._ends(spec.name)
            finite = bool(np.isfinite(value).all()) or _missing(self._bases)
            known = value.dtype.kind == "f" and low is not None and high is not None
            inside = low >= 0 and high <= 1 if known else None  # type: ignore[operator]
            result.append(_output(spec, low, high, finite, inside))
        return result

    def _ends(self, name: str) -> tuple[float | None, float | None]:
        """Climb to the least and the greatest: keep what moves the output that way, vary again."""
        ends = []
        for better in (np.less, np.greater):
            rows = dict(self._bases)
            best = self._of(name, rows)
            for _ in range(_CLIMBS):
                for spec in self._live:
                    shape = rows[spec.name].shape
                    values = random_values(self._domain, spec, shape, self._random)
                    tried = self._of(name, {**rows, spec.name: values})
                    if tried is None or best is None or len(tried) != len(rows[spec.name]):
                        continue
                    with np.errstate(invalid="ignore"):
                        keep = better(tried, best)
                    rows[spec.name] = _where(keep, values, rows[spec.name])
                    best = np.where(keep, tried, best)
            ends.append(best)
        low, high = (each[np.isfinite(each)] for each in ends if each is not None)
        return float(low.min()) if low.size else None, float(high.max()) if high.size else None

    def _of(self, name: str, rows: Mapping[str, Tensor]) -> Tensor | None:
        """Return one number a row of the output *name*: its last one."""
        found = self._variation.ask(rows)
        if found is None:
            return None
        value = found[name]
        count = count_rows(rows)
        if value.ndim and len(value) == count and value.size:
            return value.reshape(count, -1)[:, -1].astype(np.float64)
        return value.reshape(-1).astype(np.float64)


def _output(
    spec: Spec, low: float | None, high: float | None, finite: bool, inside: bool | None
) -> Output:
    return Output(spec.name, spec.dtype.value, spec.shape, low, high, finite, inside)


def _missing(rows: Mapping[str, Tensor]) -> bool:
    return any(v.dtype.kind == "f" and not np.isfinite(v).all() for v in rows.values())


def _where(keep: Tensor, values: Tensor, others: Tensor) -> Tensor:
    return np.where(keep.reshape(-1, *[1] * (values.ndim - 1)), values, others)
