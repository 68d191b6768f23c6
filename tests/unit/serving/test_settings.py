"""Settings of a model: what a file may say, and what a mistake is told."""

from __future__ import annotations

import pytest

from martlet.errors import InvalidInput
from martlet.serving.settings import (
    Isolation,
    ModelSettings,
    Transition,
    of_version,
    read_settings,
)


def test_a_file_has_a_table_for_each_model(tmp_path):
    file = tmp_path / "models.toml"
    file.write_text('[ctr]\nisolation = "process"\n[cvr]\nmax_rows = 8\nallowed_rows = [4, 8]\n')
    assert read_settings(file) == {
        "ctr": ModelSettings(isolation=Isolation.PROCESS),
        "cvr": ModelSettings(max_rows=8, allowed_rows=(4, 8)),
    }


def test_what_a_file_leaves_open_is_as_the_command_line_says(tmp_path):
    file = tmp_path / "models.toml"
    file.write_text('[ctr]\non_demand = false\n[cvr]\ntransition = "resource"\n')
    given = ModelSettings(on_demand=True)
    assert read_settings(file, given) == {
        "ctr": ModelSettings(),
        "cvr": ModelSettings(on_demand=True, transition=Transition.RESOURCE),
    }


def test_how_versions_follow_each_other_is_no_affair_of_one_of_them(tmp_path):
    (tmp_path / "settings.toml").write_text('transition = "resource"\n')
    with pytest.raises(InvalidInput, match="set it for the model, in --model-settings"):
        of_version(tmp_path, ModelSettings())


def test_a_version_may_say_otherwise_key_by_key(tmp_path):
    (tmp_path / "settings.toml").write_text("max_rows = 16\n")
    model = ModelSettings(max_queue=9, max_rows=4)
    assert of_version(tmp_path, model) == ModelSettings(max_queue=9, max_rows=16)
    assert of_version(tmp_path / "nothing", model) is model


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[ctr]\nisolation = 'box'", "'box'; inline, thread, process is wanted"),
        ("[ctr]\ntransition = 'swap'", "'swap'; availability, resource is wanted"),
        ("[ctr]\non_demand = 1", "true or false is wanted"),
        ("[ctr]\nmax_row = 1", "does not take 'max_row'; it takes: allowed_rows"),
        ("[ctr]\nmax_rows = true", "a number is wanted"),
        ("[ctr]\nmax_rows = -1", "0 or more is wanted"),
        ("[ctr]\nmax_rows = 4\nlinger_ms = nan", "linger_ms is nan; 0 or more is wanted"),
        ("[ctr]\ndeadline_ms = inf", "deadline_ms is inf; 0 or more is wanted"),
        ("[ctr]\nthreads = 1000000", "threads is 1000000; 1024 is the most"),
        ("[ctr]\nmax_rows = 8\nallowed_rows = [8, 4]", "must rise and end with max_rows"),
        ("[ctr]\nmax_rows = 8\nallowed_rows = 'all'", "a list of whole numbers"),
        ("[ctr]\nlinger_ms = 2", "set max_rows too"),
        ("ctr = 3", "a table of settings is wanted"),
        ("[ctr", "cannot be read as TOML"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path, text, why):
    file = tmp_path / "models.toml"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=why) as found:
        read_settings(file)
    assert "models.toml" in str(found.value)


def test_calls_work_on_the_loop_unless_told_otherwise():
    assert ModelSettings().on_loop
    assert not ModelSettings(max_rows=8).on_loop
    assert not ModelSettings(isolation=Isolation.THREAD).on_loop
    assert not ModelSettings(on_demand=True).on_loop
    assert ModelSettings(isolation=Isolation.PROCESS).at_once == 1
