"""Pickles: only when trusted, and in a process of their own."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

import martlet
from martlet import formats
from martlet.errors import NotAvailable, UnsupportedModel

pytestmark = pytest.mark.filterwarnings("ignore")


def gone(pid: int) -> bool:
    """Whether the process ends."""
    for _ in range(1200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


class Mischief:
    """A pickle of it writes a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class TestPickles:
    @pytest.mark.parametrize("name", ["m.pkl", "m.joblib", "m.txt", "m.onnx", "m.pt", "m.h5"])
    @pytest.mark.parametrize("protocol", [2, 4, 5])
    def test_one_that_is_not_trusted_is_never_opened(
        self, name: str, protocol: int, tmp_path: Path
    ):
        import pickle

        done = tmp_path / "done"
        (tmp_path / name).write_bytes(pickle.dumps(Mischief(done), protocol=protocol))
        with pytest.raises(UnsupportedModel, match="trusted"):
            martlet.load(tmp_path / name)
        assert not done.exists()

    @pytest.mark.parametrize("format", formats.names())
    def test_no_format_opens_one_even_where_it_is_named(self, format: str, tmp_path: Path):
        import pickle

        done = tmp_path / "done"
        (tmp_path / "m").write_bytes(pickle.dumps(Mischief(done)))
        with pytest.raises(martlet.MartletError):
            martlet.load(tmp_path / "m", format=format)
        assert not done.exists()

    @pytest.mark.parametrize("compress", ["zlib", "gzip", "bz2", "lzma", "xz"])
    def test_a_compressed_one_is_known_for_what_it_is(self, compress: str, tmp_path: Path):
        import joblib
        from sklearn.linear_model import Ridge

        trained = Ridge().fit(np.eye(3), [1, 2, 3])
        joblib.dump(trained, tmp_path / "m", compress=(compress, 3))
        assert formats.sniff(tmp_path / "m").name == "sklearn"
        with martlet.load(tmp_path / "m", trusted=True) as model:
            found = model.predict({"X": np.eye(3)})["predict"]
        np.testing.assert_allclose(found, trained.predict(np.eye(3)))

    def test_a_trusted_ones_process_may_die_and_the_model_lives(self, tmp_path: Path):
        import joblib
        from sklearn.linear_model import Ridge

        joblib.dump(Ridge().fit(np.eye(3), [1, 2, 3]), tmp_path / "m.joblib")
        with martlet.load(tmp_path / "m.joblib", trusted=True) as model:
            rows = {"X": np.eye(3)}
            before = model.predict(rows)["predict"]
            os.kill(model._servable._pid, signal.SIGKILL)
            with pytest.raises(NotAvailable, match="SIGKILL"):
                model.predict(rows)
            assert model.predict(rows)["predict"].tolist() == before.tolist()
            pid = model._servable._pid
        assert gone(pid)

    def test_a_trusted_one_sees_no_secret_of_ours(self, tmp_path: Path, monkeypatch):
        import joblib

        monkeypatch.setenv("SECRET_TOKEN", "s3cret")
        told = tmp_path / "told"
        told.write_text("")
        joblib.dump(_Teller(f"env > {told}"), tmp_path / "m.joblib")
        with pytest.raises(UnsupportedModel):
            martlet.load(tmp_path / "m.joblib", trusted=True)
        assert "PATH=" in told.read_text()
        assert "s3cret" not in told.read_text()


class _Teller:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)
