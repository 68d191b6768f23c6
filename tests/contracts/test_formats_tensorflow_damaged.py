"""Damaged and hostile Keras files and SavedModels: refused by name, with nothing run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_formats_damaged import try_damages
from test_formats_tensorflow import NAMES, WAYS, network

import martlet
from martlet.errors import UnsupportedModel

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
h5py = pytest.importorskip("h5py")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: Any) -> Path:
    path = tmp_path_factory.mktemp("whole") / "m.keras"
    network(keras).save(path)
    return path


def rewritten(whole: Path, path: Path, change: Callable[[dict[str, bytes]], Any]) -> Path:
    """A copy of the archive with its members changed."""
    with zipfile.ZipFile(whole) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def config_of(members: dict[str, bytes], change: Callable[[Any], Any]) -> None:
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()


def layer(config: Any, name: str) -> Any:
    return next(each for each in config["config"]["layers"] if each["config"]["name"] == name)


class TestKeras:
    @pytest.mark.parametrize(("library", "name"), WAYS, ids=NAMES)
    def test_a_truncated_or_flipped_file_is_refused_or_is_still_a_model(
        self, library: Any, name: str, tmp_path: Path
    ):
        network(library).save(tmp_path / name)
        assert try_damages(tmp_path / name, "keras", 30) >= 10

    @pytest.mark.parametrize("units", [1 << 40, 1 << 62, -3, 1e300, "many"])
    def test_a_layer_of_a_huge_size_is_refused_without_room_for_it(
        self, whole: Path, units: object, tmp_path: Path
    ):
        def change(config: Any) -> None:
            layer(config, "hidden")["config"]["units"] = units

        path = rewritten(whole, tmp_path / "m.keras", lambda members: config_of(members, change))
        with pytest.raises(UnsupportedModel):
            martlet.load(path)

    def test_a_config_that_nests_without_end_is_refused(self, whole: Path, tmp_path: Path):
        deep = b'{"class_name":"Sequential","config":' * 5000

        def change(members: dict[str, bytes]) -> None:
            members["config.json"] = deep + b"1" + b"}" * 5000

        with pytest.raises(UnsupportedModel):
            martlet.load(rewritten(whole, tmp_path / "m.keras", change))
        with h5py.File(tmp_path / "m.h5", "w") as file:
            file.create_dataset("x", data=1)
            file.attrs["model_config"] = (b'{"layers":[' * 3000) + (b"]}" * 3000)
        with pytest.raises(UnsupportedModel):
            martlet.load(tmp_path / "m.h5")

    def test_groups_that_many_links_lead_to_are_looked_at_once(self, tmp_path: Path):
        with h5py.File(tmp_path / "m.h5", "w") as file:
            group = file.create_group("0")
            for depth in range(1, 60):  # 2^60 paths
                inner = file.create_group(str(depth))
                group["a"] = group["b"] = inner
                group = inner
        with pytest.raises(UnsupportedModel, match=r"weights without a model|too deep"):
            martlet.load(tmp_path / "m.h5")

    def test_weights_of_a_huge_size_are_refused_without_room_for_them(
        self, whole: Path, tmp_path: Path
    ):
        with h5py.File(tmp_path / "w.h5", "w") as file:
            # A dataset that claims 8 TB and holds nothing: its chunks were never written.
            file.create_dataset("w", (1 << 20, 1 << 20), "f8", chunks=(1024, 1024))

        def change(members: dict[str, bytes]) -> None:
            members["model.weights.h5"] = (tmp_path / "w.h5").read_bytes()

        with pytest.raises(UnsupportedModel):
            martlet.load(rewritten(whole, tmp_path / "m.keras", change))

    def test_a_member_that_would_unpack_to_far_more_is_refused(self, whole: Path, tmp_path: Path):
        def change(members: dict[str, bytes]) -> None:
            members["assets/x"] = bytes(256 << 20)

        with pytest.raises(UnsupportedModel, match="unpack"):
            martlet.load(rewritten(whole, tmp_path / "m.keras", change))

    @pytest.mark.parametrize("member", ["config.json", "model.weights.h5"])
    def test_a_pickle_in_a_members_place_is_refused_and_not_opened(
        self, whole: Path, member: str, tmp_path: Path
    ):
        done = tmp_path / "done"

        class Mischief:
            def __reduce__(self) -> Any:
                return os.system, (f"touch {done}",)

        def change(members: dict[str, bytes]) -> None:
            members[member] = pickle.dumps(Mischief())

        path = rewritten(whole, tmp_path / "m.keras", change)
        for trusted in (False, True):
            with pytest.raises(UnsupportedModel):
                martlet.load(path, trusted=trusted)
        assert not done.exists()

    def test_code_anywhere_in_a_config_is_refused(self, whole: Path, tmp_path: Path):
        code = {"class_name": "__lambda__", "config": {"value": "4wEA", "defaults": None}}

        def change(config: Any) -> None:
            layer(config, "hidden")["config"]["activation"] = code

        path = rewritten(whole, tmp_path / "m.keras", lambda members: config_of(members, change))
        with pytest.raises(UnsupportedModel, match="lambda"):
            martlet.load(path)


def exported(folder: Path, function: Callable[[Any], Any]) -> Path:
    module = tf.Module()
    module.f = tf.function(function, input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.f})
    return folder


def _writes(x: Any) -> Any:
    with tf.control_dependencies([tf.io.write_file("/tmp/martlet-mischief", "x")]):
        return {"y": tf.identity(x)}


def _writes_deep_inside(x: Any) -> Any:
    def body(i: Any, y: Any) -> Any:
        return i + 1, tf.cond(i > 0, lambda: _writes(y)["y"], lambda: y)

    return {"y": tf.while_loop(lambda i, _: i < 2, body, (0, x))[1]}


def _reads(x: Any) -> Any:
    return {"y": x, "text": tf.io.read_file("/etc/passwd")}


def _calls_python(x: Any) -> Any:
    return {"y": tf.py_function(lambda v: v * 2, [x], tf.float32)}


def _prints(x: Any) -> Any:
    tf.print(x, output_stream="file:///tmp/martlet-mischief")
    return {"y": tf.identity(x)}


def _lists(x: Any) -> Any:
    rows = tf.data.TextLineDataset("/etc/passwd").reduce(tf.constant(""), tf.add)
    return {"y": x, "text": rows}


def _reads_behind_a_sparse_output(x: Any) -> Any:
    return {"y": tf.sparse.from_dense([tf.io.read_file("/etc/passwd")])}


class TestSavedModel:
    @pytest.mark.parametrize(
        ("function", "operator"),
        [
            (_writes, "WriteFile"),
            (_writes_deep_inside, "WriteFile"),
            (_reads, "ReadFile"),
            (_calls_python, "PyFunc"),
            (_prints, "PrintV2"),
            (_lists, "TextLineDataset"),
            (_reads_behind_a_sparse_output, "ReadFile"),
        ],
    )
    def test_a_graph_that_reaches_outside_is_refused(
        self, function: Any, operator: str, tmp_path: Path
    ):
        path = exported(tmp_path / "m", function)
        with pytest.raises(UnsupportedModel, match=operator):
            martlet.load(path)

    def test_trusted_it_runs(self, tmp_path: Path):
        path = exported(tmp_path / "m", _reads)
        with martlet.load(path, trusted=True) as model:
            assert b"root" in model.predict({"x": np.ones(1, np.float32)})["text"].item()

    def test_damages_are_refused_or_are_still_a_model(self, tmp_path: Path):
        weight = tf.Variable(np.ones(3, np.float32))
        module = tf.Module()
        module.w = weight
        module.f = tf.function(
            lambda x: {"y": x * weight},
            input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")],
        )
        folder = tmp_path / "m"
        tf.saved_model.save(module, str(folder), signatures={"serving_default": module.f})
        assert try_damages(folder / "saved_model.pb", "savedmodel", 30) >= 10

    @pytest.mark.parametrize("part", ["variables.index", "variables.data-00000-of-00001"])
    def test_variables_that_are_cut_or_gone_are_refused(self, part: str, tmp_path: Path):
        module = tf.Module()
        module.w = tf.Variable(np.ones(100, np.float32))
        module.f = tf.function(
            lambda x: {"y": x[0] * module.w},
            input_signature=[tf.TensorSpec([None], tf.float32, "x")],
        )
        tf.saved_model.save(module, str(tmp_path / "m"), signatures=module.f)
        file = tmp_path / "m" / "variables" / part
        file.write_bytes(file.read_bytes()[:20])
        with pytest.raises(UnsupportedModel):
            martlet.load(tmp_path / "m")
        file.unlink()
        with pytest.raises(UnsupportedModel):
            martlet.load(tmp_path / "m")

    def test_a_pickle_in_the_graphs_place_is_refused_and_not_opened(self, tmp_path: Path):
        done = tmp_path / "done"

        class Mischief:
            def __reduce__(self) -> Any:
                return os.system, (f"touch {done}",)

        (tmp_path / "m").mkdir()
        (tmp_path / "m" / "saved_model.pb").write_bytes(pickle.dumps(Mischief()))
        for trusted in (False, True):
            with pytest.raises(UnsupportedModel):
                martlet.load(tmp_path / "m", trusted=trusted)
        assert not done.exists()
        shutil.rmtree(tmp_path / "m")
