"""Damaged files of the formats that martlet reads itself: refused, or still a model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import martlet
from martlet.errors import UnsupportedModel

SPARK = Path(__file__).parents[1] / "fixtures" / "spark"

# Damage one file of a model at a time, in its place. Only a MartletError may come of it, within
# 4 GiB: the process ends otherwise, and the test with it.
SCRIPT = """
import random, resource, shutil, sys, warnings
from pathlib import Path
import numpy as np
import martlet
from martlet.errors import MartletError

warnings.simplefilter("ignore")
path, kind, cases = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
files = sorted(each for each in path.rglob("*") if each.is_file()) or [path]
whole = {file: file.read_bytes() for file in files}


def sample(spec):
    shape = [3 if size == -1 else size for size in spec.shape or (3,)]
    if spec.dtype.value == "string":
        return np.full(shape, "a", object)
    return np.zeros(shape, spec.dtype.numpy)


def tried():
    with martlet.load(path, format=kind) as model:
        for name, signature in model.signatures.items():
            model.predict({spec.name: sample(spec) for spec in signature.inputs.values()}, name)


martlet.load(path, format=kind).close()
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
refused = 0
for case in range(cases):
    dice = random.Random(case)
    file = dice.choice(files)
    content = bytearray(whole[file])
    if case % 3 == 0:
        content = content[: dice.randrange(len(content))]
    else:
        for _ in range(dice.choice([1, 1, 4, 16])):
            content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    file.write_bytes(content)
    try:
        tried()
    except MartletError:
        refused += 1
    file.write_bytes(whole[file])
print("refused", refused, flush=True)
"""

TREE = {
    "type": "record",
    "name": "Node",
    "fields": [
        {"name": "field", "type": {"type": "enum", "name": "Field", "symbols": ["x", "y"]}},
        {"name": "operator", "type": "string"},
        {"name": "value", "type": "double"},
        {"name": "pass", "type": ["Node", "string"]},
        {"name": "fail", "type": ["Node", "string"]},
    ],
}
NODE = {
    "field": "x",
    "operator": "<",
    "value": 0.5,
    "pass": {"string": "low"},
    "fail": {
        "Node": {
            "field": "y",
            "operator": ">",
            "value": 1.5,
            "pass": {"string": "high"},
            "fail": {"string": "middle"},
        }
    },
}
PFA = {
    "input": {
        "type": "record",
        "name": "Row",
        "fields": [{"name": "x", "type": "double"}, {"name": "y", "type": "double"}],
    },
    "output": "string",
    "cells": {"tree": {"type": TREE, "init": NODE}},
    "action": {"model.tree.simpleTree": ["input", {"cell": "tree"}]},
}


def refusals(path: Path, kind: str, cases: int) -> int:
    """How many damages were refused; fails where one ended or confused the process."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path), kind, str(cases)], capture_output=True, text=True
    )
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr[-1500:]}"
    return int(done.stdout.split()[-1])


@pytest.mark.parametrize("name", ["ctr", "boost_reg", "als", "text_counts", "perceptron"])
def test_a_spark_folder(name: str, tmp_path: Path):
    pytest.importorskip("pyarrow", reason="the extra martlet[spark] is not installed")
    shutil.copytree(SPARK / name / "model", tmp_path / "m")
    assert refusals(tmp_path / "m", "spark", 40) >= 15


def test_an_mlflow_folder(tmp_path: Path):
    lightgbm = pytest.importorskip("lightgbm")
    pytest.importorskip("yaml")
    rows = np.arange(90.0).reshape(-1, 3)
    folder = tmp_path / "m"
    folder.mkdir()
    lightgbm.train({"verbose": -1}, lightgbm.Dataset(rows, rows[:, 0]), 3).save_model(
        folder / "model.lgb"
    )
    (folder / "MLmodel").write_text(
        "flavors:\n  lightgbm: {data: model.lgb, lgb_version: 4.0.0}\n"
        'signature:\n  inputs: \'[{"name": "a", "type": "double"}]\'\n'
        "saved_input_example_info: {artifact_path: input_example.json}\n"
    )
    assert refusals(folder, "mlflow", 60) >= 15


@pytest.mark.parametrize("name", ["ctr", "boost_class", "als"])
def test_every_byte_of_a_parquet_footer(name: str, tmp_path: Path):
    """Arrow ends the process where it looks at a column that is described wrongly."""
    pytest.importorskip("pyarrow", reason="the extra martlet[spark] is not installed")
    shutil.copytree(SPARK / name / "model", tmp_path / "m")
    part = next(p for p in sorted((tmp_path / "m").rglob("*.parquet")) if p.stat().st_size < 4096)
    script = FOOTER.replace("PART", repr(str(part)))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr[-1500:]}"
    assert int(done.stdout) > 100


def test_a_column_of_one_value_that_unpacks_to_gigabytes_is_refused(tmp_path: Path):
    pytest.importorskip("pyarrow", reason="the extra martlet[spark] is not installed")
    import pyarrow
    from pyarrow import parquet

    shutil.copytree(SPARK / "als" / "model", tmp_path / "m")
    part = next((tmp_path / "m" / "userFactors").glob("*.parquet"))
    schema = parquet.read_table(part).schema
    count = 1 << 20
    batch = pyarrow.table(
        {
            "id": np.zeros(count, np.int32),
            "features": pyarrow.FixedSizeListArray.from_arrays(np.zeros(20 * count, np.float32), 20)
            .cast(schema.field("features").type),
        },
        schema=schema,
    )  # fmt: skip
    parquet.write_table(batch, part, compression="zstd")
    assert part.stat().st_size < 1 << 17
    with pytest.raises(UnsupportedModel, match="past the limits"):
        martlet.load(tmp_path / "m")


# Bits of every byte of a footer turned, one at a time: only what is refused, or still reads.
FOOTER = """
from pathlib import Path
from martlet.errors import UnsupportedModel
from martlet.formats.spark.disk import read_parquet

part = Path(PART)
whole = part.read_bytes()
start = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
refused = 0
for at in range(start, len(whole)):
    for bit in (at % 8, (at + 3) % 8):
        content = bytearray(whole)
        content[at] ^= 1 << bit
        part.write_bytes(content)
        try:
            read_parquet(part.parent)
        except UnsupportedModel:
            refused += 1
print(refused)
"""


@pytest.mark.shared
@pytest.mark.parametrize("name", ["airbnb_lr", "demo"])
def test_an_mleap_bundle(name: str, shared: Path, tmp_path: Path):
    shutil.copyfile(shared / "models" / "mleap" / name / "model.zip", tmp_path / "m.zip")
    assert refusals(tmp_path / "m.zip", "mleap", 40) >= 15


def test_a_pfa_document(tmp_path: Path):
    (tmp_path / "m.pfa").write_text(json.dumps(PFA))
    assert refusals(tmp_path / "m.pfa", "pfa", 60) >= 20
