"""Rows of a table that are set while it is read: whole or not at all, and bound to their table."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from martlet.errors import InvalidInput, NotAvailable, Overloaded, UnsupportedModel, WrongState
from martlet.stores import Embeddings, livefile, write_embeddings
from martlet.stores.livefile import FOLDED, IN_USE, UPDATES, live_path
from martlet.stores.slots import PRESENT

KINDS = {
    "close integers": ([5, 3, 9, 4], [77, 6]),
    "far integers": ([2**62, -(2**62), 0, 7], [8, -1]),
    "strings": (["ann", "bob", "", "çelik"], ["nobody", "日本"]),
}
BASE = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.fixture(params=["float32", "float16", "int8"])
def precision(request):
    return request.param


def table(path, keys, precision="float32", vectors=BASE):
    write_embeddings(path, keys, vectors, precision=precision)
    return Embeddings(path)


def stored(vectors, precision, tmp_path):
    """*vectors* as a table of that precision gives them back."""
    return table(tmp_path / "like", np.arange(len(vectors)), precision, vectors).take(
        np.arange(len(vectors))
    )


def until(true, limit_s=60.0):
    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


class TestSetting:
    def test_a_row_that_was_set_is_read_and_the_others_are_as_they_were(
        self, tmp_path, kind, precision
    ):
        keys, new = kind
        found = table(tmp_path / "t", keys, precision)
        vectors = np.array([[1, 2, -3], [4, 50, 6]], np.float32)
        found.put_many([keys[1], new[0]], vectors)
        want = stored(vectors, precision, tmp_path)
        values = found.get_many([*keys, *new])
        assert values.vectors[[1, 4]].tolist() == want.tolist()
        base = stored(BASE, precision, tmp_path / "..")
        assert values.vectors[[0, 2, 3]].tolist() == base[[0, 2, 3]].tolist()
        assert values.known.tolist() == [True] * 5 + [False]
        assert not values.vectors[5].any()

    def test_a_new_key_has_a_row_that_leads_back_to_it(self, tmp_path, kind):
        keys, new = kind
        found = table(tmp_path / "t", keys)
        found.put_many(new, np.ones((2, 3)))
        asked = [new[1], keys[2], new[0]]
        assert found.keys.at(found.rows_of(asked)).tolist() == asked
        assert len(found) == 6
        seen = {}
        for some, values in found.scan(batch=4):
            seen.update(zip(some.tolist(), values.vectors.tolist(), strict=True))
        assert list(seen) == [*keys, *new]
        assert found.keys.all.tolist() == [*keys, *new]
        assert seen[new[0]] == [1, 1, 1]

    def test_what_is_taken_back_is_as_the_file_has_it(self, tmp_path, kind):
        keys, new = kind
        found = table(tmp_path / "t", keys)
        assert found.remove_many(keys).tolist() == [False] * 4
        assert not live_path(found.path).exists()
        found.put_many([keys[0], new[0]], np.ones((2, 3)))
        assert found.remove_many([keys[0], keys[1], *new]).tolist() == [True, False, True, False]
        values = found.get_many([keys[0], new[0]])
        assert values.vectors.tolist() == [BASE[0].tolist(), [0, 0, 0]]
        assert values.known.tolist() == [True, False]
        assert len(found) == 4
        found.put_many([new[0]], [[7, 7, 7]])
        assert found.get_many([new[0]]).vectors.tolist() == [[7, 7, 7]]

    def test_of_a_key_that_comes_twice_the_last_stays(self, tmp_path, kind):
        keys, new = kind
        found = table(tmp_path / "t", keys)
        again = [keys[0], new[0], new[0], keys[0]]
        found.put_many(again, np.arange(12).reshape(4, 3))
        assert found.get_many([keys[0], new[0]]).vectors.tolist() == [[9, 10, 11], [6, 7, 8]]
        stats = found.live.stats()
        assert (stats.rows, stats.new_keys, stats.updates) == (1, 1, 4)

    def test_another_reader_finds_them_by_itself_and_a_later_one_at_once(self, tmp_path, kind):
        keys, new = kind
        early = table(tmp_path / "t", keys)
        writer = Embeddings(tmp_path / "t")
        assert early.live is None
        writer.put_many([keys[3], new[1]], np.full((2, 3), 8))
        assert Embeddings(tmp_path / "t").get_many([new[1]]).known.tolist() == [True]
        until(lambda: early.live is not None)
        assert early.get_many([keys[3], new[1]]).vectors.tolist() == [[8] * 3] * 2
        writer.put_many([new[0]], [[9, 9, 9]])
        assert early.get_many([new[0]]).vectors.tolist() == [[9] * 3]

    def test_a_table_of_no_rows_can_be_filled(self, tmp_path):
        found = table(tmp_path / "t", [], vectors=np.empty((0, 3)))
        found.put_many([4, 2], np.ones((2, 3)))
        assert found.get_many([2, 3]).known.tolist() == [True, False]

    def test_unknown_rows_are_zeros(self, tmp_path):
        found = table(tmp_path / "t", [5, 3, 9, 4])
        found.put_many([5], [[1, 1, 1]])
        rows = np.array([-1, 4, 6, 2**40, -(2**40)])
        assert found.take(rows).tolist() == [[0] * 3] * 5
        assert found.take(np.array([0], np.int32)).tolist() == [[1, 1, 1]]
        assert found.take(np.empty(0, np.int64)).shape == (0, 3)

    KEYS = st.integers(-20, 20)
    MOVES = st.lists(st.tuples(st.sampled_from(["put", "remove"]), st.lists(KEYS, max_size=6)))

    @settings(max_examples=60)
    @given(keys=st.lists(KEYS, unique=True), moves=MOVES, text=st.booleans())
    def test_it_is_the_dict_that_its_moves_make(self, tmp_path, keys, moves, text):
        as_key = str if text and keys else int
        path = tmp_path / "t"
        live_path(path).unlink(missing_ok=True)
        base = {as_key(key): [float(key), 0.0] for key in keys}
        found = table(path, list(base), vectors=np.array(list(base.values())).reshape(-1, 2))
        model = dict(base)
        for number, (move, some) in enumerate(moves, 1):
            some = list(map(as_key, some))
            if move == "put":
                found.put_many(
                    some, np.array([[number, n] for n in range(len(some))]).reshape(-1, 2)
                )
                model.update({key: [float(number), float(n)] for n, key in enumerate(some)})
            else:
                found.remove_many(some)
                for key in some:
                    model.pop(key, None)
                    if key in base:
                        model[key] = base[key]
        for reader in (found, Embeddings(path)):
            seen = {}
            for some, values in reader.scan(batch=3):
                seen.update(zip(some.tolist(), values.vectors.tolist(), strict=True))
            assert seen == model
            assert len(reader) == len(model)


class TestRefusing:
    @pytest.mark.parametrize(
        ("keys", "vectors", "why"),
        [
            ([5], [[1, 2]], r"\[1, 3\] is wanted"),
            ([5, 3], [[1, 2, 3]], "came for 2 keys"),
            ([5], [[1, float("nan"), 3]], "key 5 .* is not finite"),
            (["5"], [[1, 2, 3]], "integers"),
            ([2**63], [[1, 2, 3]], "64 signed bits|integers"),
            ([5], [["a", "b", "c"]], "numbers"),
        ],
    )
    def test_what_does_not_fit_changes_nothing(self, tmp_path, keys, vectors, why):
        found = table(tmp_path / "t", [5, 3, 9, 4])
        with pytest.raises(InvalidInput, match=why):
            found.put_many(keys, vectors)
        assert found.take(np.arange(4)).tolist() == BASE.tolist()

    def test_a_component_beyond_float16_is_refused(self, tmp_path):
        with pytest.raises(InvalidInput, match="65504"):
            table(tmp_path / "t", [1, 2, 3, 4], "float16").put_many([1], [[1e9, 0, 0]])

    def test_half_a_surrogate_pair_is_no_key(self, tmp_path):
        with pytest.raises(InvalidInput, match="UTF-8"):
            table(tmp_path / "t", list("abcd")).put_many(["\ud800"], [[1, 2, 3]])

    @pytest.mark.parametrize("keys", [[5, 3, 9, 4], list("abcd")], ids=["integers", "strings"])
    def test_more_new_keys_than_there_is_room_for(self, tmp_path, monkeypatch, keys):
        monkeypatch.setattr(livefile, "_NEW_KEYS", 0)  # as many as there are rows
        found = table(tmp_path / "t", keys)
        found.put_many(keys, BASE)
        new = [key * 40 if isinstance(key, str) else key + 100 for key in keys]
        found.put_many(new, BASE)
        with pytest.raises(Overloaded, match="compact"):
            found.put_many(["x" * 100 if isinstance(keys[0], str) else -1], [[1, 2, 3]])
        assert len(found) == 8
        found.put_many(new, BASE + 1)
        assert found.get_many(new).vectors.tolist() == (BASE + 1).tolist()

    def test_live_rows_of_another_table(self, tmp_path):
        found = table(tmp_path / "t", [5, 3, 9, 4])
        found.put_many([5], [[1, 1, 1]])
        found.path.unlink()
        with pytest.raises(UnsupportedModel, match="live rows of another table"):
            table(tmp_path / "t", [5, 3, 9, 4], vectors=BASE + 1)

    @pytest.mark.parametrize("at", [0, 9, 20, 50, 100])
    def test_a_damaged_header(self, tmp_path, at):
        found = table(tmp_path / "t", [5, 3, 9, 4])
        found.put_many([5], [[1, 1, 1]])
        with live_path(found.path).open("r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1]))
        with pytest.raises(UnsupportedModel, match=r"t\.live"):
            Embeddings(found.path)

    @pytest.mark.parametrize("payload", [2**62, 2**63 - 4])
    def test_a_layout_past_all_sizes(self, lookup, tmp_path, payload):
        if lookup == "pure":
            pytest.skip("numpy lays it out once, and is not asked again")
        found = table(tmp_path / "t", [5, 3, 9, 4])
        found.put_many([5], [[1, 1, 1]])
        slots = found.live.file.slots
        slots.layout = slots.layout._replace(payload=payload)
        with pytest.raises(ValueError, match="layout"):
            found.get_many([5])

    @pytest.mark.parametrize("size", [0, 50, 4096, 9000])
    def test_a_file_that_was_cut_short(self, tmp_path, size):
        found = table(tmp_path / "t", [5, 3, 9, 4])
        live_path(found.path).write_bytes(b"MARTLIVE" + bytes(size))
        with pytest.raises(UnsupportedModel, match=r"t\.live"):
            Embeddings(found.path)

    def test_rows_that_were_folded_into_a_newer_version(self, tmp_path):
        found = table(tmp_path / "t", [5, 3, 9, 4])
        found.put_many([5], [[1, 1, 1]])
        with found.writing() as live:
            Embeddings(found.path)  # readers do not wait
        writer = livefile.LiveFile(live.file.path, live.file.shape.identity, writable=True)
        writer.slots.store(FOLDED, 7)
        with pytest.raises(WrongState, match="folded into version 7"):
            found.put_many([5], [[2, 2, 2]])
        assert found.get_many([5]).vectors.tolist() == [[1, 1, 1]]

    def test_a_writer_that_holds_on_too_long(self, tmp_path, monkeypatch):
        monkeypatch.setattr("martlet.stores.livewriter._PATIENCE_S", 0.05)
        one, other = table(tmp_path / "t", [5, 3, 9, 4]), Embeddings(tmp_path / "t")
        with one.writing(), pytest.raises(NotAvailable, match="another process"):
            other.put_many([5], [[1, 1, 1]])
        other.put_many([5], [[1, 1, 1]])


class TestDying:
    def test_a_torn_payload_that_no_word_selects_is_not_seen(self, tmp_path):
        found = table(tmp_path / "t", [5, 3, 9, 4])
        found.put_many([3, 77], np.ones((2, 3)))
        with found.writing() as live:
            records = live.file.slots.records
            for number in (1, 2):
                following = (int(records["word"][number]) + 1) & 1
                torn = records["payloads"][number : number + 1, following]
                torn["flag"], torn["vector"] = PRESENT, 0xFF
        assert found.get_many([3, 77]).vectors.tolist() == [[1] * 3] * 2
        found.put_many([3, 77], np.full((2, 3), 2))
        assert found.get_many([3, 77]).vectors.tolist() == [[2] * 3] * 2

    def test_a_record_that_was_begun_and_is_not_in_use_goes_to_the_next_key(self, tmp_path):
        found = table(tmp_path / "t", [5, 3, 9, 4])
        found.put_many([3], np.ones((1, 3)))
        with found.writing() as live:
            begun = live.file.slots.records[2:3]
            begun["word"], begun["kind"], begun["owner"] = 9, 0, 0
        found.put_many([77], [[2, 2, 2]])
        values = found.get_many([5, 3, 77]).vectors
        assert values.tolist() == [BASE[0].tolist(), [1] * 3, [2] * 3]

    def test_the_word_passes_over_zero(self, tmp_path):
        found = table(tmp_path / "t", [5, 3, 9, 4])
        found.put_many([5], [[1, 1, 1]])
        with found.writing() as live:
            payloads, words = live.file.slots.records["payloads"], live.file.slots.words
            words[1] = 2**32 - 1
        assert payloads["flag"][1].tolist() == [0, 1]
        for value in (2, 3, 4):
            found.put_many([5], [[value] * 3])
            assert found.get_many([5]).vectors.tolist() == [[value] * 3]
        assert words[1] == 4


class TestAfterTheMachineStopped:
    """The disk may have some pages of the last seconds and lack others."""

    def stopped(self, found, change):
        found.sync()
        with found.writing() as live:
            change(live.file.slots.records, live.file.slots)
            live.file.mapping[192:208] = b"another boot of it"[:16]
        return Embeddings(found.path)

    def test_a_vector_that_is_not_whole_is_the_one_before(self, tmp_path):
        found = table(tmp_path / "t", [5, 3, 9, 4])
        found.put_many([5, 5], [[1, 1, 1], [2, 2, 2]])

        def tear(records, _):
            records["payloads"]["vector"][1, int(records["word"][1]) & 1, 4] ^= 1

        assert self.stopped(found, tear).get_many([5]).vectors.tolist() == [[1, 1, 1]]

    def test_without_one_before_it_is_the_tables_own(self, tmp_path):
        found = table(tmp_path / "t", [5, 3, 9, 4])
        found.put_many([5, 77], [[1, 1, 1], [2, 2, 2]])

        def tear(records, _):
            records["payloads"]["vector"][1:3, :, 4] ^= 1

        values = self.stopped(found, tear).get_many([5, 77])
        assert values.vectors.tolist() == [BASE[0].tolist(), [0, 0, 0]]
        assert values.known.tolist() == [True, False]

    @pytest.mark.parametrize("keys", [[5, 3, 9, 4], list("abcd")], ids=["integers", "strings"])
    def test_a_record_whose_owner_is_lost_is_nobodys(self, tmp_path, keys):
        found = table(tmp_path / "t", keys)
        new = "new" if isinstance(keys[0], str) else 77
        found.put_many([keys[0], keys[1], new], np.ones((3, 3)))

        def lose(records, _):
            records["owner"][1], records["owner"][3] = 3, 5

        again = self.stopped(found, lose)
        values = again.get_many([keys[0], keys[1], keys[3], new])
        assert values.vectors[:3].tolist() == [BASE[0].tolist(), [1] * 3, BASE[3].tolist()]
        assert values.known.tolist() == [True, True, True, False]
        again.put_many([new, keys[0]], np.full((2, 3), 4))
        assert again.get_many([new, keys[0]]).vectors.tolist() == [[4] * 3] * 2

    def test_a_pointer_that_is_ahead_of_the_records_or_behind(self, tmp_path):
        found = table(tmp_path / "t", [5, 3, 9, 4])
        found.put_many([5, 3], np.ones((2, 3)))

        def move(_, slots):
            slots.pointers[[1, 2, 3]] = 0, 1, 9

        again = self.stopped(found, move)
        want = [[1] * 3, [1] * 3, BASE[2].tolist(), BASE[3].tolist()]
        assert again.take(np.arange(4)).tolist() == want
        again.put_many([9, 4], np.full((2, 3), 6))
        assert again.take(np.arange(4)).tolist() == [[1] * 3, [1] * 3, [6] * 3, [6] * 3]


@settings(max_examples=150)
@given(
    places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=30),
    text=st.booleans(),
)
def test_a_file_that_was_overwritten_is_read_without_harm(tmp_path, places, text):
    """Rows may be wrong then, as in any damaged file: nothing is read beyond the mapping."""
    keys = list("abcd") if text else [5, 3, 9, 4]
    live_path(tmp_path / "t").unlink(missing_ok=True)
    found = table(tmp_path / "t", keys)
    found.put_many([keys[1], "new" if text else 77], np.ones((2, 3)))
    layout = found.live.file.shape.layout
    parts = [(128, 40), (layout.pointers, 16), (layout.records, 4 * layout.stride)]
    with live_path(found.path).open("r+b") as file:
        for place, byte in places:
            start, length = parts[int(place * 1e6) % len(parts)]
            file.seek(start + int(place * length))
            file.write(bytes([byte]))
    for reader in (found, Embeddings(found.path)):
        assert reader.get_many([*keys, "x" if text else 8]).vectors.shape == (5, 3)
        for some, values in reader.scan():
            assert len(some) == len(values.vectors)
        reader.live.stats()


WRITER = """
import sys, time
import numpy as np
from martlet.stores import Embeddings
table = Embeddings(__import__("pathlib").Path(sys.argv[1]))
keys, end, value = np.arange(16), time.monotonic() + float(sys.argv[2]), 0
while time.monotonic() < end:
    value += 1
    table.put_many(keys, np.broadcast_to(np.float32(value), (16, table.dim)))
