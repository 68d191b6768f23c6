"""The parity certificate: the record that a model's files answer as the original's do.

`martlet.convert.parity` makes one by comparing. A converted model whose certificate is missing,
failed, or of other files is refused when it is opened and when it is registered.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from martlet.errors import UnsupportedModel

VERSION = 2
"""Of the JSON below."""


@dataclass(frozen=True, slots=True)
class Limits:
    """
    How far a candidate's answers may be from the original's.

    The first two judge each number: it passes where ``|found - expected| <= absolute`` or the
    relative difference is within *relative* (of the number itself, or of the usual size of that
    output in the same probe where it is larger, so that a sum near 0 is not a fault). It passes too
    where the original moves as far itself when its inputs are rounded otherwise by a unit in the
    last place: there its own digits say nothing. A step that
    changes numbers on purpose (int8, pruning) raises both to infinity and is judged by the rest.

    Args:
        relative, absolute: As above.
        rank_correlation: Spearman's, the least mean over the groups.
        top_k: How many of a group's best are compared.
        top_k_overlap: The least mean share of them that is as good as the original's.
        auc, logloss: The most that either may change, where labels are given.
        same_refusals: Whether what the original refuses must be refused.
        not_finite: Whether NaN and infinity must be answered alike by inputs that declare no
            missing values; libraries differ in what a sum or ``max`` makes of them.
    """

    relative: float = 1e-5
    absolute: float = 1e-6
    rank_correlation: float = 0.9999
    top_k: int = 10
    top_k_overlap: float = 0.999
    auc: float = 1e-4
    logloss: float = 1e-4
    same_refusals: bool = True
    not_finite: bool = False


@dataclass(frozen=True, slots=True)
class Difference:
    """
    The number that is furthest off, and what it was asked with.

    Args:
        output, at: Of which output, and its index there; the first is the row where rows are.
        expected, found: The original's number (or text), and the candidate's.
        inputs: That row's inputs by name; empty where an output has no rows.
    """

    output: str
    at: tuple[int, ...]
    expected: Any
    found: Any
    inputs: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        asked = ", ".join(f"{name}={_short(value)}" for name, value in self.inputs.items())
        where = f"row {self.at[0]}" if self.at else "the answer"
        off = ""
        if isinstance(self.expected, float) and isinstance(self.found, float):
            off = f" (off by {abs(self.found - self.expected):.3g})"
        return (
            f"{self.output!r} of {where}{f' ({asked})' if asked else ''} is {self.found!r} "
            f"where the original gives {self.expected!r}{off}"
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    One probe, or one segment of it, answered by both.

    Args:
        kind: As of a `Probe`: ``random``, ``small``, ``edge``, ``jump``, ``each id``,
            ``each branch``, ``not finite``, ``refused`` or ``logged``.
        segment: ``column=value`` of the logged rows, or "" for all.
        rows: How many were compared.
        absolute, relative: The largest differences of a number.
        worst: Where the relative one is; None where nothing differs.
        rounded: How many numbers are past the limits, and within what rounding the inputs
            moves the original by.
        groups: Over how many the next two are means; 0 where no order was compared.
        rank_correlation, top_k_overlap: As `Limits` says; None where there is no order.
        auc, logloss: The original's and the candidate's, where labels are given.
        faults: What is past the limits, one sentence each.
    """

    kind: str
    rows: int
    segment: str = ""
    absolute: float = 0.0
    relative: float = 0.0
    worst: Difference | None = None
    rounded: int = 0
    groups: int = 0
    rank_correlation: float | None = None
    top_k_overlap: float | None = None
    auc: tuple[float, float] | None = None
    logloss: tuple[float, float] | None = None
    faults: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether it is within the limits."""
        return not self.faults


@dataclass(frozen=True, slots=True)
class Certificate:
    """
    How *candidate* compared with *original*.

    Args:
        step: What made the candidate: ``convert``, ``rewrite``, ``extract``, ``split`` ...
        original, candidate: SHA-256 of each file, by its path in the folder ("" for one file).
        limits: What it was judged by.
        comparisons: One a probe and segment. Never empty in a certificate that passed.
        made_with: Libraries and their versions.
        made_at: ISO 8601, in UTC.
    """

    step: str
    original: Mapping[str, str]
    candidate: Mapping[str, str]
    limits: Limits
    comparisons: tuple[Comparison, ...]
    made_with: Mapping[str, str] = field(default_factory=dict)
    made_at: str = ""

    @property
    def passed(self) -> bool:
        """Whether every comparison is within the limits, and there is one."""
        return bool(self.comparisons) and all(each.passed for each in self.comparisons)

    @property
    def faults(self) -> list[str]:
        """What is past the limits, one sentence each."""
        return [
            f"{each.kind}{f' {each.segment}' if each.segment else ''}: {fault}"
            for each in self.comparisons
            for fault in each.faults
        ]

    @property
    def worst(self) -> Comparison | None:
        """The comparison whose numbers are furthest off, of those that are judged."""
        judged = [c for c in self.comparisons if c.kind != "not finite" or self.limits.not_finite]
        return max(judged, key=lambda each: (not each.passed, each.relative), default=None)

    def demand(self, where: str) -> None:
        """
        Raises:
            UnsupportedModel: it did not pass; says what is past which limit, and where.
        """
        if not self.comparisons:
            raise UnsupportedModel(f"{where}: its certificate compares nothing; import it again")
        if not self.passed:
            raise UnsupportedModel(
                f"{where} does not answer as the original does: {'; '.join(self.faults[:3])}"
            )

    def demand_files(self, candidate: Mapping[str, str], where: str) -> None:
        """
        Raises:
            UnsupportedModel: a file of the candidate is not the one that was certified.
        """
        _demand_same(self.candidate, candidate, where)

    def demand_original(self, original: Mapping[str, str], where: str) -> None:
        """
        Raises:
            UnsupportedModel: a file of the original is not the one that was compared with.
        """
        _demand_same(self.original, original, where)

    def to_json(self) -> dict[str, Any]:
        """
        Return it as what JSON can hold: infinity and NaN as text.

        ``seal`` is the digest of all else: what was edited by hand is told from what was found. It
        keeps nobody out who means to forge one: whoever imports a package compares it again.
        """
        found: dict[str, Any] = {"version": VERSION, "passed": self.passed, **_plain(asdict(self))}
        return {**found, "seal": _seal(found)}

    @classmethod
    def from_json(cls, document: Any) -> Certificate:
        """
        Return the certificate that *document* is.

        Raises:
            UnsupportedModel: it is none, of another version of martlet, or was edited.
        """
        try:
            if document["version"] != VERSION:
                raise UnsupportedModel(
                    f"the certificate is of version {document['version']}; this martlet reads "
                    f"{VERSION}: import the original again"
                )
            if document.get("seal") != _seal(document):
                raise UnsupportedModel(
                    "the certificate was changed after it was made; import the original again"
                )
            return cls(
                step=str(document["step"]),
                original=dict(document["original"]),
                candidate=dict(document["candidate"]),
                limits=Limits(**_numbers(document["limits"])),
                comparisons=tuple(map(_comparison, document["comparisons"])),
                made_with=dict(document["made_with"]),
                made_at=str(document["made_at"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise UnsupportedModel(
                f"this is not a certificate: {type(exc).__name__} {exc}"
            ) from exc


def write_certificates(path: Path, certificates: Iterable[Certificate]) -> None:
    """Write them as one JSON file, in the order of the steps."""
    document = {"certificates": [each.to_json() for each in certificates]}
    path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_certificates(path: Path) -> list[Certificate]:
    """
    Return the certificates in the file at *path*.

    Raises:
        UnsupportedModel: there is no such file, or it holds something else.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return [Certificate.from_json(each) for each in document["certificates"]]
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise UnsupportedModel(f"{path} holds no certificates: {exc}") from exc


