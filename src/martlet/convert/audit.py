"""The audit: what a model takes, gives, ignores and should not be told; found by running it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from martlet.convert.draws import concatenate, count_rows, random_rows, random_values, take
from martlet.convert.leaks import Leak, leaks_in
from martlet.convert.ranges import Domain, Range, answers
from martlet.convert.rows import Logged
from martlet.servable import Servable
from martlet.tensors import DType, Spec, Tensor

_BASES = 256
_TRIES = 48
_CLIMBS = 12


@dataclass(frozen=True, slots=True)
class Input:
    """
    One input, as the audit found it.

    Args:
        name, dtype, shape: As the signature says.
        required: Whether a request without it is refused.
        dead: Whether no output moved by a bit, whatever it held, on any row that was tried.
        unsure: Whether that may be for want of words: the model takes text, and none that it knows
            was found. Such an input is not called dead.
        tried: How many (row, value) pairs that is.
        range: What it may hold.
        leak: How it gives the label away, where logged rows show that it does.
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
        """Whether a request must carry it for nothing."""
        return self.dead and self.required


@dataclass(frozen=True, slots=True)
class Output:
    """
    One output, as the audit found it.

    Args:
        low, high: The least and greatest finite number that came, also when looked for by
            climbing; None where it is no number.
        finite: Whether no NaN or infinity came of rows of finite numbers.
        probability: Whether every number that came is in 0..1; None where it is no float.
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
    """What was found of one signature. ``rows``: how many logged rows were used, 0 for none."""

    signature: str
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    rows: int = 0

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
                "no output moved with these, but no word that the model knows was found: give "
                "logged rows to be sure: " + ", ".join(unsure)
            )
        for output in self.outputs:
            if output.probability is False:
                found.append(
                    f"output {output.name!r} is no probability: it goes from {output.low:.6g} to "
                    f"{output.high:.6g}"
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
    asker = _Asker(servable, domain)
    # Half of them calm: where other inputs are huge, a net saturates and nothing moves it.
    halves = [random_rows(domain, _BASES // 2, random, calm=calm) for calm in (True, False)]
    bases = asker.answered(concatenate(halves))
    if probe is not None:
        few = np.unique(np.linspace(0, probe.rows - 1, _BASES).astype(int))
        real = asker.answered(take(probe.inputs, few))
        bases = real if count_rows(real) else bases
    inputs = []
    leaks = {} if logged is None else leaks_in(logged, domain.signature)
    wordless = logged is None and not readable and _wants_words(domain)
    for spec in domain.signature.inputs.values():
        if spec.name not in domain.ranges:
            continue
        dead, tried = asker.is_dead(spec, bases, random)
        inputs.append(
            Input(
                spec.name,
                spec.dtype.value,
                spec.shape,
                spec.required,
                dead and not wordless,
                tried,
                domain.ranges[spec.name],
                leaks.get(spec.name),
                dead and wordless,
            )
        )
    live = [each.name for each in inputs if not each.dead]
    outputs = asker.outputs(bases, live, random)
    rows = 0 if probe is None else probe.rows
    return Audit(domain.name, tuple(inputs), tuple(outputs), rows)


def _wants_words(domain: Domain) -> bool:
    """Whether it takes text, of which none is known."""
    return any(
        spec.dtype is DType.STRING and not domain.ranges[spec.name].values
        for spec in domain.signature.inputs.values()
        if spec.name in domain.ranges
    )


class _Asker:
    """Asks one signature of a model with rows that differ in one input."""

    def __init__(self, servable: Servable, domain: Domain) -> None:
        self._servable = servable
        self._domain = domain

    def _ask(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        return answers(self._servable, self._domain.name, rows)

    def answered(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the rows of *rows* that are answered: all, or those that are when asked alone."""
        if self._ask(rows) is not None:
            return rows
        count = count_rows(rows)
        good = [at for at in range(count) if self._ask(take(rows, np.array([at]))) is not None]
        return take(rows, np.array(good, int)) if good else dict(self._domain.base)

    def is_dead(
        self, spec: Spec, bases: dict[str, Tensor], random: np.random.Generator
    ) -> tuple[bool, int]:
        """Return whether no output moves with the input, and how many values were tried."""
        expected = self._ask(bases)
        assert expected is not None
        # The same rows in the same places: a sum over a batch may round by where a row stands.
        tried = 0
        for _ in range(_TRIES):
            values = random_values(self._domain, spec, bases[spec.name].shape, random)
            found = self._ask({**bases, spec.name: values})
            if found is None:
                continue
            tried += count_rows(bases)
            if not all(map(_same, expected.values(), found.values())):
                return False, tried
        return tried > 0, tried

    def outputs(
        self, bases: dict[str, Tensor], live: list[str], random: np.random.Generator
    ) -> list[Output]:
        """Return each output with the ends that were found by climbing towards them."""
        found = self._ask(bases)
        assert found is not None
        result = []
        for spec in self._domain.signature.outputs.values():
            value = found[spec.name]
            if value.dtype.kind not in "iuf":
                result.append(_output(spec, None, None, True, None))
                continue
            low, high = self._ends(spec.name, bases, live, random)
            finite = bool(np.isfinite(value).all()) or _missing(bases)
            known = value.dtype.kind == "f" and low is not None and high is not None
            inside = low >= 0 and high <= 1 if known else None  # type: ignore[operator]
            result.append(_output(spec, low, high, finite, inside))
        return result

    def _ends(
        self, name: str, bases: dict[str, Tensor], live: list[str], random: np.random.Generator
    ) -> tuple[float | None, float | None]:
        """Climb to the least and the greatest: keep what moves the output that way, vary again."""
        ends = []
        specs = [self._domain.signature.inputs[each] for each in live]
        for better in (np.less, np.greater):
            rows = dict(bases)
            best = self._of(name, rows)
            for _ in range(_CLIMBS):
                for spec in specs:
                    values = random_values(self._domain, spec, rows[spec.name].shape, random)
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
        found = self._ask(rows)
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


def _same(a: Tensor, b: Tensor) -> bool:
    if a.dtype.kind in "fc":
        # By the bits: -0.0 is not 0.0, and NaN is itself.
        return a.shape == b.shape and a.tobytes() == b.tobytes()
    return bool(np.array_equal(a, b))
