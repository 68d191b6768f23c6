"""The offline half on a small generated set: what its files hold, and that it learns."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from martlet.demo import movielens
from martlet.demo.candidates import Sources
from martlet.demo.evaluate import ndcg
from martlet.demo.generate import Settings
from martlet.demo.prepare import prepare
from martlet.demo.train import Options, Trained, train
from martlet.errors import InvalidInput

for library in ("lightgbm", "scipy", "sklearn"):
    pytest.importorskip(library)

OPTIONS = Options(sources=Sources(nearest=60, neighbours=40, popular=20))
SETTINGS = Settings(users=250, items=300, ratings=15_000, seed=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(SETTINGS, tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(data, tmp_path_factory.mktemp("trained"), OPTIONS)


def lists(trained: Trained, name: str) -> dict[str, Any]:
    """The lists in a file: by key their items, and the scores where they have any."""
    written = json.loads((trained.folder / name).read_text())
    return {
        key: {
            "items": [each[0] if isinstance(each, list) else each for each in found],
            "scores": [each[1] for each in found if isinstance(each, list)],
        }
        for key, found in written.items()
    }


def vectors(trained: Trained, name: str) -> dict[int, np.ndarray]:  # type: ignore[type-arg]
    with np.load(trained.folder / name) as file:
        assert file["vectors"].dtype == np.float32
        return dict(zip(file["keys"].tolist(), file["vectors"], strict=True))


def columns(trained: Trained, name: str, key: str) -> dict[int, dict[str, str]]:
    with (trained.folder / name).open(newline="") as file:
        return {int(row[key]): row for row in csv.DictReader(file)}


class TestQuality:
    def test_the_ranker_lies_between_popularity_and_the_oracle(self, trained: Trained):
        ndcgs = {name: quality.ndcg_at_10 for name, quality in trained.quality.items()}
        assert 1.3 * ndcgs["popularity"] < ndcgs["ranker"] < ndcgs["oracle"]
        assert 1.3 * ndcgs["popularity"] < ndcgs["embeddings"] < ndcgs["oracle"]
        assert 1.3 * ndcgs["popularity"] < ndcgs["light"] < ndcgs["oracle"]

    def test_the_ranker_tells_what_is_liked_later_better_than_the_vectors_alone(
        self, trained: Trained
    ):
        assert trained.auc["ranker"] > trained.auc["embeddings"] > 0.6

    def test_shuffled_stars_and_films_teach_nothing(self, data: Path, tmp_path: Path):
        # The check that the margin above is learnt: it goes when there is nothing to learn.
        rows = (data / "ratings.csv").read_text().splitlines()
        fields = [row.split(",") for row in rows[1:]]
        rng = np.random.default_rng(0)
        moved = rng.permutation(len(fields))
        for name in ("movies.csv", "users.csv"):
            (tmp_path / name).write_text((data / name).read_text())
        lines = [
            ",".join([user, *fields[other][1:3], time])
            for (user, _, _, time), other in zip(fields, moved, strict=True)
        ]
        (tmp_path / "ratings.csv").write_text("\n".join([rows[0], *lines]) + "\n")
        blind = train(tmp_path, tmp_path / "out", OPTIONS).quality
        assert blind["ranker"].ndcg_at_10 < 1.15 * blind["popularity"].ndcg_at_10


class TestFiles:
    def test_the_files_alone_give_the_same_slates_as_training_did(self, trained: Trained):
        """Do what a server does: retrieve, filter, look up, dot, rank, in the plainest way."""
        import lightgbm

        booster = lightgbm.Booster(model_file=str(trained.folder / "ranker" / "model.txt"))
        users = columns(trained, "users.csv", "user_id")
        items = columns(trained, "items.csv", "item_id")
        sides = {
            "affinity": ("user_embeddings.npz", "item_embeddings.npz"),
            "recent_affinity": ("user_recent.npz", "item_embeddings.npz"),
            "genre_match": ("user_genres.npz", "item_genres.npz"),
        }
        dots = {
            name: (vectors(trained, left), vectors(trained, right))
            for name, (left, right) in sides.items()
        }
        alike, seen = lists(trained, "neighbours.json"), lists(trained, "seen.json")
        popular = lists(trained, "popular.json")["all"]["items"]
        report = json.loads((trained.folder / "report.json").read_text())
        take = report["sources"]
        for user, stored in list(lists(trained, "lists.json").items())[:15]:
            history = seen[user]["items"]
            known = set(history)
            left, right = dots["affinity"]
            near = {item: float(left[int(user)] @ vector) for item, vector in right.items()}
            near = {item: score for item, score in near.items() if item not in known}
            summed: dict[float, float] = {}
            for film in history[-take["recent"] :]:
                found = alike[str(film)]
                for item, score in zip(found["items"], found["scores"], strict=True):
                    if item not in known:
                        summed[item] = summed.get(item, 0) + score
            candidates = {
                *sorted(near, key=near.__getitem__, reverse=True)[: take["nearest"]],
                *sorted(summed, key=summed.__getitem__, reverse=True)[: take["neighbours"]],
                *[item for item in popular if item not in known][: take["popular"]],
            }
            order = sorted(int(item) for item in candidates)
            rows = []
            for item in order:
                row = {**users[int(user)], **items[item]}
                for name, (left, right) in dots.items():
                    row[name] = repr(
                        float(left[int(user)].astype(float) @ right[item].astype(float))
                    )
                rows.append([float(row[name] or "nan") for name in booster.feature_name()])
            scores = booster.predict(np.array(rows))
            best = np.argsort(-scores, kind="stable")[: len(stored["items"])]
            assert scores[best] == pytest.approx(stored["scores"], abs=1e-6)
            assert [order[place] for place in best] == stored["items"]

    def test_a_users_vector_can_be_made_of_the_history(self, trained: Trained, data: Path):
        ratings = movielens.read(data)
        items = vectors(trained, "item_embeddings.npz")
        stars = {
            (int(ratings.users.ids[user]), int(ratings.items.ids[item])): value
            for user, item, value in zip(
                ratings.ratings.user, ratings.ratings.item, ratings.ratings.value, strict=True
            )
        }
        made = vectors(trained, "user_embeddings.npz")
        recent = vectors(trained, "user_recent.npz")
        for user, seen in list(lists(trained, "seen.json").items())[:20]:
            films = [int(item) for item in seen["items"]]
            weight = np.array([max((stars[int(user), film] - 2) / 3, 0.1) for film in films])
            weight /= np.linalg.norm(weight)
            expected = weight @ np.array([items[film] for film in films])
            assert made[int(user)] == pytest.approx(expected, abs=1e-5)
            last = np.mean([items[film] for film in films[-10:]], axis=0)
            assert recent[int(user)] == pytest.approx(last, abs=1e-5)

    def test_the_light_model_is_a_sigmoid_of_product_and_item(self, trained: Trained):
        with np.load(trained.folder / "light" / "light.npz") as file:
            assert file["inputs"].tolist() == ["product", "item"]
            dim = len(next(iter(vectors(trained, "item_embeddings.npz").values())))
            assert file["w0"].shape == (2 * dim, 1)
            assert file["b0"].shape == (1,)

    def test_nothing_that_is_served_was_liked_later_and_seen(self, trained: Trained):
        seen = lists(trained, "seen.json")
        stored = lists(trained, "lists.json")
        for user, later in lists(trained, "liked_later.json").items():
            assert not set(later["items"]) & set(seen[user]["items"])
            assert not set(stored[user]["items"]) & set(seen[user]["items"])

    def test_the_stored_lists_score_what_the_report_says(self, trained: Trained):
        stored = lists(trained, "lists.json")
        later = lists(trained, "liked_later.json")
        hits = np.array(
            [
                [item in later[user]["items"] for item in stored[user]["items"][:10]]
                for user in later
            ]
        )
        report = json.loads((trained.folder / "report.json").read_text())
        found = ndcg(hits, [len(each["items"]) for each in later.values()], 10).mean()
        assert found == pytest.approx(report["quality"]["ranker"]["ndcg_at_10"])

    def test_neighbours_and_popular_name_only_films_with_a_past(self, trained: Trained):
        known = set(columns(trained, "items.csv", "item_id"))
        alike = lists(trained, "neighbours.json")
        assert {int(key) for key in alike} == known
        for key, found in alike.items():
            assert set(found["items"]) <= known - {int(key)}
            assert found["scores"] == sorted(found["scores"], reverse=True)
        assert set(lists(trained, "popular.json")["all"]["items"]) <= known

    def test_training_twice_gives_the_same_files(
        self, trained: Trained, data: Path, tmp_path: Path
    ):
        again = train(data, tmp_path, OPTIONS).folder
        for path in sorted(trained.folder.rglob("*.*")):
            twin = again / path.relative_to(trained.folder)
            digests = [hashlib.sha256(p.read_bytes()).hexdigest() for p in (path, twin)]
            assert digests[0] == digests[1], path.name


class TestNoLeak:
    def test_what_is_served_does_not_change_with_the_held_out_part(
        self, data: Path, trained: Trained, tmp_path: Path
    ):
        """Turn every held-out rating round: only the verdict may change, no table and no model."""
        assert trained.cutoff is not None
        rows = (data / "ratings.csv").read_text().splitlines()
        turned = [rows[0]]
        for row in rows[1:]:
            user, item, value, time = row.split(",")
            if int(time) >= trained.cutoff:
                value = str(5.5 - float(value))
            turned.append(",".join([user, item, value, time]))
        for name in ("movies.csv", "users.csv"):
            (tmp_path / name).write_text((data / name).read_text())
        (tmp_path / "ratings.csv").write_text("\n".join(turned) + "\n")
        other = train(tmp_path, tmp_path / "out", OPTIONS)
        verdicts = {"liked_later.json", "report.json"}
        for path in sorted(trained.folder.rglob("*.*")):
            twin = other.folder / path.relative_to(trained.folder)
            if path.name in verdicts:
                assert path.read_bytes() != twin.read_bytes()
            elif path.suffix == ".npz":
                with np.load(path) as ours, np.load(twin) as theirs:
                    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
            else:
                assert path.read_bytes() == twin.read_bytes(), path.name


class TestRefusals:
    def test_too_few_ratings_are_refused_in_words(self, tmp_path: Path):
        (tmp_path / "movies.csv").write_text("movieId,title,genres\n1,A (2000),Drama\n2,B,Drama\n")
        (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,1,4,1\n1,2,4,2\n")
        with pytest.raises(InvalidInput, match="too few"):
            train(tmp_path, tmp_path / "out")

    def test_a_source_that_holds_nothing_is_refused_before_any_work(self, tmp_path: Path):
        with pytest.raises(InvalidInput, match="holds no MovieLens data set"):
            prepare(tmp_path, tmp_path / "out")


@pytest.mark.slow
def test_on_real_ratings_the_ranker_is_clearly_above_popularity(shared: Path, tmp_path: Path):
    trained = train(shared / "datasets" / "ml-latest-small", tmp_path)
    ranker, popular = (trained.quality[name] for name in ("ranker", "popularity"))
    assert ranker.ndcg_at_10 > 1.3 * popular.ndcg_at_10
    assert ranker.recall_at_50 > 1.3 * popular.recall_at_50