def digests_of(path: Path, names: Iterable[str] | None = None) -> dict[str, str]:
    """
    Return the SHA-256 of each file of the file or folder *path*, by its path in there.

    Args:
        names: Of a folder, only these; a missing one has no digest.

    A single file's name is "", so that a renamed copy is still the same file.
    """
    if path.is_file():
        return {"": _digest(path)}
    if names is None:
        names = (each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file())
    return {name: _digest(path / name) for name in sorted(names) if (path / name).is_file()}


def digest_of(path: Path) -> str:
    """Return one SHA-256 of the file or folder *path*: for a folder, of its names and digests."""
    digests = digests_of(path)
    if set(digests) == {""}:
        return digests[""]
    lines = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    return hashlib.sha256(lines.encode()).hexdigest()


def _demand_same(certified: Mapping[str, str], found: Mapping[str, str], where: str) -> None:
    for name in sorted({*certified, *found}):
        before, now = certified.get(name), found.get(name)
        if before != now:
            what = "is missing" if now is None else "is not certified"
            if before and now:
                what = f"has changed since it was certified ({before[:12]} -> {now[:12]})"
            raise UnsupportedModel(
                f"{where}: {name or 'the file'} {what}; import the original again"
            )


def _seal(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a certificate's JSON without its own seal."""
    rest = {name: value for name, value in document.items() if name != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as reader:
        return hashlib.file_digest(reader, "sha256").hexdigest()


def _comparison(document: Mapping[str, Any]) -> Comparison:
    fields = _numbers(document)
    worst = fields.get("worst")
    if worst is not None:
        fields["worst"] = Difference(**{**_numbers(worst), "at": tuple(worst["at"])})
    for name in ("auc", "logloss"):
        if fields.get(name) is not None:
            fields[name] = tuple(map(_number, fields[name]))
    return Comparison(**{**fields, "faults": tuple(fields["faults"])})


_TEXTS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def _numbers(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _number(value) for name, value in document.items()}


def _number(value: Any) -> Any:
    return _TEXTS.get(value, value) if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
