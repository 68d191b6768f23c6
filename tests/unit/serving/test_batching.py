"""Batches: an answer is the one that the call would have had alone, and nobody waits for others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from martlet import deadline
from martlet.errors import DeadlineExceeded, InvalidInput, ServableFailed
from martlet.servable import DEFAULT_SIGNATURE
from martlet.serving.batching import Batched, Call, padded_rows, rows_of, take_batch
from martlet.serving.settings import ModelSettings
from martlet.tensors import DType, Signature, Spec, Tensors

POISON = -1.0


class Model:
    """``y = 2 x``; refuses POISON; says how many rows each call had; waits where told to."""

    def __init__(self, shape: tuple[int, ...] = (-1,)) -> None:
        self.signatures: Mapping[str, Signature] = {
            DEFAULT_SIGNATURE: Signature.of(
                [Spec("x", DType.FLOAT32, shape)], [Spec("y", DType.FLOAT32, shape)]
            )
        }
        self.calls: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)

    def predict(self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE) -> dict[str, Any]:
        x = inputs["x"]
        self.calls.append(len(x) if x.ndim else 0)
        self.entered.release()
        assert self.gate.wait(60)
        if (x == POISON).any():
            raise InvalidInput("poison")
        return {"y": x * 2}

    def close(self) -> None:
        pass


def batched(model: Model, **settings: Any) -> Batched:
    return Batched(model, ModelSettings(**{"max_rows": 64, **settings}))


def x(*values: float) -> dict[str, Any]:
    return {"x": np.array(values, np.float32)}


def behind(model: Model, wrapped: Batched, calls: list[dict[str, Any]]) -> list[Any]:
    """Keep the model busy with one call, have *calls* queue up, let go; return their outcomes."""
    model.gate.clear()
    with ThreadPoolExecutor(len(calls) + 1) as pool:
        first = pool.submit(wrapped.predict, x(0.0))
        assert model.entered.acquire(timeout=60)
        futures = []
        for number, inputs in enumerate(calls, 1):
            futures.append(pool.submit(wrapped.predict, inputs))
            until(lambda n=number: len(wrapped._waiting) == n)  # type: ignore[misc]
        model.gate.set()
        first.result(60)
        return [f.exception(60) or f.result()["y"].tolist() for f in futures]


def until(true: Callable[[], bool]) -> None:
    turn = threading.Event()
    for _ in range(60_000):
        if true():
            return
        turn.wait(0.001)
    raise AssertionError("it never came true")


A, B = ("a",), ("b",)
CASES = {
    "nothing waits": ([], 8, []),
    "one goes alone": ([(A, 1)], 8, [0]),
    "all of a kind that fit": ([(A, 1), (A, 2), (A, 5)], 8, [0, 1, 2]),
    "rows are counted, not calls": ([(A, 5), (A, 4), (A, 1)], 8, [0]),
    "the first goes whatever its size": ([(A, 99), (A, 1)], 8, [0]),
    "another kind waits for its turn": ([(A, 1), (B, 1), (A, 1)], 8, [0, 2]),
}


@pytest.mark.parametrize(("waiting", "most", "taken"), CASES.values(), ids=CASES)
def test_who_goes_next(waiting, most, taken):
    calls = [Call(key, {}, rows, 0.0) for key, rows in waiting]
    assert [calls.index(call) for call in take_batch(calls, most)] == taken


def test_a_call_alone_is_made_at_once_as_it_came():
    model = Model()
    assert batched(model).predict(x(1.0, 2.0))["y"].tolist() == [2.0, 4.0]
    assert model.calls == [2]


def test_what_queued_up_while_the_model_was_busy_goes_as_one():
    model = Model()
    answers = behind(model, batched(model), [x(1.0), x(2.0, 3.0), x(4.0)])
    assert answers == [[2.0], [4.0, 6.0], [8.0]]
    assert model.calls == [1, 4]


def test_a_batch_holds_no_more_rows_than_it_may():
    model = Model()
    answers = behind(model, batched(model, max_rows=3), [x(1.0), x(2.0, 3.0), x(4.0)])
    assert answers == [[2.0], [4.0, 6.0], [8.0]]
    assert model.calls == [1, 3, 1]


def test_a_call_larger_than_a_batch_goes_by_itself():
    model = Model()
    assert len(batched(model, max_rows=2).predict(x(1, 2, 3))["y"]) == 3
    assert model.calls == [3]


def test_a_poisoned_call_fails_alone():
    model = Model()
    first, poisoned, last = behind(model, batched(model), [x(1.0), x(POISON), x(3.0)])
    assert (first, last) == ([2.0], [6.0])
    assert isinstance(poisoned, InvalidInput)
    assert model.calls == [1, 3, 1, 1, 1]


def test_calls_of_other_inner_shapes_never_share_a_batch():
    model = Model((-1, -1))
    answers = behind(
        model,
        batched(model),
        [{"x": np.ones((1, 2), np.float32)}, {"x": np.ones((1, 3), np.float32)}],
    )
    assert answers == [[[2.0, 2.0]], [[2.0, 2.0, 2.0]]]
    assert model.calls == [1, 1, 1]


def test_a_batch_is_padded_to_the_sizes_allowed():
    model = Model()
    wrapped = batched(model, max_rows=8, allowed_rows=(4, 8))
    assert behind(model, wrapped, [x(1.0), x(2.0, 3.0, 4.0, 5.0)]) == [[2.0], [4.0, 6.0, 8.0, 10.0]]
    assert model.calls == [4, 8]
    assert padded_rows(9, (4, 8)) == 9


def test_calls_of_a_batch_that_failed_are_padded_alone_too():
    """A model may take no other sizes than those allowed."""
    model = Model()
    wrapped = batched(model, max_rows=8, allowed_rows=(4, 8))
    first, good, poisoned = behind(model, wrapped, [x(1), x(2, 3), x(POISON)])
    assert isinstance(poisoned, InvalidInput)
    assert (first, good) == ([2.0], [4.0, 6.0])
    assert set(model.calls) <= {4, 8}


def test_a_lingering_batch_goes_when_it_is_full_or_its_time_is_up():
    model = Model()
    wrapped = batched(model, max_rows=2, linger_ms=50_000.0)
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(wrapped.predict, x(float(n))) for n in (1, 2)]
        assert [f.result(40)["y"].tolist() for f in futures] == [[2.0], [4.0]]
    assert model.calls == [2]
    quick = batched(Model(), max_rows=2, linger_ms=1.0)
    assert quick.predict(x(1.0))["y"].tolist() == [2.0]


def test_a_model_whose_outputs_have_other_rows_is_not_batched_again():
    class Summing(Model):
        def predict(self, inputs: Tensors, signature_name: str = "") -> dict[str, Any]:
            return {"y": super().predict(inputs)["y"].sum(keepdims=True)}

    model = Summing()
    wrapped = batched(model)
    assert behind(model, wrapped, [x(1.0, 1.0), x(2.0, 2.0)]) == [[4.0], [8.0]]
    assert not wrapped._by_row


def test_who_waits_past_its_deadline_leaves_the_queue():
    model = Model()
    wrapped = batched(model)
    model.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(wrapped.predict, x(0.0))
        assert model.entered.acquire(timeout=60)
        with deadline.within(0.01), pytest.raises(DeadlineExceeded, match="waited"):
            wrapped.predict(x(1.0))
        model.gate.set()
        first.result(60)
    assert model.calls == [1]


def test_a_crash_in_the_model_leaves_it_usable():
    model = Model()
    wrapped = batched(model)
    with pytest.raises(InvalidInput):
        wrapped.predict(x(POISON))
    assert wrapped.predict(x(1.0))["y"].tolist() == [2.0]
    assert (wrapped._leaders, wrapped._waiting) == (0, [])


@given(
    st.lists(
        st.lists(st.sampled_from([POISON, 0.0, 1.5, 7.0]), min_size=1, max_size=5),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 9),
    st.integers(1, 3),
)
def test_a_batched_answer_equals_the_answer_alone(calls, max_rows, threads):
    model = Model()
    wrapped = batched(model, max_rows=max_rows, threads=threads)

    def outcome(values: list[float]) -> Any:
        try:
            return wrapped.predict(x(*values))["y"].tolist()
        except InvalidInput:
            return None

    with ThreadPoolExecutor(len(calls)) as pool:
        found = list(pool.map(outcome, calls))
    assert found == [
        None if POISON in values else (np.float32(2) * np.array(values)).tolist()
        for values in calls
    ]
    assert (wrapped._leaders, wrapped._waiting) == (0, [])


@pytest.mark.parametrize(
    ("inputs", "rows"),
    [
        ({"a": np.ones(3), "b": np.ones((3, 2))}, 3),
        ({"a": np.ones(3), "b": np.ones(1)}, None),
        ({"a": np.float32(1)[()]}, None),
        ({"a": np.ones(0)}, None),
        ({}, None),
    ],
)
def test_rows_are_those_of_every_input(inputs, rows):
    assert rows_of({name: np.asarray(value) for name, value in inputs.items()}) == rows


def test_the_library_error_of_one_is_chained_to_that_one():
    class Raising(Model):
        def predict(self, inputs: Tensors, signature_name: str = "") -> dict[str, Any]:
            raise ServableFailed("it raised")

    with pytest.raises(ServableFailed, match="it raised"):
        batched(Raising()).predict(x(1.0))
