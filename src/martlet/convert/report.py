"""What bringing a model online found and did: for a person to read, and for a script."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from martlet.certificate import Certificate
from martlet.convert.audit import Audit

ORIGINAL, PACKAGE = "original", "package"


@dataclass(frozen=True, slots=True)
class Step:
    """
    One step, and whether what it made was used.

    Args:
        name: ``convert``, ``rewrite``, ``extract`` or ``split``.
        kept: Whether the next step, or serving, goes on with what it made.
        why: What it did, or why it was not kept.
        seconds: What it took.
        certificate: How its result compares with the original; None where it made nothing.
        us: What one call of its result takes, in microseconds, by rows; {} where not measured.
    """

    name: str
    kept: bool
    why: str
    seconds: float = 0.0
    certificate: Certificate | None = None
    us: Mapping[int, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values, with the certificate's figures and not its whole text."""
        document: dict[str, Any] = {
            "name": self.name,
            "kept": self.kept,
            "why": self.why,
            "seconds": round(self.seconds, 3),
            "us": {str(rows): round(value, 1) for rows, value in self.us.items()},
            "certificate": None,
        }
        if self.certificate is not None:
            document["certificate"] = figures(self.certificate)
        return document


def figures(certificate: Certificate) -> dict[str, Any]:
    """Return what a person asks of a certificate first."""
    told = certificate.to_json()
    worst = certificate.worst
    ordered = [each for each in certificate.comparisons if each.groups]
    logged = next(
        (c for c in certificate.comparisons if c.kind == "logged" and not c.segment), None
    )
    return {
        "passed": certificate.passed,
        "rows": sum(each.rows for each in certificate.comparisons if not each.segment),
        "faults": certificate.faults[:5],
        "absolute": told["comparisons"][certificate.comparisons.index(worst)]["absolute"]
        if worst
        else None,
        "worst": None if worst is None or worst.worst is None else str(worst.worst),
        "rank_correlation": min((c.rank_correlation or 0.0 for c in ordered), default=None),
        "top_k_overlap": min((c.top_k_overlap or 0.0 for c in ordered), default=None),
        "auc": None if logged is None else logged.auc,
        "logloss": None if logged is None else logged.logloss,
        "original": dict(certificate.original),
        "candidate": dict(certificate.candidate),
    }


@dataclass(frozen=True, slots=True)
class Report:
    """
    What was found and done.

    Args:
        source: The file that was brought.
        format: Of it.
        audit: What it takes and gives; None where it could not be asked.
        steps: In order; those after one that failed are not there.
        us: What one call of the original takes, in microseconds, by rows.
        serves: ORIGINAL or PACKAGE.
        why: Of that choice.
        package: The folder to serve, where it is the package.
    """

    source: str
    format: str
    audit: Audit | None
    steps: tuple[Step, ...]
    us: Mapping[int, float]
    serves: str
    why: str
    package: Path | None = None

    @property
    def speedup(self) -> float | None:
        """How many times faster what serves is, at the largest number of rows measured."""
        last = next((step for step in reversed(self.steps) if step.kept and step.us), None)
        if self.serves == ORIGINAL or last is None or not self.us:
            return None
        rows = max(self.us)
        return self.us[rows] / last.us[rows]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "source": self.source,
            "format": self.format,
            "serves": self.serves,
            "why": self.why,
            "speedup": None if self.speedup is None else round(self.speedup, 2),
            "us": {str(rows): round(value, 1) for rows, value in self.us.items()},
            "audit": None if self.audit is None else self.audit.to_json(),
            "steps": [step.to_json() for step in self.steps],
        }
