"""``martlet models``, ``label``, ``retire`` and ``delete``, as they are typed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from martlet.cli import main
from martlet.cli.output import print_table


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Type a command in a folder whose registry has two versions of ``light``, 1 being stable."""
    monkeypatch.chdir(tmp_path)
    np.savez("light.npz", inputs=np.array(["dot"]), w0=np.ones((1, 1)), b0=np.zeros(1))

    def typed(*words, code=0):
        found = CliRunner().invoke(main, list(words), env={"COLUMNS": "200"})
        assert found.exit_code == code, found.output
        return found.output

    for _ in range(2):
        typed("import", "light.npz", "--name", "light", "--as-is")
    typed("label", "light", "1", "stable")
    return typed


def standings(run):
    return {each["version"]: each["standing"] for each in json.loads(run("models", "--json"))}


def test_a_version_is_retired_and_restored(run):
    assert "light@2 is retired" in run("retire", "light@2")
    assert standings(run) == {2: "retired", 1: "available"}
    assert "retired" in run("models")
    assert "light@2 is available" in run("retire", "light@2", "--restore")
    assert "standing" not in run("models"), "all are available"


def test_a_deleted_version_is_listed_on_request_alone(run):
    assert json.loads(run("delete", "light@2", "--json"))["standing"] == "deleted"
    assert standings(run) == {1: "available"}
    assert "deleted" in run("models", "light", "--all")
    assert "no version 'light@2'" in run("delete", "light@2", code=3)


@pytest.mark.parametrize("command", ["retire", "delete"])
def test_what_a_label_names_stays(run, command):
    assert "move the label before" in run(command, "light@1", code=2)
    assert "say which version" in run(command, "light", code=2)


def test_a_label_that_does_not_move_is_shown_where_it_is(run):
    run("label", "light", "2", "canary")
    again = json.loads(run("label", "light", "1", "stable", "--json"))
    assert [(each["label"], each["to"]) for each in again] == [("stable", 1)]


def test_an_empty_registry_says_how_to_begin(run):
    run("import", "missing.npz", "--name", "x", "--root", "other", code=3)
    assert "martlet import PATH --name NAME" in run("models", "--root", "other")


def test_a_narrow_terminal_folds_the_longest_text_and_cuts_nothing(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "50")
    about = "a text that is longer than all the others are"
    print_table(["name", "#size", "about"], [["item_embeddings", "75.1 kB", about]])
    _, first, *more = capsys.readouterr().out.splitlines()
    name, size, beginning = first[:17].strip(), first[17:26].strip(), first[26:].strip()
    assert (name, size) == ("item_embeddings", "75.1 kB")
    assert " ".join([beginning, *(line.strip() for line in more)]) == about


@pytest.mark.parametrize("width", [56, 30])
def test_a_terminal_too_narrow_for_that_folds_every_column(monkeypatch, capsys, width: int):
    monkeypatch.setenv("COLUMNS", str(width))
    names = ["name", "#size", "kind", "imported"]
    row = ["item_embeddings", "75.1 kB", "recommender", "2026-11-22 02:09"]
    print_table(names, [row])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    told = "".join([*names, *row]).replace("#", "").replace(" ", "")
    assert sorted("".join(lines).replace(" ", "")) == sorted(told)
