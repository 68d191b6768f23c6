from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from martlet.demo import movielens
from martlet.demo.generate import Settings, generate, read_planted, write
from martlet.demo.titles import title
from martlet.errors import InvalidInput

FILES = ("users.csv", "movies.csv", "ratings.csv", "impressions.csv")
SMALL = Settings(users=30, items=60, ratings=400, seed=3)


def digest(folder: Path) -> str:
    sha = hashlib.sha256()
    for name in FILES:
        sha.update((folder / name).read_bytes())
    return sha.hexdigest()


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generated")
    write(generate(), folder)
    return folder


class TestGenerate:
    def test_the_default_output_is_pinned(self, default: Path):
        # A change of this digest is a change of everybody's demo data: say so in the changelog.
        assert digest(default) == "a5bc85d41f4070285ef2cc88f0bd0ac6d85b6f33edaed294d19ff429a41cf8de"

    def test_the_sizes_are_those_asked_for(self, default: Path):
        dataset = movielens.read(default)
        assert len(dataset.users) == 600
        assert len(dataset.items) == 1000
        assert len(dataset.ratings) == 60_000

    def test_a_seed_makes_the_same_bytes_and_another_seed_others(self, tmp_path: Path):
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            write(generate(Settings(30, 60, 400, seed)), tmp_path / name)
        assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")

    def test_nobody_rates_a_film_twice_or_before_it_came_out(self):
        made = generate(SMALL)
        pairs = {(user, item) for user, item, _, _ in made.ratings}
        assert len(pairs) == len(made.ratings) == 400
        release = made.planted.release
        first = min(time for _, _, _, time in made.ratings)
        span = 1095 * 86_400
        for _, item, _, time in made.ratings:
            assert time >= 1_577_836_800 + int(release[item - 1] * span)
        assert first >= 1_577_836_800

    def test_nobody_rates_more_than_half_of_the_films(self):
        made = generate(Settings(users=20, items=40, ratings=200))
        most = np.bincount([user for user, *_ in made.ratings]).max()
        # Rounding may add one in an epoch.
        assert most <= 20 + 12
        assert len(made.ratings) == 200

    def test_stars_are_halves_from_one_half_to_five(self):
        values = {value for _, _, value, _ in generate(SMALL).ratings}
        assert values <= {half / 2 for half in range(1, 11)}

    def test_a_place_further_down_is_clicked_less(self):
        made = generate(Settings(users=400, items=100, ratings=4000))
        rows = np.array([row[3:] for row in made.impressions])
        top, bottom = (rows[rows[:, 0] == place, 1].mean() for place in (1, 10))
        assert top > 1.5 * bottom

    def test_the_truth_is_kept_beside_the_data(self, tmp_path: Path):
        made = generate(SMALL)
        write(made, tmp_path)
        planted = read_planted(tmp_path)
        assert planted is not None
        assert np.array_equal(planted.oracle(), made.planted.oracle())

    def test_data_that_nobody_generated_has_no_known_truth(self, tmp_path: Path):
        assert read_planted(tmp_path) is None

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            (Settings(users=0), "1 user or more"),
            (Settings(items=10), "40 items or more"),
            (Settings(seed=-1), "seed of 0 or more"),
            (Settings(ratings=100), "6000 to 150000 are wanted"),
            (Settings(ratings=1_000_000), "6000 to 150000 are wanted"),
        ],
    )
    def test_what_cannot_be_made_is_refused(self, settings: Settings, message: str):
        with pytest.raises(InvalidInput, match=message):
            generate(settings)


def test_every_number_has_its_own_title():
    assert len({title(number, 2000) for number in range(10_000)}) == 10_000
