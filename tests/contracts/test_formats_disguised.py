"""Code in disguise: files that look like models and would run something when they are opened.

Each is made so that what vets a file and the library that opens it would see different things.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

import martlet
from martlet.errors import UnsupportedModel

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def done(tmp_path: Path) -> Path:
    """What each of the files would make, if it ran."""
    return tmp_path / "done"


def refused(path: Path, done: Path, reason: str = "") -> None:
    with pytest.raises(UnsupportedModel, match=reason):
        martlet.load(path)
    assert not done.exists()


def rewritten(whole: Path, path: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """The archive at *whole* with each member as *change* has it."""
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(path, "w") as made:
        for name in archive.namelist():
            made.writestr(name, change(name, archive.read(name)))
    return path


class Mischief:
    """Unpickled, it makes a file."""

    def __init__(self, done: Path) -> None:
        self.done = str(done)

    def __reduce__(self) -> Any:
        return open, (self.done, "w")


def doubling(torch: Any) -> Any:
    """A module that adds a tensor to itself."""

    class Doubled(torch.nn.Module):
        def forward(self, x):
            return x + x

    return Doubled()


class TestTorchScript:
    @pytest.fixture(scope="class")
    def whole(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        torch = pytest.importorskip("torch")
        path = tmp_path_factory.mktemp("torchscript") / "m.pt"
        torch.jit.script(doubling(torch).eval()).save(str(path))
        return path

    @pytest.mark.parametrize(
        "line",
        [
            'torch.save(x, "{done}")',
            'ops.aten.save(x, "{done}")',
            'torch.\\\n  save(x, "{done}")',
            't = torch\n    t.save(x, "{done}")',
            'a = torch.save\n    a(x, "{done}")',
            'a = getattr(torch, "sa" "ve")\n    a(x, "{done}")',
            'a = """b"c"""; torch.save(x, "{done}"); d = "e"',
            "a = 'b\"c'; torch.save(x, \"{done}\"); d = 'e\"'",
            'y = torch.from_file("/etc/passwd", False, 4)',
        ],
    )
    def test_a_method_that_reaches_outside_is_refused(
        self, line: str, whole: Path, done: Path, tmp_path: Path
    ):
        def change(name: str, content: bytes) -> bytes:
            text = line.format(done=done)
            return content.replace(b"    return", b"    %b\n    return" % text.encode())

        refused(rewritten(whole, tmp_path / "m.pt", change), done, "outside|writes it")

    def test_one_that_runs_when_the_file_is_opened_is_refused(self, done: Path, tmp_path: Path):
        torch = pytest.importorskip("torch")
        # The name of the file is part of the code, which has to be written for it.
        source = (
            "def __setstate__(self, state: Tuple[Tensor, bool]):\n"
            "    self.training = state[1]\n"
            f"    torch.save(state[0], {str(done)!r})\n"
        )
        module = torch.jit.ScriptModule()
        module.training = False
        module.define("def forward(self, x):\n    return x + x\n")
        module.define(
            "def __getstate__(self) -> Tuple[Tensor, bool]:\n"
            "    return (torch.ones([1]), self.training)\n"
        )
        module.define(source)
        module.save(str(tmp_path / "m.pt"))
        refused(tmp_path / "m.pt", done, "torch.save")

    def test_words_in_text_are_no_code(self, whole: Path, done: Path, tmp_path: Path):
        text = b'    if bool(torch.gt(torch.numel(x), 99)):\n      a = "torch.save(x)"\n    return'
        path = rewritten(
            whole, tmp_path / "m.pt", lambda _, content: content.replace(b"    return", text)
        )
        with martlet.load(path) as model:
            assert model.predict({"x": np.ones(2, np.float32)})["output"].tolist() == [2, 2]


def short(text: str) -> bytes:
    """A pickle's short text."""
    return b"\x8c" + bytes([len(text)]) + text.encode()


def hidden(done: Path) -> dict[str, bytes]:
    """Pickles that make *done* by a call that is not named where it is imported."""
    call = short("builtins") + b"\x94" + short("open") + b"\x94"
    harmless = short("collections") + short("OrderedDict") + b"0000"
    arguments = short(str(done)) + short("w") + b"\x86R."
    return {
        "from the memo": b"\x80\x04" + call + harmless + b"h\0h\1\x93" + arguments,
        "by INST": b"(S'%b'\nS'w'\nibuiltins\nopen\n." % str(done).encode(),
        "by OBJ": b"(cbuiltins\nopen\nS'%b'\nS'w'\no." % str(done).encode(),
        "plainly": pickle.dumps(Mischief(done), protocol=2),
    }


