"""Damaged and hostile files: refused by name, in bounded memory, with nothing run.

A native reader that follows a damaged index ends the process, so each model's damages are tried
in one process of its own: that it ends well is part of the contract.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from trained_models import CASES, Case

import martlet
from martlet.errors import UnsupportedModel

pytestmark = pytest.mark.filterwarnings("ignore")

BY_NAME = {str(case): case for case in CASES}
NAMES = [
    *("lightgbm binary", "lightgbm multiclass", "lightgbm categories", "lightgbm linear trees"),
    *("xgboost binary:logistic json", "xgboost binary:logistic ubj", "xgboost multi:softprob ubj"),
    *("catboost binary", "catboost multiclass", "catboost binary json"),
    *("sklearn pipeline", "onnx linear"),
    *("sklearn GradientBoostingClassifier", "sklearn KNeighborsClassifier"),
    *("xgboost vector leaves", "xgboost linear"),
]

# Try every damage of a file, in its place, and say what came of it. Only a MartletError may come.
SCRIPT = """
import random, resource, sys, warnings
from pathlib import Path
import numpy as np
import martlet
from martlet.errors import MartletError

warnings.simplefilter("ignore")
path, kind, cases = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
whole = path.read_bytes()
martlet.load(path, format=kind).close()
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
refused = answered = 0
for case in range(cases):
    dice = random.Random(case)
    content = bytearray(whole)
    if case % 3 == 0:
        content = content[: dice.randrange(len(content))]
    else:
        for _ in range(dice.choice([1, 1, 4, 16])):
            # As often in the head, where the structure is, as anywhere.
            end = len(content) if case % 2 else min(len(content), 2000)
            content[dice.randrange(end)] ^= 1 << dice.randrange(8)
    path.write_bytes(content)
    try:
        with martlet.load(path, format=kind) as model:
            inputs = model.signatures["serving_default"].inputs.values()
            model.predict({
                s.name: np.zeros([3 if d == -1 else d for d in s.shape or (3,)], s.dtype.numpy)
                for s in inputs if s.dtype.value != "string"
            })
        answered += 1
    except MartletError:
        refused += 1
print("refused", refused, "answered", answered, flush=True)
"""


def try_damages(path: Path, kind: str, cases: int) -> int:
    """How many damages were refused; fails where one ended or confused the process."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path), kind, str(cases)],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    told = done.stdout.strip().splitlines()
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr[-1500:]}"
    return int(told[-1].split()[1])


@pytest.mark.parametrize("name", NAMES)
def test_a_truncated_or_flipped_file_is_refused_or_is_still_a_model(name: str, tmp_path: Path):
    case: Case = BY_NAME[name]
    trained = case.make(tmp_path)
    assert try_damages(trained.path, case.format, 60) >= 20  # at least what was cut short


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path):
    path = tmp_path / "m.skops"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b"[" * (64 << 20))
    with pytest.raises(UnsupportedModel, match="unpack"):
        martlet.load(path)


def test_an_array_that_claims_more_than_there_is_room_for_is_refused(tmp_path: Path):
    import numpy as np

    told = {"descr": "<f4", "fortran_order": False, "shape": (1 << 30, 1 << 30)}
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        for name in ("w0.npy", "b0.npy"):
            with archive.open(name, "w") as file:
                np.lib.format.write_array_header_1_0(file, told)
    with pytest.raises(UnsupportedModel, match="room"):
        martlet.load(tmp_path / "m.npz")


@pytest.mark.parametrize("name", ["../m.npy", "/etc/m.npy", "..\\m.npy"])
@pytest.mark.parametrize(
    ("format", "member"),
    [
        ("sklearn", "schema.json"),
        ("torchscript", "m/code/__torch__.py"),
        ("torch_export", "m/archive_format"),
        ("keras", "config.json"),
    ],
)
def test_an_archive_that_reaches_outside_is_refused(
    name: str, format: str, member: str, tmp_path: Path
):
    path = tmp_path / "m.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for each in (member, "m/constants.pkl", "metadata.json", "model.weights.h5", name):
            archive.writestr(each, b"{}")
    with pytest.raises(UnsupportedModel, match="outside"):
        martlet.load(path, format=format)


