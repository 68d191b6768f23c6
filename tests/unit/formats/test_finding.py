"""How a file's format is found, and what is said where it cannot be opened."""

from __future__ import annotations

import gzip
import os
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest

import martlet
from martlet import formats
from martlet.errors import InvalidInput, MissingExtra, ModelNotFound, UnsupportedModel
from martlet.formats import Format, LoadOptions


def light(path: Path) -> Path:
    with path.open("wb") as file:
        np.savez(file, inputs=np.array(["dot"]), w0=np.ones((1, 1)), b0=np.zeros(1))
    return path


@pytest.mark.parametrize("name", ["model.npz", "model.onnx", "model.txt", "model"])
def test_content_counts_before_the_suffix(tmp_path: Path, name: str):
    assert formats.sniff(light(tmp_path / name)).name == "arrays"


def test_the_suffix_counts_where_the_content_says_nothing(tmp_path: Path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\xff\xff")
    assert formats.recognise(path) is None
    assert formats.sniff(path).name == "onnx"


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"hello", b"{}", b"PK\x03\x04"])
def test_a_file_of_no_format_is_refused_with_the_formats_there_are(tmp_path: Path, content: bytes):
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    with pytest.raises(UnsupportedModel, match="is in no known format; the formats are: mlflow, "):
        formats.sniff(path)


def test_an_empty_folder_is_no_model(tmp_path: Path):
    with pytest.raises(UnsupportedModel, match="is in no known format"):
        martlet.load(tmp_path)
    with pytest.raises(UnsupportedModel, match="holds no model"):
        martlet.load(tmp_path, format="folder")


@pytest.mark.parametrize("format", [None, *formats.BUILTIN])
def test_a_pipe_is_refused_which_nobody_may_ever_write_into(format: str | None, tmp_path: Path):
    os.mkfifo(tmp_path / "m.onnx")
    assert formats.recognise(tmp_path / "m.onnx") is None
    with pytest.raises(UnsupportedModel, match=r"m\.onnx is no file: a pipe"):
        martlet.load(tmp_path / "m.onnx", format=format)


@pytest.mark.parametrize("name", ["saved_model.pb", "MLmodel", "metadata/part-00000"])
def test_a_pipe_in_a_folder_is_refused(name: str, tmp_path: Path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(UnsupportedModel, match=f"{name} is no file"):
        martlet.load(tmp_path)


def test_a_device_is_refused(tmp_path: Path):
    (tmp_path / "m").symlink_to("/dev/zero")
    with pytest.raises(UnsupportedModel, match="is no file"):
        martlet.load(tmp_path / "m")


class TestAFolderWithAModel:
    def test_is_opened_as_that_model_whatever_else_it_holds(self, tmp_path: Path):
        light(tmp_path / "model.npz")
        (tmp_path / "README.md").write_text("# A model")
        (tmp_path / "notes").mkdir()
        with martlet.load(tmp_path) as model:
            assert model.predict({"user": [[1.0]], "item": [[3.0]]})["score"].shape == (1,)

    def test_is_refused_where_it_holds_several(self, tmp_path: Path):
        light(tmp_path / "a.npz")
        light(tmp_path / "b.npz")
        with pytest.raises(UnsupportedModel, match=r"several models: a\.npz, b\.npz; name the one"):
            martlet.load(tmp_path)

    def test_goes_by_what_needs_no_trust_before_pickles(self, tmp_path: Path):
        (tmp_path / "encoder.pkl").write_bytes(pickle.dumps(Path("x")))
        (tmp_path / "model.pmml").write_text("<PMML/>")
        with pytest.raises(UnsupportedModel, match=r"model\.pmml"):
            martlet.load(tmp_path)
        (tmp_path / "model.pmml").unlink()
        with pytest.raises(UnsupportedModel, match=r"encoder\.pkl is a pickle"):
            martlet.load(tmp_path)

    def test_does_not_follow_links_out_of_itself(self, tmp_path: Path):
        light(tmp_path / "model.npz")
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "model.npz").symlink_to(tmp_path / "model.npz")
        with pytest.raises(UnsupportedModel, match="is in no known format"):
            martlet.load(tmp_path / "folder")


