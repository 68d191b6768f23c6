"""Streams of updates: lines as they come, whole, and applied once each in their order."""

from __future__ import annotations

import json
import os
import socket
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from martlet.errors import InvalidInput, WrongState
from martlet.stores import Embeddings, write_embeddings
from martlet.stores.fold import fold, write_folded
from martlet.stores.follow import follow
from martlet.stores.lines import Lines, file_lines, listen, pipe_lines, socket_lines
from martlet.stores.updates import Update, apply, apply_each, parse_update


@pytest.fixture
def table(tmp_path):
    write_embeddings(tmp_path / "t", [1, 2, 3], np.zeros((3, 2)), generation="g")
    return Embeddings(tmp_path / "t")


def taken(stream, count):
    found = []
    end = time.monotonic() + 60
    while len(found) < count:
        found += next(stream).lines
        assert time.monotonic() < end
    return found


class TestLines:
    def test_a_file_is_read_on_as_it_grows(self, tmp_path):
        path = tmp_path / "f"
        path.write_bytes(b"one\ntw")
        stream = file_lines(path)
        assert taken(stream, 1) == [b"one"]
        with path.open("ab") as file:
            file.write(b"o\nthree\n")
        assert taken(stream, 2) == [b"two", b"three"]

    def test_a_file_that_is_replaced_or_cut_is_read_from_its_beginning(self, tmp_path):
        path = tmp_path / "f"
        path.write_bytes(b"one\n")
        stream = file_lines(path)
        assert taken(stream, 1) == [b"one"]
        (tmp_path / "next").write_bytes(b"two\n")
        (tmp_path / "next").rename(path)
        assert taken(stream, 1) == [b"two"]
        path.write_bytes(b"3\n")
        assert taken(stream, 1) == [b"3"]

    def test_a_cursor_passes_over_what_was_read(self, tmp_path):
        path = tmp_path / "f"
        path.write_bytes(b"one\ntwo\n")
        [first, *_] = [each for each in file_lines(path, once=True) if each.lines]
        with path.open("ab") as file:
            file.write(b"three")
        rest = list(file_lines(path, first.cursor, once=True))
        assert [line for each in rest for line in each.lines] == [b"three"]
        again = list(file_lines(path, rest[-1].cursor, once=True))
        assert [line for each in again for line in each.lines] == []
        for other in ("", "file:1:2", "redis:5-0", "file:x", f"{rest[-1].cursor}0"):
            whole = file_lines(path, other, once=True)
            assert [line for each in whole for line in each.lines] == [b"one", b"two", b"three"]

    def test_a_pipe_ends_with_its_writer(self):
        reader, writer = os.pipe()
        os.write(writer, b"one\ntwo\nthr")
        stream = pipe_lines(reader)
        assert taken(stream, 2) == [b"one", b"two"]
        assert next(stream).lines == []
        os.write(writer, b"ee")
        os.close(writer)
        assert taken(stream, 1) == [b"three"]
        assert list(stream) == []
        os.close(reader)

    @pytest.mark.parametrize("address", ["127.0.0.1:0", "unix:{}/s"])
    def test_producers_connect_and_leave(self, tmp_path, address):
        listening = listen(address.format(tmp_path))
        stream = socket_lines(listening)
        producers = []
        for _ in range(2):
            each = socket.socket(listening.family)
            each.connect(listening.getsockname())
            producers.append(each)
        producers[0].sendall(b"one\ntw")
        producers[1].sendall(b"1\n")
        assert sorted(taken(stream, 2)) == [b"1", b"one"]
        producers[0].sendall(b"o")
        producers[0].close()
        assert taken(stream, 1) == [b"two"]
        producers[1].sendall(b"2\n")
        assert taken(stream, 1) == [b"2"]
        producers[1].close()
        stream.close()
        listening.close()

    @given(data=st.binary(max_size=60), size=st.integers(1, 7))
    def test_lines_are_the_same_however_they_were_cut(self, data, size):
        reader, writer = os.pipe()
        pieces = [data[i : i + size] for i in range(0, len(data), size)]

        def write():
            for piece in pieces:
                os.write(writer, piece)
            os.close(writer)

        thread = threading.Thread(target=write)
        thread.start()
        found = [line for each in pipe_lines(reader) for line in each.lines]
        thread.join()
        os.close(reader)
        want = data.split(b"\n")
        assert found == (want if want[-1] else want[:-1])


