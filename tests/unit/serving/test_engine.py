"""The engine answers from one table at a time, and a lease keeps a version open."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from martlet.errors import InvalidInput, ModelNotFound, NotAvailable
from martlet.names import ModelRef
from martlet.servable import DEFAULT_SIGNATURE
from martlet.serving.engine import Engine
from martlet.serving.traffic import Model, Table, Variant
from martlet.tensors import DType, Signature, Spec, Tensors

CTR = ModelRef("ctr")


class Constant:
    """Answers its own number; refuses once closed."""

    signatures: Mapping[str, Signature] = {
        DEFAULT_SIGNATURE: Signature.of(
            [Spec("x", DType.FLOAT32, (-1,))], [Spec("y", DType.FLOAT32, (-1,))]
        )
    }

    def __init__(self, number: int) -> None:
        self.number = number
        self.closed = False

    def predict(self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE) -> dict[str, Any]:
        assert not self.closed
        return {"y": inputs["x"] * 0 + self.number}

    def close(self) -> None:
        self.closed = True


def variant(number: int) -> Variant[Any]:
    return Variant("ctr", number, Constant(number))


def table(*variants: Variant[Any], **labels: int) -> Table:
    ordered = sorted(variants, key=lambda v: -v.version)
    return Table({"ctr": Model("ctr", {v.version: v for v in ordered}, labels)})


def test_it_turns_when_the_number_comes_in_force_and_not_before():
    word = [0]
    engine = Engine(word)
    engine.prepare(1, table(variant(1)))
    with pytest.raises(ModelNotFound):
        engine.predict(CTR, {"x": [1.0]})
    word[0] = 1
    assert engine.predict(CTR, {"x": np.ones(2, np.float32)}).outputs["y"].tolist() == [1, 1]


def test_a_number_that_it_has_not_prepared_changes_nothing():
    word = [0]
    engine = Engine(word)
    engine.prepare(1, table(variant(1)))
    word[0] = 1
    assert engine.table.models["ctr"].variants
    word[0] = 2
    assert engine.predict(CTR, {"x": np.ones(1, np.float32)}).version == 1


@pytest.mark.parametrize(
    ("ref", "version"),
    [("ctr", 3), ("ctr@1", 1), ("ctr@stable", 1), ("ctr@3", 3)],
)
def test_a_reference_names_a_version_a_label_or_the_highest(ref, version):
    engine = Engine()
    engine.publish(table(variant(1), variant(3), stable=1))
    assert engine.predict(ModelRef.parse(ref), {"x": np.ones(1, np.float32)}).version == version


@pytest.mark.parametrize(
    ("ref", "text"),
    [
        ("cvr", "no model 'cvr'; available: ctr"),
        ("ctr@2", "no version 2 of model 'ctr' answers; answering: 3, 1"),
        ("ctr@old", "has no label 'old'; labels: stable"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(ref, text):
    engine = Engine()
    engine.publish(table(variant(1), variant(3), stable=1))
    with pytest.raises(ModelNotFound, match=text):
        engine.predict(ModelRef.parse(ref), {})


def test_inputs_are_checked_before_the_model_sees_them():
    engine = Engine()
    engine.publish(table(variant(1)))
    with pytest.raises(InvalidInput, match="shape"):
        engine.predict(CTR, {"x": np.ones((1, 1), np.float32)})


def test_a_version_is_drained_when_its_last_lease_is_given_back():
    one = variant(1)
    assert one.acquire()
    one.drain()
    assert not one.acquire()
    assert not one.drained.is_set()
    one.release()
    assert one.drained.is_set()


def test_who_meets_a_draining_version_reads_the_new_table():
    word, one, two = [0], variant(1), variant(2)
    engine = Engine(word)
    engine.prepare(1, table(one))
    word[0] = 1
    assert engine.table.models
    engine.prepare(2, table(two))

    class Late(list[int]):
        """The word, whose change is seen at the second look only."""

        looks = 0

        def __getitem__(self, index: Any) -> Any:
            self.looks += 1
            return 1 if self.looks == 1 else 2

    engine._force = Late([1])
    one.drain()
    with engine.lease(CTR) as held:
        assert held is two


def test_who_is_replaced_twice_between_two_lines_is_followed():
    one, two, three = variant(1), variant(2), variant(3)
    engine = Engine()
    for number, each in enumerate((one, two, three), 1):
        engine.prepare(number, table(each))

    class Later(list[int]):
        """The word, which has risen at every look."""

        looks = 0

        def __getitem__(self, index: Any) -> Any:
            self.looks += 1
            return min(self.looks, 3)

    engine._force = Later([1])
    one.drain()
    two.drain()
    with engine.lease(CTR) as held:
        assert held is three


def test_a_version_that_drains_with_no_successor_is_not_available():
    one = variant(1)
    engine = Engine()
    engine.publish(table(one))
    one.drain()
    with pytest.raises(NotAvailable, match="being replaced"):
        engine.acquire(CTR)


def test_threads_that_ask_through_swaps_never_meet_a_closed_version():
    engine = Engine()
    current = variant(0)
    engine.publish(table(current))
    stop, failures, answers = threading.Event(), [], [0]

    def ask() -> None:
        newest = 0
        while not stop.is_set():
            try:
                version = engine.predict(CTR, {"x": np.ones(1, np.float32)}).version
            except Exception as exc:
                failures.append(exc)
                return
            if version < newest:
                failures.append(AssertionError(f"{newest}, then {version}"))
            newest = version
            answers[0] += 1

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(1, 200):
        old, current = current, variant(number)
        engine.publish(table(current))
        old.drain()
        assert old.drained.wait(60)
        old.servable.close()
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert answers[0] > 0
