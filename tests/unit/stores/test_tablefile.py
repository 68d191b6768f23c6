"""The file itself: whole or refused, replaced in one step, shared by all who open it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from martlet.errors import ModelNotFound, NotAvailable, UnsupportedModel
from martlet.stores import Embeddings, Features, Lists, write_embeddings
from martlet.stores.tablefile import TableFile, kind_of, write_table


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "items.table"
    write_embeddings(path, np.arange(100), np.ones((100, 8)))
    return path


class TestDamage:
    @pytest.mark.parametrize("size", [0, 1, 63, 64, 100, 500, -1])
    def test_a_file_cut_anywhere_is_refused(self, table, size):
        os.truncate(table, size if size >= 0 else table.stat().st_size - 1)
        with pytest.raises(UnsupportedModel):
            Embeddings(table)

    def test_a_file_that_has_grown_is_refused(self, table):
        with table.open("ab") as file:
            file.write(b"x")
        with pytest.raises(UnsupportedModel):
            Embeddings(table)

    def test_no_changed_byte_of_preamble_or_header_goes_unseen(self, table):
        content = table.read_bytes()
        header = 64 + int.from_bytes(content[12:16], "little")
        for at in [*range(56), *range(64, header)]:
            table.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
            with pytest.raises(UnsupportedModel):
                Embeddings(table)

    def test_a_changed_value_is_found_by_verify_and_its_section_named(self, table):
        content = bytearray(table.read_bytes())
        at = content.find(np.ones(8, np.float32).tobytes())
        content[at] ^= 1
        table.write_bytes(content)
        with pytest.raises(UnsupportedModel, match="section 'vectors'"):
            Embeddings(table).verify()

    def test_what_is_no_table_or_another_table_is_said_so(self, table, tmp_path):
        with pytest.raises(UnsupportedModel, match="holds embeddings, where lists are wanted"):
            Lists(table)
        other = tmp_path / "notes.txt"
        other.write_text("x" * 1000)
        with pytest.raises(UnsupportedModel, match="is not a table file"):
            Features(other)
        with pytest.raises(ModelNotFound):
            Embeddings(tmp_path / "none")
        assert (kind_of(table), kind_of(other), kind_of(tmp_path)) == ("embeddings", None, None)


class TestWriting:
    def test_a_full_disk_leaves_the_old_file(self, table, monkeypatch):
        before = table.read_bytes()
        opened = Path.open

        def onto_full(path: Path, mode: str = "r"):
            return opened(Path("/dev/full"), "wb") if mode == "xb" else opened(path, mode)

        monkeypatch.setattr(Path, "open", onto_full)
        with pytest.raises(NotAvailable, match="No space left"):
            write_embeddings(table, [1], [[1.0]])
        monkeypatch.undo()
        assert table.read_bytes() == before
        assert list(table.parent.iterdir()) == [table]

    def test_a_writer_that_is_killed_never_leaves_half_a_file(self, tmp_path):
        path = tmp_path / "t"
        script = (
            "import sys, numpy as np; from pathlib import Path\n"
            "from martlet.stores import write_embeddings\n"
            "n = 0\n"
            "while True:\n"
            "    n += 1\n"
            "    write_embeddings(Path(sys.argv[1]), np.arange(20000), np.full((20000, 8), n))\n"
            "    print(n, flush=True)\n"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        for at_least in (1, 2, 3):
            writer = subprocess.Popen(
                [sys.executable, "-c", script, str(path)],
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
            assert writer.stdout is not None
            said = [int(writer.stdout.readline()) for _ in range(at_least)][-1]
            writer.send_signal(signal.SIGKILL)
            writer.communicate()
            table = Embeddings(path)
            table.verify()
            values = np.unique(table.vectors)
            assert len(values) == 1
            assert values[0] >= said

    def test_sections_are_aligned_and_empty_ones_are_kept(self, tmp_path):
        sections = {"a": np.arange(3, dtype=np.int8), "none": np.empty((0, 4), np.float32)}
        write_table(tmp_path / "t", "odd", {**sections, "b": np.arange(5)}, meta={"x": 1})
        file = TableFile(tmp_path / "t", "odd")
        assert file["none"].shape == (0, 4)
        assert file["b"].tolist() == [0, 1, 2, 3, 4]
        assert file["b"].ctypes.data % 64 == 0
        file.verify()


class TestSharing:
    def test_opening_copies_nothing(self, tmp_path):
        path = tmp_path / "t"
        write_embeddings(path, np.arange(200_000), np.zeros((200_000, 64), np.float32))
        script = (
            "import sys, numpy as np; from pathlib import Path\n"
            "from martlet.stores import Embeddings\n"
            "def private():\n"
            "    rows = open('/proc/self/smaps_rollup').read().split('\\n')\n"
            "    return sum(int(r.split()[1]) for r in rows if r.startswith('Private_Dirty'))\n"
            "before = private()\n"
            "table = Embeddings(Path(sys.argv[1]))\n"
            "table.take(table.rows_of(np.arange(0, 200_000, 50)))\n"
            "print(private() - before)\n"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        said = subprocess.run(
            [sys.executable, "-c", script, str(path)],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        assert int(said.stdout) < 8_000  # KiB, of a file of 52 MB