class TestUpdates:
    VECTORS = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=4)

    @given(key=st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5), vector=VECTORS)
    def test_a_line_says_what_was_written(self, key, vector):
        line = json.dumps({"key": key, "vector": vector}).encode()
        assert parse_update(line) == Update(key, vector)

    @pytest.mark.parametrize(
        "line",
        [b"", b"[]", b"{}", b'{"key": 1}', b'{"key": 1.5, "vector": [1]}', b'{"vector": [1]}',
         b'{"key": 1, "vector": 3}', b'{"key": 1, "remove": false}',
         b'{"key": true, "remove": true}',
         b'{"key": 1, "vector": [1], "remove": true}', b'{"key": 1, "vector": [NaN]}',
         b'{"key": 1, "remove": true, "generation": 3}', b'{"key": null, "remove": true}', b"\xff"],
    )  # fmt: skip
    def test_another_line_is_refused(self, line):
        with pytest.raises(InvalidInput):
            parse_update(line)

    def test_those_that_do_not_fit_are_counted_and_the_others_are_set(self, table):
        updates = [Update(n, [n, n] if n % 7 else [n]) for n in range(1, 40)]
        applied = apply_each(table, updates)
        assert (applied.set, applied.refused) == (34, 5)
        assert "2 numbers" in applied.why
        known = table.get_many(np.arange(1, 40)).known
        assert known[3:].tolist() == [n % 7 > 0 for n in range(4, 40)]

    def test_the_last_of_a_key_holds(self, table):
        applied = apply(
            table, [Update(1, [5, 5]), Update(1, None), Update(2, None), Update(2, [6, 6])]
        )
        assert (applied.set, applied.removed) == (1, 0)
        assert table.get_many([1, 2]).vectors.tolist() == [[0, 0], [6, 6]]


class TestFollowing:
    def test_what_comes_is_applied_and_the_place_is_kept(self, table):
        stream = [
            Lines([b'{"key": 1, "vector": [1, 2]}', b"nonsense", b""], "here"),
            Lines([], "here"),
            Lines([b'{"key": 1, "remove": true}', b'{"key": 9, "vector": [3, 4]}'], "there"),
        ]
        told = []
        applied = follow(table, iter(stream), told=told.append)
        assert (applied.set, applied.removed, applied.refused) == (2, 1, 1)
        assert len(told) == 2
        assert table.get_many([1, 9]).vectors.tolist() == [[0, 0], [3, 4]]
        assert Embeddings(table.path).live.file.cursor == "there"

    def test_what_cannot_be_written_for_a_while_is_tried_again(self, table, monkeypatch):
        monkeypatch.setattr("martlet.stores.follow._AGAIN_S", 0.01)
        monkeypatch.setattr("martlet.stores.livewriter._PATIENCE_S", 0.05)
        other, told = Embeddings(table.path), []
        with other.writing():
            stream = [Lines([b'{"key": 1, "vector": [1, 2]}'], "")]
            thread = threading.Thread(
                target=follow, args=(table, iter(stream)), kwargs={"told": told.append}
            )
            thread.start()
            end = time.monotonic() + 60
            while not told:
                assert time.monotonic() < end
                time.sleep(0.01)
        thread.join()
        assert "tried again" in told[0].why
        assert other.get_many([1]).vectors.tolist() == [[1, 2]]

    def test_rows_that_were_folded_are_followed_into_the_next_version(self, table, tmp_path):
        table.put_many([1], [[1, 1]])
        following = tmp_path / "next"

        def publish(path):
            write_folded(Embeddings(path), following)
            return 2

        assert fold(table, publish) == 2
        stream = [Lines([b'{"key": 2, "vector": [1, 2]}'], "")]
        for reopened in (None, lambda: Embeddings(table.path)):
            with pytest.raises(WrongState):
                follow(table, iter(stream), reopened=reopened)
        follow(table, iter(stream), reopened=lambda: Embeddings(following))
        want = [[1, 1], [1, 2]]
        assert Embeddings(following).get_many([1, 2]).vectors.tolist() == want
