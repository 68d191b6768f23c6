"""A door asks for other models, and waits until its own table shows them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from martlet.errors import Code, DeadlineExceeded, NotAvailable, Unimplemented, WrongState
from martlet.servers import control as module
from martlet.servers.control import Control, LoadModel, ServeModels, UnloadModel
from martlet.serving.engine import Engine
from martlet.serving.traffic import Model, Table, Variant
from martlet.states import State, VersionStatus
from martlet.wire.tfserving.config import ModelEntry


def answering(name: str, *versions: int, **labels: int) -> Model[Any]:
    variants = {v: Variant(name, v, object()) for v in versions}
    return Model(name, variants, labels, tuple(VersionStatus(v, State.AVAILABLE) for v in versions))


def failed(name: str, version: int, message: str) -> Model[Any]:
    status = VersionStatus(version, State.END, Code.FAILED_PRECONDITION, message)
    return Model(name, {}, {}, (status,))


class Server:
    """Answers an ask with the table that a test wrote down for it."""

    def __init__(self, *models: Model[Any], then: Table | None = None, **how: Any) -> None:
        self.engine = Engine()
        self.engine.publish(Table({each.name: each for each in models}))
        self.asked: list[Any] = []
        self.then = then
        self.control = Control(self.engine, self.take, **how)

    def take(self, ask: Any) -> None:
        self.asked.append(ask)
        if self.then is not None:
            self.engine.publish(self.then)


def table(*models: Model[Any]) -> Table:
    return Table({each.name: each for each in models})


def soon() -> float:
    return time.monotonic() + 0.05


def test_a_reload_returns_when_the_new_model_answers():
    server = Server(answering("a", 1), then=table(answering("a", 1), answering("b", 1)))
    entries = [ModelEntry("a", "/a"), ModelEntry("b", "/b")]
    server.control.serve(entries)
    assert server.asked == [ServeModels(tuple(entries))]


def test_a_new_model_that_fails_is_told_with_its_reason():
    server = Server(then=table(failed("b", 1, "it is broken")))
    with pytest.raises(NotAvailable, match="it is broken"):
        server.control.serve([ModelEntry("b", "/b")])


def test_a_failure_of_before_is_told_when_nothing_comes_of_it(monkeypatch):
    monkeypatch.setattr(module, "_SETTLE_S", 0.0)
    server = Server(failed("b", 1, "it is broken"))
    with pytest.raises(NotAvailable, match="it is broken"):
        server.control.load("b")
    assert server.asked == [LoadModel("b")]


def test_a_model_that_never_comes_is_waited_for_until_the_deadline():
    with pytest.raises(DeadlineExceeded):
        Server().control.serve([ModelEntry("b", "/b")], until=soon())


def test_an_unload_returns_when_the_version_has_left():
    gone: Model[Any] = Model("a", {}, {}, (VersionStatus(1, State.END),))
    server = Server(answering("a", 1), then=table(gone))
    server.control.unload("a")
    assert server.asked == [UnloadModel("a")]


@pytest.mark.parametrize(
    ("labels", "lenient", "refused"),
    [
        ({"stable": 1}, False, False),
        ({"stable": 9}, False, True),
        ({"stable": 9}, True, True),
        ({"fresh": 9}, True, False),
        ({"fresh": 9}, False, True),
    ],
)
def test_a_label_may_point_only_at_what_answers(labels, lenient, refused):
    model = answering("a", 1, stable=1)
    after = answering("a", 1, **{k: v for k, v in labels.items() if v == 1})
    server = Server(model, then=table(after), unavailable_labels=lenient)
    entry = ModelEntry("a", "/a", labels=labels)
    if refused:
        with pytest.raises(WrongState, match="not currently available for inference"):
            server.control.serve([entry])
        assert server.asked == []
    else:
        server.control.serve([entry], until=soon() + 5)


def test_where_nobody_decides_every_ask_is_refused():
    with pytest.raises(Unimplemented):
        Control(Engine(), None).load("a")