class TestTorchExport:
    @pytest.fixture(scope="class")
    def whole(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        torch = pytest.importorskip("torch")
        path = tmp_path_factory.mktemp("export") / "m.pt2"
        torch.export.save(torch.export.export(doubling(torch), (torch.ones(3),)), path)
        return path

    def with_samples(self, whole: Path, path: Path, change: Callable[[bytes], bytes]) -> Path:
        """The program with its sample inputs, an archive of torch.save, as *change* has them."""
        return rewritten(
            whole, path, lambda name, data: change(data) if "sample_inputs" in name else data
        )

    @pytest.mark.parametrize("way", ["from the memo", "by INST", "by OBJ", "plainly"])
    def test_a_pickle_among_its_samples_is_refused(
        self, way: str, whole: Path, done: Path, tmp_path: Path
    ):
        def change(samples: bytes) -> bytes:
            out = io.BytesIO()
            with zipfile.ZipFile(io.BytesIO(samples)) as inner, zipfile.ZipFile(out, "w") as made:
                for name in inner.namelist():
                    pickled = name.endswith("data.pkl")
                    made.writestr(name, hidden(done)[way] if pickled else inner.read(name))
            return out.getvalue()

        refused(self.with_samples(whole, tmp_path / "m.pt2", change), done, "safe to open")

    def test_a_pickle_before_its_samples_is_refused(self, whole: Path, done: Path, tmp_path: Path):
        plain = pickle.dumps(Mischief(done), protocol=2)
        path = self.with_samples(whole, tmp_path / "m.pt2", lambda samples: plain + samples)
        refused(path, done)

    @pytest.mark.parametrize("config", [b"[]", b"{}", b'{"config": []}', b'{"config": {"w": "x"}}'])
    def test_a_config_of_another_kind_is_refused(
        self, config: bytes, whole: Path, done: Path, tmp_path: Path
    ):
        path = rewritten(
            whole,
            tmp_path / "m.pt2",
            lambda name, content: config if name.endswith("_config.json") else content,
        )
        refused(path, done, "safe to open")

    @pytest.mark.parametrize(
        "size", ["9**9**9", "Pow(9, Pow(9, 9))", "99999999!", "1 << 99999999999"]
    )
    def test_a_size_that_takes_for_ever_to_compute_is_refused(
        self, size: str, whole: Path, done: Path, tmp_path: Path
    ):
        def change(name: str, content: bytes) -> bytes:
            if not name.endswith("models/model.json"):
                return content
            program = orjson.loads(content)
            program["range_constraints"] = {size: {"min_val": 0, "max_val": 9}}
            return orjson.dumps(program)

        refused(rewritten(whole, tmp_path / "m.pt2", change), done, "a size is")


def two_directories(whole: Path, path: Path) -> None:
    """
    Write the archive *whole* with its directory a second time, just before the end record.

    The end record points to the first; Python's zipfile reads the second.
    """
    content = whole.read_bytes()
    at = content.rindex(b"PK\5\6")
    start = struct.unpack("<L", content[at + 16 : at + 20])[0]
    path.write_bytes(content[:at] + content[start:at] + content[at:])


def twice(whole: Path, path: Path) -> None:
    """Write the archive *whole* with a member twice: readers take the first or the last."""
    path.write_bytes(whole.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        name = archive.namelist()[0]
        archive.writestr(name, archive.read(name))


def after_another_file(whole: Path, path: Path) -> None:
    """Write the archive *whole* behind a pickle, which is what the file begins as."""
    path.write_bytes(pickle.dumps([1]) + whole.read_bytes())


def of_many_disks(path: Path) -> None:
    """Write an archive that says it lies on nine disks, at which Python's reader raises."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("name", b"{}")
    content = path.read_bytes()
    at = content.rindex(b"PK\5\6")
    path.write_bytes(content[:at] + struct.pack("<4sLQL", b"PK\6\7", 7, 0, 9) + content[at:])


@pytest.mark.parametrize("format", [None, "arrays", "keras", "sklearn", "torchscript", "spark"])
def test_an_archive_with_a_damaged_end_is_refused(format: str | None, tmp_path: Path):
    of_many_disks(tmp_path / "m.zip")
    with pytest.raises(UnsupportedModel):
        martlet.load(tmp_path / "m.zip", format=format)


@pytest.mark.parametrize("change", [two_directories, twice, after_another_file])
@pytest.mark.parametrize("format", ["arrays", "sklearn", "keras", "torchscript", "torch_export"])
def test_an_archive_that_readers_may_read_differently_is_refused(
    change: Callable[[Path, Path], None], format: str, tmp_path: Path
):
    names = ("schema.json", "w0.npy", "m/code/__torch__.py", "m/constants.pkl", "config.json")
    with zipfile.ZipFile(tmp_path / "whole", "w") as archive:
        for name in (*names, "metadata.json", "model.weights.h5", "m/archive_format"):
            archive.writestr(name, b"{}")
    change(tmp_path / "whole", tmp_path / "m.zip")
    with pytest.raises(UnsupportedModel, match="plain zip"):
        martlet.load(tmp_path / "m.zip", format=format)
