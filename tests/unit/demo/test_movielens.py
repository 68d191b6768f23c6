from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from martlet.demo.movielens import read
from martlet.errors import InvalidInput

MOVIES = (
    "movieId,title,genres\n"
    '11,"American President, The (1995)",Comedy|Drama\n'
    "5,Nameless,(no genres listed)\n"
)
RATINGS = "userId,movieId,rating,timestamp\n2,5,3.5,20\n2,11,4.0,10\n1,11,0.5,30\n"
USERS = "userId,gender,age,occupation,zip\n1,F,25,4,55408\n2,M,,,\n"


def folder(path: Path, files: dict[str, str], encoding: str = "utf-8") -> Path:
    for name, text in files.items():
        (path / name).write_text(text, encoding=encoding)
    return path


class TestLatest:
    def test_ids_titles_years_and_genres_are_read(self, tmp_path: Path):
        dataset = read(folder(tmp_path, {"movies.csv": MOVIES, "ratings.csv": RATINGS}))
        items = dataset.items
        assert dataset.layout == "latest"
        assert items.ids.tolist() == [5, 11]
        assert items.titles == ("Nameless", "American President, The (1995)")
        assert np.isnan(items.year[0])
        assert items.year[1] == 1995
        assert items.genre_names == ("Comedy", "Drama")
        assert (items.genres_of(0), items.genres_of(1)) == ([], ["Comedy", "Drama"])

    def test_ratings_are_in_order_of_time_and_name_rows(self, tmp_path: Path):
        dataset = read(folder(tmp_path, {"movies.csv": MOVIES, "ratings.csv": RATINGS}))
        ratings = dataset.ratings
        assert ratings.time.tolist() == [10, 20, 30]
        assert dataset.users.ids[ratings.user].tolist() == [2, 2, 1]
        assert dataset.items.ids[ratings.item].tolist() == [11, 5, 11]
        assert ratings.liked.tolist() == [True, False, False]

    def test_nothing_is_known_of_its_users(self, tmp_path: Path):
        users = read(folder(tmp_path, {"movies.csv": MOVIES, "ratings.csv": RATINGS})).users
        assert np.isnan([users.age, users.gender, users.occupation]).all()

    def test_of_two_ratings_of_a_film_the_later_stays(self, tmp_path: Path):
        twice = RATINGS + "2,11,1.0,40\n"
        ratings = read(folder(tmp_path, {"movies.csv": MOVIES, "ratings.csv": twice})).ratings
        assert ratings.time.tolist() == [20, 30, 40]
        assert ratings.value.tolist() == [3.5, 0.5, 1.0]

    def test_the_real_one_has_the_sizes_its_readme_states(self, shared: Path):
        dataset = read(shared / "datasets" / "ml-latest-small")
        sizes = len(dataset.ratings), len(dataset.items), len(dataset.users)
        assert sizes == (100_836, 9742, 610)


def test_generated_data_has_users(tmp_path: Path):
    files = {"movies.csv": MOVIES, "ratings.csv": RATINGS, "users.csv": USERS}
    dataset = read(folder(tmp_path, files))
    assert dataset.layout == "generated"
    assert dataset.users.age[0] == 25
    assert dataset.users.gender.tolist() == [1, 0]
    assert np.isnan(dataset.users.occupation[1])


def test_the_layout_of_100k_is_read(tmp_path: Path):
    flags = ["0"] * 19
    flags[5] = flags[8] = "1"
    files = {
        "u.data": "196\t242\t3\t881250949\n",
        "u.item": "242|Café (1996)|01-Jan-1996||http://x|" + "|".join(flags) + "\n",
        "u.user": "196|49|M|writer|55105\n",
    }
    dataset = read(folder(tmp_path, files, "latin-1"))
    assert dataset.layout == "100k"
    assert dataset.items.titles == ("Café (1996)",)
    assert dataset.items.genres_of(0) == ["Comedy", "Drama"]
    assert (dataset.users.age[0], dataset.users.gender[0]) == (49, 0)
    assert dataset.users.occupation[0] == 20
    assert dataset.ratings.time.tolist() == [881250949]


def test_the_layout_of_1m_is_read(tmp_path: Path):
    files = {
        "ratings.dat": "1::1193::5::978300760\n",
        "movies.dat": "1193::Misérables, Les (1995)::Drama|Musical\n",
        "users.dat": "1::F::1::10::48067\n",
    }
    dataset = read(folder(tmp_path, files, "latin-1"))
    assert dataset.layout == "1m"
    assert dataset.items.titles == ("Misérables, Les (1995)",)
    assert dataset.items.genre_names == ("Drama", "Musical")
    assert dataset.users.occupation.tolist() == [10]
    assert dataset.ratings.value.tolist() == [5]


BROKEN = [
    ({}, "holds no MovieLens data set"),
    ({"ratings.csv": RATINGS}, r"movies\.csv cannot be read"),
    ({"movies.csv": MOVIES, "ratings.csv": "userId,movieId,rating\n"}, "no column 'timestamp'"),
    ({"movies.csv": "movieId,title\n", "ratings.csv": RATINGS}, "no column 'genres'"),
    ({"movies.csv": MOVIES, "ratings.csv": RATINGS + "2,x,4,1\n"}, r"ratings\.csv: a line is not"),
    ({"movies.csv": MOVIES, "ratings.csv": RATINGS + "2,5\n"}, r"ratings\.csv: a line is not"),
    ({"movies.csv": MOVIES, "ratings.csv": RATINGS + "2,5,nan,1\n"}, "not a finite number"),
    ({"movies.csv": MOVIES, "ratings.csv": RATINGS + "2,5,77,1\n"}, "up to 5 is wanted"),
    ({"movies.csv": MOVIES, "ratings.csv": RATINGS + "2,6,4,1\n"}, "film 6 is rated, but is not"),
    ({"movies.csv": MOVIES, "ratings.csv": RATINGS.split("\n")[0] + "\n"}, "holds no ratings"),
    ({"movies.csv": MOVIES + "x,y,z\n", "ratings.csv": RATINGS}, "'x' stands where a whole"),
    ({"u.data": "1\t2\t3\t4\n", "u.item": "1|2\n", "u.user": ""}, "line 1: 2 fields; 24"),
    ({"ratings.dat": "1::2\n", "movies.dat": "1::a::b\n", "users.dat": ""}, "a line is not"),
]


@pytest.mark.parametrize(("files", "message"), BROKEN)
def test_a_broken_folder_is_refused_in_words(tmp_path: Path, files: dict[str, str], message: str):
    with pytest.raises(InvalidInput, match=message):
        read(folder(tmp_path, files))


def test_a_path_that_is_no_folder_is_refused(tmp_path: Path):
    with pytest.raises(InvalidInput, match="is not a folder"):
        read(tmp_path / "absent")
