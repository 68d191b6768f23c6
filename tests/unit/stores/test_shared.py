"""Rows shared by machines through Redis: all have the same in the end, whoever was away."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from martlet.errors import InvalidInput, NotAvailable
from martlet.stores import Embeddings, shared, write_embeddings
from martlet.stores.shared import SharedRows
from martlet.stores.updates import Update
from redis_server import redis_server

pytest.importorskip("redis")


@pytest.fixture(scope="module")
def url():
    with redis_server() as found:
        yield found


@pytest.fixture
def machines(tmp_path, url):
    """Three machines with the same table file: each its table and its part of the shared rows."""
    import redis

    redis.Redis.from_url(url).flushall()
    found = []
    write_embeddings(tmp_path / "items", KEYS, np.zeros((3, 2)))
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        table = Embeddings(Path(shutil.copy(tmp_path / "items", tmp_path / str(number))))
        found.append((table, SharedRows(url, "items", table)))
    return found


KEYS = [1, 2, 3]


def rows(table):
    keys = table.keys.all
    vectors = table.get_many(keys).vectors.tolist()
    return dict(zip(keys.tolist(), vectors, strict=True))


def test_what_one_publishes_all_have(machines):
    (a, on_a), (b, on_b), _ = machines
    place = on_a.publish([Update(1, [1, 2]), Update(9, [3, 4])])
    assert rows(a) == {1: [0, 0], 2: [0, 0], 3: [0, 0]}
    on_a.reach(place)
    on_b.reach(place)
    on_b.reach(on_b.publish([Update(1, None), Update(2, [5, 6])]))
    on_a.catch_up()
    assert rows(a) == rows(b) == {1: [0, 0], 2: [5, 6], 3: [0, 0], 9: [3, 4]}
    assert on_a.catch_up() is None


def test_updates_are_applied_in_the_order_of_the_stream_and_once_a_machine(machines, url):
    (a, on_a), *_ = machines
    same = SharedRows(url, "items", Embeddings(a.path))  # another process of this machine
    on_a.reach(on_a.publish([Update(1, [0, 0])]))
    before = a.live.stats().updates
    for value in range(20):
        on_a.publish([Update(1, [value, value])])
    place = on_a.publish([Update(1, [20, 20])])
    threads = [threading.Thread(target=each.reach, args=(place,)) for each in (on_a, same)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert rows(a)[1] == [20, 20]
    # All came in one batch, of which the last of a key is written.
    assert a.live.stats().updates == before + 1


def test_who_comes_later_than_the_stream_remembers_begins_anew(machines, monkeypatch):
    monkeypatch.setattr(shared, "REMEMBERED", 100)
    (a, on_a), (b, on_b), (c, on_c) = machines
    on_b.reach(on_a.publish([Update(2, [7, 7]), Update(77, [7, 7])]))
    for value in range(1000):
        on_a.publish([Update(value % 50 + 100, [value, 1])])
    last = on_a.publish([Update(77, None), Update(3, [3, 3])])
    for each in (on_a, on_b, on_c):
        each.reach(last)
    assert rows(a) == rows(b) == rows(c)
    assert len(a) == 53
    assert rows(b)[2] == [7, 7]


def test_tables_of_another_file_share_nothing(machines, url, tmp_path):
    _, on_a = machines[0]
    write_embeddings(tmp_path / "next", [1, 2, 3], np.ones((3, 2)))
    other = Embeddings(tmp_path / "next")
    on_other = SharedRows(url, "items", other)
    on_a.publish([Update(1, [5, 5])])
    on_other.catch_up()
    assert rows(other)[1] == [1, 1]


def test_text_keys_that_look_like_numbers_stay_texts(tmp_path, url):
    write_embeddings(tmp_path / "t", ["a", "7"], np.zeros((2, 2)))
    table = Embeddings(tmp_path / "t")
    on = SharedRows(url, "tags", table)
    on.reach(on.publish([Update("7", [1, 1]), Update("çé", [2, 2])]))
    assert rows(table) == {"a": [0, 0], "7": [1, 1], "çé": [2, 2]}


def test_what_does_not_fit_is_told_to_nobody(machines):
    (a, on_a), *_ = machines
    on_a.catch_up()
    for bad in (Update("x", [1, 2]), Update(1, [1]), Update(1, [float("nan"), 1])):
        with pytest.raises(InvalidInput):
            on_a.publish([Update(2, [1, 1]), bad])
    assert on_a.catch_up() is None
    assert rows(a)[2] == [0, 0]


def test_what_others_publish_wrongly_is_counted_and_passed_over(machines, url):
    import redis

    (a, on_a), *_ = machines
    on_a.reach(on_a.publish([Update(1, [1, 1])]))
    client = redis.Redis.from_url(url)
    whole = np.float32([8, 9]).tobytes()
    for entry in ({"k": "x", "v": whole}, {"k": "2", "v": b"123"}, {"odd": "1"},
                  {"ks": "[", "v": whole}, {"ks": "3", "v": whole}, {"ks": "[3]", "v": whole},
                  {"k": "2", "v": whole}, {"ks": '["3", "4"]', "v": 2 * whole}):  # fmt: skip
        client.xadd(str(on_a), entry)
    applied = on_a.catch_up()
    assert applied.set == 3 and applied.refused > 0
    assert [rows(a)[key] for key in (2, 3, 4)] == [[8, 9]] * 3


def test_without_redis_rows_are_served_as_they_were(tmp_path):
    write_embeddings(tmp_path / "t", KEYS, np.zeros((3, 2)))
    table = Embeddings(tmp_path / "t")
    on = SharedRows(f"unix://{tmp_path}/nobody", "items", table)
    with pytest.raises(NotAvailable, match="Redis does not answer"):
        on.publish([Update(1, [1, 1])])
    with pytest.raises(NotAvailable):
        on.catch_up()
    assert table.live is None
    with pytest.raises(InvalidInput, match="address"):
        SharedRows("ftp://x", "items", table)
