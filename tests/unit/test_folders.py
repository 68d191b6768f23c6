"""Folders of versions, looked at again and again; and what clients ask beside them."""

from __future__ import annotations

import pytest

from martlet.errors import UnsupportedModel
from martlet.folders import FoldersWish
from martlet.servers.control import LoadModel, ServeModels, UnloadModel
from martlet.serving.settings import ModelSettings
from martlet.serving.versions import Desired, Reference, Source, Wanted
from martlet.watch import Watch
from martlet.wire.tfserving.config import ModelEntry


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def models(tmp_path):
    for name in ("m/1", "m/2", "n/00000007"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def wish(models, clock, *names: str, **how) -> FoldersWish:
    entries = [ModelEntry(name, str(models / name)) for name in names]
    return FoldersWish(entries, trusted=False, now=clock, **how)


def versions(desired) -> dict[str, list[int]]:
    return {name: sorted(wanted.versions) for name, wanted in desired.items()}


class TestFolders:
    def test_the_latest_version_is_wanted_and_told_once(self, models, clock):
        folders = wish(models, clock, "m", "n")
        assert versions(folders.poll()) == {"m": [2], "n": [7]}
        clock.now += 5
        assert folders.poll() is None

    def test_a_new_version_is_seen_after_the_poll_wait(self, models, clock):
        folders = wish(models, clock, "m", folder_poll_s=10.0)
        folders.poll()
        (models / "m/3").mkdir()
        clock.now += 9
        assert folders.poll() is None
        clock.now += 1
        assert versions(folders.poll()) == {"m": [3]}

    def test_a_wait_of_zero_looks_once(self, models, clock):
        folders = wish(models, clock, "m", folder_poll_s=0.0)
        assert versions(folders.poll()) == {"m": [2]}
        (models / "m/3").mkdir()
        clock.now += 1e6
        assert folders.poll() is None

    def test_a_folder_that_is_away_unloads_nothing(self, models, clock):
        folders = wish(models, clock, "m")
        folders.poll()
        (models / "m").rename(models / "away")
        clock.now += 5
        assert folders.poll() is None

    def test_a_folder_that_is_away_holds_up_no_other_model(self, models, clock):
        folders = wish(models, clock, "m", "n")
        folders.poll()
        (models / "m").rename(models / "away")
        (models / "n/8").mkdir()
        clock.now += 5
        assert versions(folders.poll()) == {"m": [2], "n": [8]}

    def test_a_model_that_is_added_without_its_folder_holds_up_no_other(self, models, clock):
        folders = wish(models, clock, "m")
        folders.poll()
        folders.ask(
            ServeModels(
                (ModelEntry("new", str(models / "nowhere")), ModelEntry("n", str(models / "n")))
            )
        )
        assert versions(folders.poll()) == {"n": [7]}

    def test_a_folder_that_was_never_there_stops_the_start(self, models, clock):
        with pytest.raises(UnsupportedModel, match="Could not find base path"):
            wish(models, clock, "nowhere")

    def test_a_folder_without_versions_unloads_its_model(self, models, clock):
        folders = wish(models, clock, "n")
        folders.poll()
        (models / "n/00000007").rmdir()
        clock.now += 5
        assert versions(folders.poll()) == {"n": []}

    def test_a_changed_config_file_is_read_and_a_broken_one_is_not(self, models, clock, tmp_path):
        file = tmp_path / "config"

        def write(name: str) -> None:
            file.write_text(
                f'model_config_list {{ config {{ name: "{name}" base_path: "{models / name}" '
                'model_platform: "tensorflow" } }'
            )

        write("n")
        folders = wish(models, clock, "m", config_file=file, config_poll_s=60.0)
        assert versions(folders.poll()) == {"m": [2]}
        clock.now += 60
        assert versions(folders.poll()) == {"n": [7]}
        file.write_text("improperly formatted")
        clock.now += 60
        assert folders.poll() is None
        write("m")
        clock.now += 60
        assert versions(folders.poll()) == {"m": [2]}


class TestWatch:
    @pytest.fixture
    def watch(self, models, clock) -> Watch:
        folders = wish(models, clock, "m", "n")
        found = Watch([folders], folders)
        assert versions(found.poll()) == {"m": [2], "n": [7]}
        return found

    def test_what_is_unloaded_stays_away_until_it_is_loaded(self, watch):
        watch.ask(UnloadModel("m"))
        assert versions(watch.poll()) == {"n": [7]}
        assert watch.poll() is None
        watch.ask(LoadModel("m"))
        assert versions(watch.poll()) == {"m": [2], "n": [7]}

    def test_other_models_take_the_place_of_those_that_came_from_folders(self, watch, models):
        entry = ModelEntry("m", str(models / "m"), latest=0, every=True)
        watch.ask(ServeModels((entry,)))
        assert versions(watch.poll()) == {"m": [1, 2]}

    def test_what_a_recommender_ranks_by_is_always_open(self, models, clock):
        folders = wish(models, clock, "m", "n")

        class Recommenders:
            def poll(self) -> Desired:
                ranking = Reference("model", "n", 7, models / "n" / "7")
                return {
                    "films": Wanted({1: Source(models, "recommender", references={"r": ranking})})
                }

        watch = Watch([folders, Recommenders()], folders, default=ModelSettings(on_demand=True))
        found = watch.poll()
        assert found is not None
        assert found["m"].versions[2].settings.on_demand
        assert not found["n"].versions[7].settings.on_demand
        assert not found["films"].versions[1].settings.on_demand

    def test_who_lists_an_unloaded_model_wants_it(self, watch, models):
        watch.ask(UnloadModel("m"))
        watch.poll()
        watch.ask(ServeModels((ModelEntry("m", str(models / "m")),)))
        assert versions(watch.poll()) == {"m": [2]}
