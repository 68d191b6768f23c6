"""The fleet's orders to workers that are no processes: what each is told, and when all turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from martlet.errors import Code
from martlet.fleet.policy import Life
from martlet.fleet.swap import MOST_ORDERS, Fleet, Worker
from martlet.serving.reconciler import Reconciler
from martlet.serving.roster import (
    Facts,
    Listening,
    ListenOrder,
    Loaded,
    LoadOrder,
    Prepared,
    RosterOrder,
    Unloaded,
    UnloadOrder,
)
from martlet.serving.versions import Source, Wanted
from martlet.states import State


class Pipe:
    """Keeps what was sent."""

    def __init__(self) -> None:
        self.orders: list[Any] = []

    def send(self, order: Any) -> None:
        self.orders.append(order)


class House:
    """A fleet, its word and its workers; each worker obeys when told to."""

    def __init__(self, workers: int = 2, load_s: float = 600.0) -> None:
        self.word = memoryview(bytearray(8)).cast("Q")
        self.fleet = Fleet(self.word, Reconciler(), load_s)
        self.workers = [self.worker(n) for n in range(workers)]
        self.now = 0.0

    @staticmethod
    def worker(index: int) -> Worker:
        return Worker(index, 100 + index, Pipe(), Life(0.0))  # type: ignore[arg-type]

    def want(self, *versions: int, name: str = "ctr") -> None:
        self.fleet.want({name: Wanted({v: Source(Path(f"v{v}")) for v in versions})})

    def turn(self) -> None:
        self.fleet.turn(self.workers, self.now)

    def sent(self, index: int) -> list[Any]:
        """Take what worker *index* was sent."""
        pipe: Any = self.workers[index].pipe
        orders, pipe.orders = pipe.orders, []
        return orders

    def obey(self, index: int, fails: str = "") -> None:
        """Carry out all that worker *index* was sent; *fails* says why loads do."""
        worker = self.workers[index]
        for order in self.sent(index):
            match order:
                case LoadOrder(name, version):
                    code = Code.INTERNAL if fails else None
                    self.fleet.heard(worker, Loaded(name, version, code, fails), self.now)
                case RosterOrder(number):
                    self.fleet.heard(worker, Prepared(number), self.now)
                case UnloadOrder(name, version):
                    self.fleet.heard(worker, Unloaded(name, version), self.now)
                case ListenOrder():
                    self.fleet.heard(worker, Listening(), self.now)

    def run(self) -> None:
        """Turn, try and obey until nothing is left to do."""
        for _ in range(12):
            self.turn()
            order = self.fleet.to_try()
            if order is not None:
                self.fleet.tried(Loaded(order.name, order.version), self.now)
            for index, worker in enumerate(self.workers):
                if worker.pid:
                    self.obey(index)

    def trial(self, error: str = "") -> None:
        """Try the version that waits for it."""
        self.turn()
        order = self.fleet.to_try()
        assert order is not None
        code = Code.INTERNAL if error else None
        self.fleet.tried(Loaded(order.name, order.version, code, error), self.now)
        self.turn()

    def answering(self) -> tuple[int, ...]:
        return self.fleet._roster["ctr"].versions

    def message(self, version: int) -> str:
        statuses = self.fleet._reconciler.roster["ctr"].statuses
        return next(each.message for each in statuses if each.version == version)


def up(workers: int = 2, **options: float) -> House:
    """A house whose version 1 answers on every worker."""
    house = House(workers, **options)
    house.want(1)
    house.run()
    assert all(worker.listening for worker in house.workers)
    assert house.fleet.settled
    return house


def test_the_doors_open_when_every_worker_has_what_was_wanted():
    house = House()
    house.want(1)
    for _ in range(5):
        house.turn()
        house.obey(0)
    assert not house.workers[0].listening, "the other worker has not loaded it"
    house.run()
    assert all(worker.listening for worker in house.workers)


def test_the_word_turns_when_every_worker_is_ready_and_not_before():
    house = up()
    house.want(2)
    house.trial()
    before = house.word[0]
    house.obey(0)
    house.turn()
    assert house.word[0] == before
    assert house.answering() == (1,), "one worker does not have it yet"
    house.obey(1)
    house.turn()
    house.obey(0)
    house.turn()
    assert house.word[0] == before, "one worker has not prepared the roster"
    house.run()
    assert house.word[0] > before
    assert house.answering() == (2,)


def test_the_old_version_is_unloaded_only_after_the_word_has_turned():
    house = up()
    house.want(2)
    house.trial()
    for _ in range(10):
        house.turn()
        for index in (0, 1):
            orders = list(house.workers[index].pipe.orders)  # type: ignore[attr-defined]
            if any(isinstance(order, UnloadOrder) for order in orders):
                assert house.word[0] == house.fleet._number
                return
            house.obey(index)
    raise AssertionError("it was never unloaded")


def test_no_worker_is_told_of_a_version_that_fails_its_trial():
    house = up()
    house.want(2)
    house.trial(error="it crashes")
    assert not any(isinstance(order, LoadOrder) for n in (0, 1) for order in house.sent(n))
    assert house.message(2) == "it crashes"
    assert house.answering() == (1,)


def test_a_version_that_is_wanted_no_more_when_its_turn_comes_is_not_tried():
    """Its file may be gone by then; and each trial keeps those that are wanted waiting."""
    house = up()
    house.fleet.want({n: Wanted({2: Source(Path("v2"))}) for n in ("ctr", "cvr")})
    house.turn()
    first = house.fleet.to_try()
    assert first is not None
    assert first.name == "ctr"
    house.fleet.want({n: Wanted({3: Source(Path("v3"))}) for n in ("ctr", "cvr")})
    house.turn()
    house.fleet.tried(Loaded("ctr", 2), house.now)
    assert house.fleet.to_try() is None, "version 2 of cvr waited for its trial"
    house.turn()
    following = house.fleet.to_try()
    assert following is not None
    assert (following.name, following.version) == ("cvr", 3)
    house.fleet.tried(Loaded("cvr", 3), house.now)
    house.run()
    assert house.answering() == (3,)


def test_both_workers_may_fail_to_open_a_version_and_neither_is_ended():
    house = up()
    house.want(2)
    house.trial()
    house.obey(0, fails="no such file")
    house.turn()
    house.obey(1, fails="no such file")
    house.turn()
    assert [worker.doomed for worker in house.workers] == ["", ""]
    assert house.answering() == (1,)


def test_who_has_opened_what_failed_elsewhere_lets_it_go():
    house = up()
    house.want(2)
    house.trial()
    house.obey(0)
    house.obey(1, fails="no memory")
    house.run()
    assert ("ctr", 2) not in house.workers[0].holds
    assert house.answering() == (1,)


def test_a_worker_that_dies_in_a_swap_is_not_waited_for():
    house = up()
    house.want(2)
    house.trial()
    house.obey(0)
    house.workers[1].pid = 0
    house.fleet.lost(house.workers[1], "signal SIGKILL")
    house.run()
    assert house.answering() == (2,)


def test_a_worker_that_comes_back_opens_its_doors_with_the_roster_in_force():
    house = up()
    house.workers[1].pid = 0
    house.fleet.lost(house.workers[1], "signal SIGKILL")
    house.want(2)
    house.run()
    house.workers[1] = house.worker(1)
    house.turn()
    loads = [order.version for order in house.sent(1) if isinstance(order, LoadOrder)]
    assert loads == [2]
    assert not house.workers[1].invited
    house.fleet.heard(house.workers[1], Loaded("ctr", 2), 0.0)
    house.run()
    assert house.workers[1].listening
    assert house.workers[1].prepared == house.word[0]


def test_a_worker_that_cannot_open_what_others_answer_with_begins_again():
    house = up()
    house.workers[1] = house.worker(1)
    house.turn()
    house.obey(1, fails="no memory")
    assert "cannot open version 1 of 'ctr'" in house.workers[1].doomed


def test_a_version_whose_opening_kills_its_worker_twice_has_failed():
    house = House(workers=1)
    house.want(1)
    for _ in range(2):
        house.turn()
        house.workers[0].pid = 0
        house.fleet.lost(house.workers[0], "signal SIGSEGV")
        house.workers[0] = house.worker(0)
    house.turn()
    assert house.message(1) == "the worker that opened it died: signal SIGSEGV"


def test_a_load_that_takes_too_long_fails_and_costs_its_worker():
    house = up(load_s=10.0)
    house.want(2)
    house.trial()
    house.obey(0)
    house.now = 11.0
    house.turn()
    assert house.message(2) == "it did not open within 10 s"
    assert [bool(worker.doomed) for worker in house.workers] == [False, True]


def test_a_version_that_there_is_no_room_for_is_never_opened(tmp_path):
    house = up()
    house.fleet._memory_bytes = 64 << 20
    (tmp_path / "weights").write_bytes(bytes(33 << 20))
    house.fleet.want({"ctr": Wanted({2: Source(tmp_path)})})
    house.turn()
    assert house.fleet.to_try() is None
    assert "about 33 MB in each of 2 workers" in house.message(2)
    assert house.answering() == (1,)


def test_few_orders_are_under_way_at_a_time():
    house = House(workers=1)
    house.fleet.want({f"m{n}": Wanted({1: Source(Path("x"))}) for n in range(50)})
    house.turn()
    assert len([o for o in house.sent(0) if isinstance(o, LoadOrder)]) == MOST_ORDERS


def test_a_version_is_unloading_until_every_worker_has_closed_it():
    house = up()
    house.want(2)
    house.trial()
    unloads: list[tuple[int, UnloadOrder]] = []
    for _ in range(10):
        house.turn()
        for index in (0, 1):
            pipe: Any = house.workers[index].pipe
            unloads += [(index, o) for o in pipe.orders if isinstance(o, UnloadOrder)]
            pipe.orders = [o for o in pipe.orders if not isinstance(o, UnloadOrder)]
            house.obey(index)
    states = {s.version: s.state for s in house.fleet._reconciler.roster["ctr"].statuses}
    assert states[1] is State.UNLOADING
    for index, order in unloads:
        house.fleet.heard(house.workers[index], Unloaded(order.name, order.version), 0.0)
    house.turn()
    states = {s.version: s.state for s in house.fleet._reconciler.roster["ctr"].statuses}
    assert states[1] is State.END


FACTS = Facts({}, size=7)


def test_what_a_trial_learnt_goes_to_every_worker_and_to_those_that_come_later():
    house = up()
    house.want(2)
    house.turn()
    order = house.fleet.to_try()
    assert order is not None
    assert order.facts is None
    house.fleet.tried(Loaded("ctr", 2, facts=FACTS), 0.0)
    house.turn()
    told = [o.facts for n in (0, 1) for o in house.sent(n) if isinstance(o, LoadOrder)]
    assert told == [FACTS, FACTS]
    for worker in house.workers:
        house.fleet.heard(worker, Loaded("ctr", 2), 0.0)
    house.run()
    house.workers.append(house.worker(2))
    house.turn()
    assert [(o.version, o.facts) for o in house.sent(2)] == [(2, FACTS)]


def test_what_was_learnt_of_a_file_is_forgotten_with_it():
    house = up(workers=1)
    house.fleet.heard(house.workers[0], Loaded("ctr", 1, facts=FACTS), 0.0)
    house.fleet.want({"ctr": Wanted({})})
    house.run()
    house.fleet.want({"ctr": Wanted({1: Source(Path("mended"))})})
    house.trial()
    (order,) = [o for o in house.sent(0) if isinstance(o, LoadOrder)]
    assert order.facts is None


def test_a_worker_more_takes_part_in_a_swap_once_its_doors_are_open():
    house = up()
    house.workers.append(house.worker(2))
    house.want(2)
    house.trial()
    house.obey(0)
    house.obey(1)
    house.turn()
    assert house.answering() == (2,), "who is still starting is not waited for"
    house.run()
    assert house.workers[2].listening
    assert house.workers[2].prepared == house.word[0]
    house.want(3)
    house.trial()
    house.obey(0)
    house.obey(1)
    house.turn()
    assert house.answering() == (2,), "the third answers now, and has not opened it"
    house.run()
    assert house.answering() == (3,)


def test_what_a_worker_would_close_for_another_is_room(tmp_path):
    house = up()
    house.fleet._memory_bytes = 64 << 20
    house.fleet._evictable = lambda index: 8 << 20
    (tmp_path / "weights").write_bytes(bytes(33 << 20))
    house.fleet.want({"ctr": Wanted({2: Source(tmp_path)})})
    house.turn()
    assert house.fleet.to_try() is not None
