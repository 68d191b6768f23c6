"""Probes: the rows that two models are asked to see whether they answer the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from martlet.convert.asking.coverage import each_branch, each_id
from martlet.convert.asking.draws import concatenate, count_rows, edge_rows, random_rows, take
from martlet.convert.asking.jumps import jump_rows
from martlet.convert.asking.ranges import Domain, answers
from martlet.servable import Servable
from martlet.tensors import Tensor

_MOST_REFUSED = 64
_APART = ("each id", "each branch")
BLOCK = 4096
"""Most rows asked at once: as one-hot vectors of 30,000 ids they take half a gigabyte."""


@dataclass(frozen=True, slots=True)
class Probe:
    """
    Rows to ask both with.

    Args:
        kind: ``random``, ``edge``, ``logged``; ``small``: random rows of numbers about 1, in which
            no huge number hides the others; ``jump``: the two neighbouring floats between which an
            answer jumps; ``each id``, ``each branch``: rows that reach every vector of the tables,
            every leaf of the trees; ``not finite``: edges with NaN or infinity in an input that
            declares no missing values; ``refused``: rows that the original refuses, to be asked one
            by one.
        inputs: By name, all with the same number of rows.
        labels: 0 or 1 for each row, where they are known.
        groups: The user of each row: order is compared within a user's rows.
        segments: By name, other columns whose values are compared one by one.
    """

    kind: str
    inputs: Mapping[str, Tensor]
    labels: Tensor | None = None
    groups: Tensor | None = None
    segments: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many there are."""
        return min((len(value) for value in self.inputs.values() if value.ndim), default=0)

    def blocks(self) -> Iterator[dict[str, Tensor]]:
        """Give its inputs as they are asked: of many rows, some thousands at a time."""
        if self.kind not in _APART:
            yield dict(self.inputs)
            return
        for start in range(0, self.rows, BLOCK):
            yield take(self.inputs, np.arange(start, min(start + BLOCK, self.rows)))

    def take(self, rows: Tensor) -> Probe:
        """Return the given rows (numbers, or a mask)."""
        return replace(
            self,
            inputs={name: value[rows] for name, value in self.inputs.items()},
            labels=None if self.labels is None else self.labels[rows],
            groups=None if self.groups is None else self.groups[rows],
            segments={name: value[rows] for name, value in self.segments.items()},
        )


def probes_for(
    servable: Servable,
    domain: Domain,
    logged: Probe | None = None,
    *,
    rows: int = 2048,
    seed: int = 0,
) -> list[Probe]:
    """
    Return probes that *servable*, the original, answers, and those single rows that it refuses.

    There are *rows* random rows, the same in batches of 1 and 7 (a rewritten graph may depend on
    how many come), half as many of small numbers, each input's edges (its least and greatest, one
    beyond, -1, NaN, unknown words), the two neighbouring floats between which an answer jumps, rows
    that come twice, each id that its inputs take, both ways of each test of its trees, and *logged*
    rows if given.
    """
    random = np.random.default_rng(seed)
    probes: list[Probe] = []
    drawn = random_rows(domain, rows, random)
    kept, refused = sorted_out(servable, domain, drawn)
    for count in (len(kept), 1, 7):
        if 0 < count <= len(kept):
            probes.append(Probe("random", take(drawn, kept[:count])))
    if any(spec.dtype.is_float for spec in domain.signature.inputs.values()):
        small = random_rows(domain, rows // 2, random, calm=True)
        good, _ = sorted_out(servable, domain, small)
        if len(good):
            probes.append(Probe("small", take(small, good)))
    edges = concatenate(list(edge_rows(domain, random)))
    refusing = [take(drawn, refused)]
    if edges:
        odd = _not_finite(domain, edges)
        good, bad = sorted_out(servable, domain, take(edges, np.flatnonzero(~odd)))
        sound = take(edges, np.flatnonzero(~odd))
        if len(good):
            # Each row twice: duplicates in a batch are an edge of their own.
            probes.append(Probe("edge", take(sound, np.concatenate([good, good[::-1]]))))
        refusing.append(take(sound, bad))
        strange = take(edges, np.flatnonzero(odd))
        good, _ = sorted_out(servable, domain, strange)
        if len(good):
            probes.append(Probe("not finite", take(strange, good)))
    jumps = concatenate(list(jump_rows(servable, domain, random)))
    if jumps:
        good, _ = sorted_out(servable, domain, jumps)
        if len(good):
            probes.append(Probe("jump", take(jumps, good)))
    for kind, rows_of in zip(_APART, (each_id, each_branch), strict=True):
        for reaching in rows_of(servable, domain, random):
            good, _ = sorted_out(servable, domain, reaching)
            if len(good):
                probes.append(Probe(kind, take(reaching, good)))
    refusals = concatenate([each for each in refusing if count_rows(each)])
    if refusals:
        few = np.linspace(0, count_rows(refusals) - 1, _MOST_REFUSED).astype(int)
        probes.append(Probe("refused", take(refusals, np.unique(few))))
    if logged is not None:
        probes.append(logged)
    return probes


def _not_finite(domain: Domain, rows: Mapping[str, Tensor]) -> Tensor:
    """Return which rows hold NaN or infinity in an input that declares no missing values."""
    found = np.zeros(count_rows(rows), bool)
    for spec in domain.signature.inputs.values():
        value = rows.get(spec.name)
        if value is None or not value.ndim or value.dtype.kind != "f":
            continue
        strange = np.isinf(value) if spec.nullable else ~np.isfinite(value)
        found |= strange.reshape(len(value), -1).any(axis=1)
    return found


def sorted_out(
    servable: Servable, domain: Domain, rows: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the numbers of the rows that are answered, and of those that are refused."""
    good: list[int] = []
    bad: list[int] = []

    def look(start: int, end: int) -> None:
        if start == end:
            return
        if answers(servable, domain.name, take(rows, np.arange(start, end))) is not None:
            good.extend(range(start, end))
        elif end - start == 1:
            bad.append(start)
        else:
            look(start, (start + end) // 2)
            look((start + end) // 2, end)

    for start in range(0, count_rows(rows), BLOCK):
        look(start, min(start + BLOCK, count_rows(rows)))
    return np.array(good, int), np.array(bad, int)
