"""Which index a table gets, and which index files are refused."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from martlet.errors import ModelNotFound, UnsupportedModel
from martlet.retrieval import Exact, Ivf, Metric, build_index, build_ivf, choice, open_index
from martlet.stores import Embeddings, write_embeddings

pytest.importorskip("faiss")


@pytest.fixture
def table(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((3000, 8))
    write_embeddings(tmp_path / "items.table", np.arange(3000), vectors)
    return Embeddings(tmp_path / "items.table")


class TestChoice:
    def test_a_small_table_needs_no_index(self, table):
        assert build_index(table) is None
        assert isinstance(open_index(table).inner, Exact)

    def test_a_large_table_gets_one_beside_it(self, table, monkeypatch):
        monkeypatch.setattr(choice, "EXACT_UP_TO", 1000)
        path = build_index(table, recall=0.9)
        assert path is not None
        assert path.parent == table.path.parent
        index = open_index(table).inner
        assert isinstance(index, Ivf)
        assert index.recall >= 0.9
        assert isinstance(open_index(table, metric=Metric.COSINE).inner, Exact)

    def test_a_higher_recall_visits_more_cells(self, table, tmp_path):
        build_ivf(table, tmp_path / "low", recall=0.5)
        build_ivf(table, tmp_path / "high", recall=0.999)
        low, high = Ivf(table, tmp_path / "low"), Ivf(table, tmp_path / "high")
        assert low.probes < high.probes
        assert low.recall < high.recall

    def test_the_same_seed_builds_the_same_file(self, table, tmp_path):
        build_ivf(table, tmp_path / "a")
        build_ivf(table, tmp_path / "b")
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


class TestRefusals:
    def test_an_index_over_another_table_is_refused(self, table, tmp_path):
        build_ivf(table, tmp_path / "i")
        write_embeddings(tmp_path / "other", np.arange(3000), np.ones((3000, 8)))
        with pytest.raises(UnsupportedModel, match="another table"):
            Ivf(Embeddings(tmp_path / "other"), tmp_path / "i")

    @pytest.mark.parametrize("damage", ["cut", "grown", "empty", "notes", "not an index"])
    def test_a_damaged_file_is_refused(self, table, tmp_path, damage):
        path = tmp_path / "i"
        build_ivf(table, path)
        content = path.read_bytes()
        at = content.rindex(b'"probes"')
        path.write_bytes(
            {
                "cut": content[:-1],
                "grown": content + b"x",
                "empty": b"",
                "notes": content[:at] + b"'probes'" + content[at + 8 :],
                "not an index": b"x" * 5000,
            }[damage]
        )
        with pytest.raises(UnsupportedModel):
            Ivf(table, path)

    def test_nothing_at_the_path_is_said_so(self, table, tmp_path):
        with pytest.raises(ModelNotFound):
            Ivf(table, tmp_path / "none")


class TestSharing:
    def test_an_open_index_is_mapped_and_not_copied(self, tmp_path):
        random = np.random.default_rng(0)
        write_embeddings(tmp_path / "t", np.arange(60_000), random.standard_normal((60_000, 64)))
        table = Embeddings(tmp_path / "t")
        build_ivf(table, tmp_path / "i", recall=0.3)
        script = (
            "import sys, numpy as np, faiss; from pathlib import Path\n"
            "from martlet.stores import Embeddings\n"
            "from martlet.retrieval import Ivf\n"
            "def private():\n"
            "    rows = open('/proc/self/smaps_rollup').read().split('\\n')\n"
            "    return sum(int(r.split()[1]) for r in rows if r.startswith('Private_Dirty'))\n"
            "before = private()\n"
            "index = Ivf(Embeddings(Path(sys.argv[1])), Path(sys.argv[2]))\n"
            "index.search(np.ones((1, 64), np.float32), 100)\n"
            "print(private() - before)\n"
        )
        said = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "t"), str(tmp_path / "i")],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert int(said.stdout) < 6_000  # KiB, of 16 MB of vectors
