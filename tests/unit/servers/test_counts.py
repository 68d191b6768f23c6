"""What was answered is counted, and told in Prometheus' words."""

from __future__ import annotations

import pytest

from martlet.errors import Code
from martlet.monitor.counts import BOUNDS_US, Counts
from martlet.monitor.together import Together
from martlet.servers.metrics import text


@pytest.fixture
def counts() -> Counts:
    found = Counts()
    for took_us in (5, 15, 1e9):
        found.answered("REST", "predict", "m", 3, None, 2, int(took_us * 1000), 1000)
    found.answered("GRPC", "Predict", "m", 3, Code.INVALID_ARGUMENT, 0, 1000, 0)
    return found


def test_answers_are_counted_by_model_and_code(counts):
    assert counts.totals().requests == {("m", "OK"): 3, ("m", "INVALID_ARGUMENT"): 1}
    work = counts.totals().work["m", 3]
    assert (work.succeeded, work.failed, work.rows) == (3, 1, 6)


def test_the_text_is_what_tensorflow_servings_dashboards_read(counts):
    lines = text(counts.totals()).splitlines()
    assert ':tensorflow:serving:request_count{model_name="m",status="OK"} 3' in lines
    bucket = ':tensorflow:serving:request_latency_bucket{model_name="m",API="predict",'
    bucket += 'entrypoint="REST",le="'
    counted = [line.rpartition(" ")[2] for line in lines if line.startswith(bucket)]
    assert len(counted) == len(BOUNDS_US) + 1
    # A bucket holds all that is below it: one of 5 us, then that of 15, then the one of minutes.
    assert (counted[0], counted[1], counted[-2], counted[-1]) == ("1", "2", "2", "3")


def test_a_name_with_quotes_stays_one_label():
    found = Counts()
    found.answered("REST", "predict", 'a"b\\', 1, None, 1, 1, 1)
    assert 'model_name="a\\"b\\\\",status="OK"' in text(found.totals())


def test_many_answers_are_folded_as_they_come(counts):
    for _ in range(5000):
        counts.answered("REST", "predict", "m", 3, None, 1, 1000, 1000)
    assert len(counts._queue) < 2000
    assert counts.totals().requests["m", "OK"] == 5003


class TestTogether:
    def test_any_worker_tells_what_all_have_done(self, tmp_path):
        workers = [Together(tmp_path, index) for index in range(3)]
        for index, each in enumerate(workers):
            for _ in range(index + 1):
                each.counts.answered("REST", "predict", "m", 1, None, 1, 1000, 1000)
            each.write()
        for each in workers:
            assert each.totals().requests == {("m", "OK"): 6}

    def test_who_follows_a_worker_goes_on_from_its_counts(self, tmp_path):
        first = Together(tmp_path, 0)
        first.counts.answered("REST", "predict", "m", 1, None, 1, 1000, 1000)
        first.write()
        second = Together(tmp_path, 0)
        second.counts.answered("REST", "predict", "m", 1, None, 1, 1000, 1000)
        assert second.totals().requests == {("m", "OK"): 2}

    def test_a_file_that_is_cut_is_left_out(self, tmp_path):
        (tmp_path / "1.counts").write_bytes(b"\x80\x05")
        assert Together(tmp_path, 0).totals().requests == {}