class TestAPackedFile:
    def test_is_opened_as_what_it_holds(self, tmp_path: Path):
        content = light(tmp_path / "m.npz").read_bytes()
        (tmp_path / "m.gz").write_bytes(gzip.compress(content))
        assert formats.sniff(tmp_path / "m.gz").name == "gzip"
        with martlet.load(tmp_path / "m.gz") as model:
            assert model.predict({"user": [[1.0]], "item": [[3.0]]})["score"].shape == (1,)

    def test_is_refused_where_it_would_unpack_to_far_more(self, tmp_path: Path):
        content = b"<PMML>" + b" " * (64 << 20)
        (tmp_path / "m.gz").write_bytes(gzip.compress(content))
        with pytest.raises(UnsupportedModel, match="far more"):
            martlet.load(tmp_path / "m.gz")

    def test_is_refused_where_it_is_cut_short(self, tmp_path: Path):
        packed = gzip.compress(light(tmp_path / "m.npz").read_bytes())
        (tmp_path / "m.gz").write_bytes(packed[:-20])
        with pytest.raises(UnsupportedModel, match="does not unpack"):
            martlet.load(tmp_path / "m.gz", format="gzip")

    def test_where_there_is_no_room_to_unpack_is_said(self, tmp_path: Path, monkeypatch):
        (tmp_path / "m.gz").write_bytes(gzip.compress(light(tmp_path / "m.npz").read_bytes()))
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
        with pytest.raises(UnsupportedModel, match=r"no room to look into it.*TMPDIR"):
            martlet.load(tmp_path / "m.gz")

    def test_of_a_packed_file_is_not_looked_into(self, tmp_path: Path):
        packed = gzip.compress(light(tmp_path / "m.npz").read_bytes())
        (tmp_path / "m.gz").write_bytes(gzip.compress(packed))
        with pytest.raises(UnsupportedModel, match="is in no known format"):
            martlet.load(tmp_path / "m.gz")


@pytest.mark.parametrize("name", ["none.onnx", "n\0ne", "n" * 300], ids=["none", "NUL", "long"])
def test_nothing_at_the_path_is_told(name: str, tmp_path: Path):
    for find in (formats.sniff, formats.load, martlet.load):
        with pytest.raises(ModelNotFound, match="there is no file or folder at"):
            find(tmp_path / name)


def test_a_link_to_itself_leads_nowhere(tmp_path: Path):
    (tmp_path / "m").symlink_to(tmp_path / "m")
    with pytest.raises(ModelNotFound, match="there is no file or folder at"):
        martlet.load(tmp_path / "m")


def test_a_format_that_is_not_there_is_told(tmp_path: Path):
    with pytest.raises(ModelNotFound, match="no format 'onyx'; available: mlflow, "):
        martlet.load(light(tmp_path / "m.npz"), format="onyx")


def test_a_named_format_is_not_second_guessed(tmp_path: Path):
    with pytest.raises(UnsupportedModel):
        martlet.load(light(tmp_path / "m.npz"), format="onnx")


@pytest.mark.parametrize("name", formats.BUILTIN)
def test_every_format_in_the_table_keeps_its_word(name: str, tmp_path: Path):
    found = formats._format(name)
    assert isinstance(found, Format) and found.name == name
    for junk in (b"", b"\x00", b"\xff" * 5000, b"PK\x03\x04" + b"\x00" * 40, b"{", b"<a", b"["):
        path = tmp_path / "junk"
        path.write_bytes(junk)
        assert found.sniff(path) is False


def test_a_library_that_is_not_installed_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def load(path: Path, options: LoadOptions) -> martlet.Servable:
        import a_library_that_nobody_has  # type: ignore[import-not-found] # noqa: F401

        raise AssertionError

    rare = Format("rare", (".rare",), lambda _: True, load, extra="rare")
    monkeypatch.setattr(formats, "_format", lambda _: rare)
    with pytest.raises(MissingExtra, match=r"the format rare needs the extra 'rare': pip install"):
        formats.load(light(tmp_path / "m"), format="rare")


def test_a_loaded_model_checks_its_inputs(tmp_path: Path):
    with martlet.load(light(tmp_path / "m.npz")) as model:
        assert model.predict({"user": [[1.0, 2.0]], "item": [[3.0, -1.5]]})["score"] == [0.5]
        with pytest.raises(InvalidInput, match="input 'item' is missing"):
            model.predict({"user": [[1.0, 2.0]]})
        with pytest.raises(InvalidInput, match="no signature 'x'; available: 'serving_default'"):
            model.predict({}, "x")


def test_looking_for_a_format_loads_no_library(tmp_path: Path):
    """In a fresh process: every file is asked of every format, so asking must be cheap."""
    import subprocess
    import sys

    (tmp_path / "m").write_bytes(b"nothing that is known")
    script = (
        "import sys, pathlib, martlet\n"
        "from martlet import formats\n"
        f"try: formats.sniff(pathlib.Path({str(tmp_path / 'm')!r}))\n"
        "except martlet.errors.UnsupportedModel: pass\n"
        "print(sorted(m for m in sys.modules if '.' not in m))"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    heavy = {"onnxruntime", "lightgbm", "xgboost", "catboost", "sklearn", "skops", "pandas"}
    heavy |= {"torch", "tensorflow", "keras", "ai_edge_litert", "h5py", "joblib", "pyarrow"}
    assert not heavy & set(eval(told.stdout))
