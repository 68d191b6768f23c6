"""A real two-stage recommender that nobody here made: its folder, its ranker, its vectorizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import martlet
from martlet import formats

pytestmark = [pytest.mark.shared, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("lightgbm")


@pytest.fixture
def folder(shared: Path) -> Path:
    return shared / "models" / "pipeline_rankflix" / "rankflix"


@pytest.fixture
def golden(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "open.golden.json").read_text())


def test_the_folder_is_opened_as_its_ranker_and_scores_as_upstream_did(folder: Path, golden: Any):
    assert formats.sniff(folder).name == "folder"
    slates = [case["top10_scored"] for case in golden]
    with martlet.load(folder) as ranker:
        for slate in slates:
            rows = np.array([item["features"] for item in slate])
            found = ranker.predict({"X": rows})["predict"]
            np.testing.assert_allclose(found, [item["score"] for item in slate], rtol=1e-6)
            assert (np.diff(found) <= 0).all()


def test_its_features_follow_from_its_popularity_and_its_pickled_vectorizer(
    folder: Path, golden: Any
):
    pytest.importorskip("sklearn")
    sparse = pytest.importorskip("scipy.sparse")
    popularity = json.loads((folder / "popularity.json").read_text())
    movies = json.loads((folder / "idx_to_movie_id.json").read_text())
    place = {movie: i for i, movie in enumerate(movies)}
    tags = sparse.load_npz(folder / "movie_tag_matrix.npz")
    asked = [case for case in golden if "liked_tags" in case["request"]]
    assert asked
    with martlet.load(folder / "tfidf.pkl", trusted=True) as vectorizer:
        for case in asked:
            text = " ".join(case["request"]["liked_tags"])
            (vector,) = vectorizer.predict({"X": [text]})["transform"]
            for item in case["top10_scored"]:
                popular = popularity[str(item["movieId"])]
                alike = (tags[place[item["movieId"]]] @ vector).item()
                found = [popular, np.log1p(popular), alike]
                np.testing.assert_allclose(found, item["features"], rtol=1e-6)
