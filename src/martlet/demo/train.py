"""The offline half, from a data set to a folder of files, with the quality that they have.

Twice the same steps: on the earliest part of the ratings, to teach the ranker what was liked in the
part that follows; then on both parts, to make what is served and to judge it by the last part,
which nothing was learnt from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from martlet.demo import light as light_model
from martlet.demo import movielens, ranker, tables, write
from martlet.demo.candidates import Candidates, Sources, retrieve
from martlet.demo.dataset import Dataset, Floats, Ints
from martlet.demo.evaluate import Progress, Quality, auc, evaluate, silent
from martlet.demo.generate import Planted, Settings, generate, read_planted
from martlet.demo.generate import write as write_generated
from martlet.demo.split import Rule, Split, judges, split
from martlet.errors import InvalidInput, MissingExtra

LIST_LENGTH = 50
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


def prepare(source: Path | Settings, out: Path, progress: Progress = silent) -> Path:
    """
    Return the folder of a data set: *source* itself, or *out* with a generated one in it.

    Raises:
        InvalidInput: *source* holds no data set, or asks for one that cannot be made.
    """
    if isinstance(source, Settings):
        write_generated(generate(source, progress), out)
        return out
    movielens.read(source)
    progress("read", 1.0)
    return source


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
    booster, light = _teach(dataset, outer, options, progress)

    served = _tables(dataset, outer, options)
    write.write_tables(dataset, served, out)
    write.write_ranker(booster, out / "ranker")
    write.write_light(light, out / "light")
    progress("tables", 1.0)

    everybody = np.flatnonzero(np.diff(served.starts))
    pairs = retrieve(served, everybody, options.sources)
    scores = ranker.score(booster, ranker.feature_columns(served, pairs))
    progress("score", 1.0)
    slates = _slates(dataset, pairs, scores)
    write.write_lists(
        out / "lists.json",
        {str(user): write.scored(*slate) for user, slate in slates.items()},
    )
    asked = judges(outer, options.judges, options.seed)
    truth = liked_later(dataset, outer, asked)
    write.write_lists(
        out / "liked_later.json",
        {str(user): {"items": sorted(items)} for user, items in truth.items()},
    )
    rivals = _rivals(dataset, served, light, asked, options, read_planted(data))
    rivals["ranker"] = lambda user: slates[user][0].tolist()
    quality = {
        name: evaluate(recommend, truth, len(dataset.items), progress)
        for name, recommend in rivals.items()
    }
    judged = np.isin(pairs.user, asked)
    label = ranker.labels(dataset, pairs, outer.future)[judged]
    by = {
        "affinity": _affinity(served, pairs)[judged],
        "light": light.score(served, pairs)[judged],
        "ranker": scores[judged],
    }
    trained = Trained(
        out, outer.rule, outer.cutoff, quality, {name: auc(label, s) for name, s in by.items()}
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
) -> tuple[object, light_model.Light]:
    inner = split(outer.past, options.share, outer.rule)
    teachers = judges(inner, _MOST_TEACHERS, options.seed)
    if len(teachers) < _FEWEST_TEACHERS:
        raise InvalidInput(
            f"{len(teachers)} users liked a film after others that they had rated: too few to "
            f"learn from; a data set with {_FEWEST_TEACHERS} or more of them is wanted"
        )
    early = _tables(dataset, inner, options)
    progress("embeddings", 1.0)
    pairs = retrieve(early, teachers, options.sources)
    label = ranker.labels(dataset, pairs, inner.future)
    progress("candidates", 1.0)
    columns = ranker.feature_columns(early, pairs)
    booster = ranker.train(columns, label, pairs, options.seed)
    progress("ranker", 1.0)
    light = light_model.train(early, pairs, label, options.seed)
    progress("light", 1.0)
    return booster, light


def liked_later(dataset: Dataset, parts: Split, users: Ints) -> dict[int, set[int]]:
    """Return what each of *users* (rows) liked in the held-out part: ids by id."""
    found: dict[int, set[int]] = {int(dataset.users.ids[user]): set() for user in users}
    liked = parts.future.where(parts.future.liked & np.isin(parts.future.user, users))
    for user, item in zip(liked.user, liked.item, strict=True):
        found[int(dataset.users.ids[user])].add(int(dataset.items.ids[item]))
    return found


def _slates(dataset: Dataset, pairs: Candidates, scores: Floats) -> dict[int, tuple[Ints, Floats]]:
    """Return each user's best candidates, by id: the ids of the films, and their scores."""
    found: dict[int, tuple[Ints, Floats]] = {}
    edges = np.searchsorted(pairs.row, np.arange(len(pairs.users) + 1))
    for row, user in enumerate(pairs.users):
        part = slice(edges[row], edges[row + 1])
        best = np.argsort(-scores[part], kind="stable")[:LIST_LENGTH]
        items = dataset.items.ids[pairs.item[part][best]]
        found[int(dataset.users.ids[user])] = items, scores[part][best]
    return found


def _affinity(served: tables.Tables, pairs: Candidates) -> Floats:
    return ranker.feature_columns(served, pairs)["affinity"]


def _rivals(
    dataset: Dataset,
    served: tables.Tables,
    light: light_model.Light,
    asked: Ints,
    options: Options,
    planted: Planted | None,
) -> dict[str, Callable[[int], Sequence[int]]]:
    """Return the other ways to recommend, each with the same filter of what has been seen."""

    def best_of(score: Floats) -> Callable[[int], Sequence[int]]:
        """Score: [asked, items]."""
        hidden = np.where(served.seen(asked), -np.inf, score)
        top = np.argsort(-hidden, axis=1, kind="stable")[:, :LIST_LENGTH]
        shown = {
            int(dataset.users.ids[user]): dataset.items.ids[
                top[row][np.isfinite(hidden[row, top[row]])]
            ].tolist()
            for row, user in enumerate(asked)
        }
        return shown.__getitem__

    place = np.argsort(served.popular, kind="stable")
    pairs = retrieve(served, asked, options.sources)
    light_slates = _slates(dataset, pairs, light.score(served, pairs))
    found: dict[str, Callable[[int], Sequence[int]]] = {
        "popularity": best_of(np.tile(-place.astype(np.float64), (len(asked), 1))),
        "embeddings": best_of(
            np.where(served.rated, served.user_vectors[asked] @ served.item_vectors.T, -np.inf)
        ),
        "light": lambda user: light_slates[user][0].tolist(),
    }
    if planted is not None:
        found["oracle"] = best_of(
            planted.oracle()[dataset.users.ids[asked] - 1][:, dataset.items.ids - 1]
        )
    return found


def _write_report(trained: Trained, options: Options) -> None:
    report = {
        "split": {"rule": trained.rule.value, "cutoff": trained.cutoff, "share": options.share},
        "sources": asdict(options.sources),
        "quality": {name: asdict(quality) for name, quality in trained.quality.items()},
        "auc": trained.auc,
    }
    text = json.dumps(report, indent=2)
    (trained.folder / "report.json").write_text(text + "\n", encoding="utf-8")