@pytest.mark.parametrize(
    ("format", "content"),
    [
        ("xgboost", b'{"learner":' + b"[" * 100_000),
        ("xgboost", b"{L" + bytes(7) + b"\x07learner" + b"[" * 100_000),
        ("catboost", b'{"model_info":' + b"[" * 100_000),
        ("keras", b"\x89HDF\r\n\x1a\n" + b"\0" * 100),
        ("tflite", b"\x1c\0\0\0TFL3" + b"\xff" * 100),
        ("onnx", b"\x08\x08\x3a" + b"\x0a" * 100_000),
        ("lightgbm", b"tree\nnum_class=1\nmax_feature_idx=2000000000\nfeature_names=a\n"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_deep_nesting_and_huge_sizes_are_refused(format: str, content: bytes, tmp_path: Path):
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(UnsupportedModel):
        martlet.load(tmp_path / "m", format=format)


@pytest.mark.parametrize(("at", "value"), [(6, 255), (8, 1), (10, 99)], ids=str)
@pytest.mark.parametrize("format", ["arrays", "sklearn", "keras", "torchscript", "torch_export"])
def test_a_zip_of_another_version_encrypted_or_packed_otherwise_is_refused(
    format: str, at: int, value: int, tmp_path: Path
):
    path = tmp_path / "m.zip"
    names = ("schema.json", "w0.npy", "m/code/__torch__.py", "m/constants.pkl", "config.json")
    with zipfile.ZipFile(path, "w") as archive:
        for name in (*names, "metadata.json", "model.weights.h5", "m/archive_format"):
            archive.writestr(name, b"{}")
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\1\2")  # the first of the central directory
    content[entry + at] = value
    path.write_bytes(content)
    with pytest.raises(UnsupportedModel):
        martlet.load(path, format=format)


@pytest.mark.parametrize("grow", ["SymmetricTree", "Lossguide"])
def test_a_catboost_tree_that_reaches_outside_the_model_is_refused(grow: str, tmp_path: Path):
    import struct

    import catboost
    import numpy as np

    rows = np.arange(80.0).reshape(-1, 2)
    model = catboost.CatBoost(
        {"iterations": 2, "depth": 3, "grow_policy": grow, "verbose": False}
        | {"allow_writing_files": False}
    ).fit(rows, rows[:, 0])
    model.save_model(tmp_path / "m")
    martlet.load(tmp_path / "m").close()
    whole = (tmp_path / "m").read_bytes()
    sizes = [3, 3] if grow == "SymmetricTree" else None
    if sizes is None:
        from martlet.formats.catboost.file import trees_of

        sizes = trees_of(whole).array(2, "<i4").tolist()
    at = whole.index(struct.pack("<3i", 2, *sizes)) + 4  # TreeSizes, after how many they are
    for wrong in (sizes[0] + 8192, -1, 2**31 - 1):
        (tmp_path / "m").write_bytes(whole[:at] + struct.pack("<i", wrong) + whole[at + 4 :])
        with pytest.raises(UnsupportedModel, match="trees"):
            martlet.load(tmp_path / "m")


def test_a_linear_leaf_of_a_feature_that_is_not_there_is_refused(tmp_path: Path):
    trained = BY_NAME["lightgbm linear trees"].make(tmp_path)
    text = trained.path.read_text()
    at = text.index("leaf_features=") + len("leaf_features=")
    (tmp_path / "far").write_text(text[:at] + "99999999" + text[at + 1 :])
    with pytest.raises(UnsupportedModel, match="linear"):
        martlet.load(tmp_path / "far")


def test_a_tree_that_walks_in_a_circle_is_refused(tmp_path: Path):
    trained = BY_NAME["lightgbm binary"].make(tmp_path)
    text = trained.path.read_text()
    at = text.index("left_child=") + len("left_child=")
    (tmp_path / "circle").write_text(text[:at] + "0" + text[text.index(" ", at) :])
    with pytest.raises(UnsupportedModel, match="tree 0"):
        martlet.load(tmp_path / "circle")


def test_skops_with_a_type_that_is_not_known_is_refused(tmp_path: Path):
    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    skops.io.dump(FunctionTransformer(os.system), tmp_path / "m.skops")
    with pytest.raises(UnsupportedModel, match="system"):
        martlet.load(tmp_path / "m.skops")


def test_a_tree_of_skops_that_points_outside_is_refused(tmp_path: Path):
    import io

    import numpy as np
    import skops.io
    from sklearn.tree import DecisionTreeRegressor

    trained = DecisionTreeRegressor(max_depth=2).fit(np.arange(8.0).reshape(-1, 1), np.arange(8))
    skops.io.dump(trained, tmp_path / "m.skops")
    with zipfile.ZipFile(tmp_path / "m.skops") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name, content in members.items():
        if name.endswith(".npy"):
            array = np.load(io.BytesIO(content))
            if array.dtype.names and "left_child" in array.dtype.names:
                array["left_child"][0] = 1_000_000
                out = io.BytesIO()
                np.save(out, array)
                members[name] = out.getvalue()
    with zipfile.ZipFile(tmp_path / "m.skops", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(UnsupportedModel, match="tree"):
        martlet.load(tmp_path / "m.skops")