print(value)
"""


def test_no_reader_sees_a_torn_row_while_a_writer_never_rests(tmp_path, lookup):
    found = table(tmp_path / "t", np.arange(8), vectors=np.zeros((8, 256)))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    if lookup == "pure":
        env["MARTLET_NATIVE"] = "0"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(found.path), "1.5"],
        stdout=subprocess.PIPE, env=env, text=True,
    )  # fmt: skip
    torn, went_back, reads = [], [], [0, 0]

    def read(number):
        newest = np.zeros(16)
        while writer.poll() is None:
            rows = found.get_many(np.arange(16)).vectors
            torn.extend(rows[(rows != rows[:, :1]).any(axis=1)])
            went_back.extend(rows[rows[:, 0] < newest])
            newest = rows[:, 0]
            reads[number] += 1

    threads = [threading.Thread(target=read, args=(number,)) for number in (0, 1)]
    for each in threads:
        each.start()
    out, _ = writer.communicate()
    for each in threads:
        each.join()
    assert (torn, went_back) == ([], [])
    assert min(reads) > 10
    assert found.get_many(np.arange(16)).vectors[:, 0].tolist() == [float(out)] * 16
    load = found.live.file.slots.load
    assert (load(IN_USE), load(UPDATES)) == (16, 16 * int(out))
