"""Any sequence of changes, against a registry that is a few dicts."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from martlet.errors import AlreadyExists, InvalidInput, ModelNotFound
from martlet.registry import Registry

NAMES = st.sampled_from(["ctr", "cvr"])
NUMBERS = st.integers(0, 6)
LABELS = st.sampled_from(["stable", "canary"])


class History(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name) / "root"
        self.registry = Registry.open(self.root)
        self.content: dict[tuple[str, int], str] = {}  # "" once deleted
        self.retired: set[tuple[str, int]] = set()
        self.labels: dict[tuple[str, str], int] = {}
        self.moves: list[tuple[str, str, int | None, int | None]] = []

    def teardown(self) -> None:
        self.registry.close()
        self.folder.cleanup()

    @rule(name=NAMES, number=st.none() | NUMBERS, text=st.text("abc", min_size=1))
    def import_(self, name: str, number: int | None, text: str) -> None:
        source = Path(self.folder.name) / "model.txt"
        source.write_text(text)
        if (name, number) in self.content:
            with pytest.raises(AlreadyExists):
                self.registry.import_(source, name, version=number)
            return
        found = self.registry.import_(source, name, version=number).number
        if number is None:
            number = max((n for m, n in self.content if m == name), default=0) + 1
        assert found == number
        self.content[name, number] = text

    @rule(name=NAMES, label=LABELS, number=NUMBERS)
    def label(self, name: str, label: str, number: int) -> None:
        if not self.content.get((name, number)):
            with pytest.raises(ModelNotFound):
                self.registry.label(name, label, number)
        elif (name, number) in self.retired:
            with pytest.raises(InvalidInput):
                self.registry.label(name, label, number)
        else:
            self.registry.label(name, label, number)
            before = self.labels.get((name, label))
            if before != number:
                self.moves.append((name, label, before, number))
            self.labels[name, label] = number

    @rule(name=NAMES, label=LABELS)
    def unlabel(self, name: str, label: str) -> None:
        if (name, label) not in self.labels:
            with pytest.raises(ModelNotFound):
                self.registry.unlabel(name, label)
        else:
            self.registry.unlabel(name, label)
            self.moves.append((name, label, self.labels.pop((name, label)), None))

    @rule(name=NAMES, number=NUMBERS, act=st.sampled_from(["retire", "restore", "delete"]))
    def stand(self, name: str, number: int, act: str) -> None:
        labelled = number in [n for (m, _), n in self.labels.items() if m == name]
        if not self.content.get((name, number)):
            with pytest.raises(ModelNotFound):
                getattr(self.registry, act)(f"{name}@{number}")
        elif act != "restore" and labelled:
            with pytest.raises(InvalidInput):
                getattr(self.registry, act)(f"{name}@{number}")
        else:
            getattr(self.registry, act)(f"{name}@{number}")
            self.retired.discard((name, number))
            if act == "retire":
                self.retired.add((name, number))
            elif act == "delete":
                self.content[name, number] = ""

    @rule()
    def reopen(self) -> None:
        self.registry.close()
        self.registry = Registry.open(self.root)

    @invariant()
    def it_is_what_the_dicts_say(self) -> None:
        live = {key: text for key, text in self.content.items() if text}
        assert {
            (version.name, version.number): self.registry.path_of(version).read_text()
            for version in self.registry.versions()
        } == live
        for model in self.registry.models():
            serving = [n for m, n in live if m == model.name and (m, n) not in self.retired]
            assert model.latest == max(serving, default=None)
            assert model.labels == {
                label: number for (m, label), number in self.labels.items() if m == model.name
            }
            assert [
                (m.name, m.label, m.before, m.after) for m in self.registry.moves(model.name)
            ] == [move for move in self.moves if move[0] == model.name]


History.TestCase.settings = settings(max_examples=15, stateful_step_count=25)
TestHistory = History.TestCase
