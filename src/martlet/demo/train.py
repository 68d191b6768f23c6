"""From a data set to a folder of files to serve, and the quality that they have.

Twice the same steps: on the earliest part of the ratings, to teach the models what was liked in the
part that follows; then on both parts, to make what is served and to judge it by the last part,
which nothing was learnt from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from martlet.demo import judge, light, movielens, ranker, tables, write
from martlet.demo.candidates import Candidates, Sources, retrieve
from martlet.demo.dataset import Dataset
from martlet.demo.evaluate import Progress, Quality, auc, silent
from martlet.demo.generate import read_planted
from martlet.demo.split import Rule, Split, judges, split
from martlet.errors import InvalidInput, MissingExtra

STEPS: Sequence[str] = ("read", "embeddings", "ranker", "light", "tables", "score", "evaluate")
"""What `train` tells its progress callback about, in this order; each ends with 1.0."""

_FEWEST_TEACHERS = 20
_MOST_TEACHERS = 3000
"""More users than this teach the ranker nothing new, and take time."""


@dataclass(frozen=True, slots=True)
class Options:
    """
    How to train.

    Args:
        dim: Length of the vectors.
        sources: What the recommender's first stage proposes.
        rule: Where the past ends.
        share: Of the ratings held out to judge by; and of the rest, to teach the ranker.
        judges: At most so many users judge.
        seed: Of the draws of users and of LightGBM's.
    """

    dim: int = 16
    sources: Sources = field(default_factory=Sources)
    rule: Rule = Rule.AUTO
    share: float = 0.2
    judges: int = 1000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Trained:
    """
    What was made and how good it is.

    Args:
        folder: Where the files are.
        rule: The split that was used, never AUTO.
        cutoff: The first second held out, where all users have the same.
        quality: By way of recommending: popularity, embeddings, light, ranker; and, where the
            data was generated, oracle: the best there is.
        auc: By model: whether what is liked later scores above the other candidates.
    """

    folder: Path
    rule: Rule
    cutoff: int | None
    quality: dict[str, Quality]
    auc: dict[str, float]


def train(
    data: Path, out: Path, options: Options = Options(), progress: Progress = silent
) -> Trained:
    """
    Train on the data set in the folder *data*, and write the files that are served into *out*.

    Raises:
        InvalidInput: *data* holds no data set, or too small a one.
        MissingExtra: a library that trains is not installed.
    """
    _check_libraries()
    dataset = movielens.read(data)
    progress("read", 1.0)
    outer = split(dataset.ratings, options.share, options.rule)
    booster, light_model = _teach(dataset, outer, options, progress)

    served = _tables(dataset, outer, options)
    write.write_tables(dataset, served, out)
    write.write_ranker(booster, out / "ranker")
    write.write_light(light_model, out / "light")
    progress("tables", 1.0)

    pairs = retrieve(served, np.flatnonzero(np.diff(served.starts)), options.sources)
    scores = ranker.score(booster, served, pairs, progress)
    ranked = judge.slates(dataset, pairs, scores)
    write.write_slates(out / "lists.json", ranked)

    asked = judges(outer, options.judges, options.seed)
    liked = judge.liked_later(dataset, outer.future, asked)
    write.write_liked_later(out / "liked_later.json", liked)
    judged = pairs.of(asked)
    by_light = light_model.score(served, judged)
    recommenders = {
        "popularity": judge.popularity(dataset, served, asked),
        "embeddings": judge.embeddings(dataset, served, asked),
        "light": judge.by_slates(judge.slates(dataset, judged, by_light)),
        "ranker": judge.by_slates(ranked),
    }
    planted = read_planted(data)
    if planted is not None:
        recommenders["oracle"] = judge.oracle(dataset, served, asked, planted)
    label = ranker.labels(dataset, judged, outer.future)
    trained = Trained(
        folder=out,
        rule=outer.rule,
        cutoff=outer.cutoff,
        quality=judge.judge(recommenders, liked, len(dataset.items), progress),
        auc={
            "embeddings": auc(label, ranker.feature_columns(served, judged)["affinity"]),
            "light": auc(label, by_light),
            "ranker": auc(label, scores[np.isin(pairs.user, asked)]),
        },
    )
    _write_report(trained, options)
    return trained


def _check_libraries() -> None:
    for library in ("lightgbm", "scipy", "sklearn"):
        if find_spec(library) is None:
            raise MissingExtra("training", "demo")


def _tables(dataset: Dataset, parts: Split, options: Options) -> tables.Tables:
    # Where every user has an own cutoff there is no common now, so nothing is recent.
    return tables.build(dataset, parts.past, options.dim, decayed=parts.rule is Rule.AT_TIME)


def _teach(
    dataset: Dataset, outer: Split, options: Options, progress: Progress
) -> tuple[Any, light.Light]:
    inner = split(outer.past, options.share, outer.rule)
    teachers = judges(inner, _MOST_TEACHERS, options.seed)
    if len(teachers) < _FEWEST_TEACHERS:
        raise InvalidInput(
            f"{len(teachers)} users liked a film after others that they had rated: too few to "
            f"learn from; a data set with {_FEWEST_TEACHERS} or more of them is wanted"
        )
    early = _tables(dataset, inner, options)
    pairs: Candidates = retrieve(early, teachers, options.sources)
    label = ranker.labels(dataset, pairs, inner.future)
    progress("embeddings", 1.0)
    booster = ranker.train(early, pairs, label, options.seed, progress)
    light_model = light.train(early, pairs, label, options.seed)
    progress("light", 1.0)
    return booster, light_model


def _write_report(trained: Trained, options: Options) -> None:
    report = {
        "split": {"rule": trained.rule.value, "cutoff": trained.cutoff, "share": options.share},
        "sources": asdict(options.sources),
        "quality": {name: asdict(quality) for name, quality in trained.quality.items()},
        "auc": trained.auc,
    }
    text = json.dumps(report, indent=2)
    (trained.folder / "report.json").write_text(text + "\n", encoding="utf-8")
