"""What bringing a model online gains: the original, its conversion, and each step, side by side.

python benchmarks/bring/compare.py FOLDER [NAME ...]

For each model of models.py: microseconds of one request (one user, its candidates) by the library's
own call (``library``, for SavedModels), as martlet hosts that library (``original``), by the naive
conversion, and by what the steps of ``martlet import`` make of it, timed
by turns in one process with one thread; the largest difference from the original over the
certificate's probes; and what ``martlet import`` chose. A form that is not proved equal stands in
brackets: it is timed, and would not be served.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")  # TensorFlow takes no other once it has run
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

sys.path.insert(0, str(Path(__file__).parents[1]))

import models
import numpy as np
from machine import machine
from rich.console import Console
from rich.table import Table

from martlet import formats
from martlet.convert.asking.rows import Logged
from martlet.convert.bring import Wanted, bring
from martlet.convert.report import Report
from martlet.convert.timing import side_by_side
from martlet.errors import MartletError
from martlet.formats.package.servable import PackageServable
from martlet.servable import DEFAULT_SIGNATURE, check_inputs
from martlet.stores import write_features

FORMS = ("library", "original", "convert", "rewrite", "extract", "split", "cross (pure)", "cross",
         "pair")  # fmt: skip


def opened(model: models.Model, scratch: Path) -> Iterator[tuple[str, Any]]:
    """Open the original and all that bringing it online left in *scratch*."""
    options = formats.LoadOptions()
    yield "original", formats.load(model.path, options)
    if formats.sniff(model.path).name == "savedmodel":
        yield "library", TensorFlowCall(model.path)
    for name, file in (("convert", "converted.onnx"), ("rewrite", "rewritten.onnx")):
        if (scratch / file).exists():
            try:
                yield name, formats.load(scratch / file, options, "onnx")
            except MartletError as exc:
                print(f"{model.name}: {name} does not load: {exc}")
    for name in ("extract", "split", "cross"):
        if (scratch / name / "martlet-package.json").exists():
            yield name, PackageServable(scratch / name, options)
    if (scratch / "pair" / "certificate.json").exists():
        yield "pair", formats.load(scratch / "pair", options)
    if (scratch / "cross" / "martlet-package.json").exists():
        os.environ["MARTLET_NATIVE"] = "0"
        try:
            yield "cross (pure)", PackageServable(scratch / "cross", options)
        finally:
            del os.environ["MARTLET_NATIVE"]


class TensorFlowCall:
    """A SavedModel as TensorFlow's users call it: the loaded signature, with tensors."""

    def __init__(self, path: Path) -> None:
        import tensorflow as tf
        import tf_keras  # noqa: F401  what older files' objects are made of

        self._tensor = tf.constant
        self._model = tf.saved_model.load(str(path))
        self._call = self._model.signatures["serving_default"]

    def predict(self, inputs: models.Arrays, _: str) -> models.Arrays:
        found = self._call(**{name: self._tensor(values) for name, values in inputs.items()})
        return {name: value.numpy() for name, value in found.items()}

    def close(self) -> None:
        """Nothing is held but memory."""


def items_of(model: models.Model, folder: Path) -> Path | None:
    """Write the catalogue as the feature table that a recommender would have of it."""
    if model.catalogue is None:
        return None
    columns = {name: np.asarray(values) for name, values in model.catalogue.items()}
    ids = [n for n, v in columns.items() if v.dtype.kind == "i" and v.size == len(v)]
    keys = columns.pop(ids[0]).reshape(-1) if ids else np.empty(0)
    if not columns or len(set(keys.tolist())) < len(keys) or not len(keys):
        return None  # the id is all that an item is, or the rows are no catalogue
    write_features(folder / "items.table", keys, columns)
    return folder / "items.table"


def measured(model: models.Model, scratch: Path) -> tuple[Report, dict[str, float]]:
    """Bring *model* online in *scratch*, and time every form with its request."""
    rows = Logged({name: np.asarray(values).tolist() for name, values in model.request.items()})
    wanted = Wanted(rows, user_inputs=model.user_inputs, items=items_of(model, scratch))
    report = bring(model.path, formats.sniff(model.path).name, scratch, wanted, lambda _: None)
    with ExitStack() as stack:
        servables = {
            name: stack.enter_context(closing(each)) for name, each in opened(model, scratch)
        }
        called, inputs = check_inputs(servables["original"], DEFAULT_SIGNATURE, model.request)
        calls = {name: partial(each.predict, inputs, called) for name, each in servables.items()}
        return report, side_by_side(calls)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the models are made")
    parser.add_argument("names", nargs="*", help="only those whose name has one of these in it")
    asked = parser.parse_args()
    print(machine())
    asked.folder.mkdir(parents=True, exist_ok=True)
    table = Table(title="microseconds a request, and times as fast as the original")
    for column in ("model", "rows", *FORMS, "off by", "rank", "serves"):
        table.add_column(column, justify="left" if column in ("model", "serves") else "right")
    for model in models.every(asked.folder):
        if asked.names and not any(each in model.name for each in asked.names):
            continue
        with tempfile.TemporaryDirectory(prefix="martlet-") as scratch:
            report, took = measured(model, Path(scratch))
        passed = {
            step.name for step in report.steps if step.certificate and step.certificate.passed
        }
        proved = {"library", "original", *passed}
        cells = [cell(name, took, name.split()[0] in proved) for name in FORMS]
        proofs = [step.certificate for step in report.steps if step.name in passed]
        off = max((c.absolute for p in proofs if p for c in p.comparisons), default=0.0)
        ranks = [c.rank_correlation for p in proofs if p for c in p.comparisons]
        rank = min((each for each in ranks if each is not None), default=1.0)
        count = len(next(iter(model.request.values())))
        serves = report.serves if report.package is None else report.package.name
        table.add_row(model.name, str(count), *cells, f"{off:.1e}", f"{rank:.5f}", serves)
        print(f"{model.name}: {report.why}", flush=True)
    Console(width=200).print(table)


def cell(name: str, took: dict[str, float], proved: bool) -> str:
    """One time, with its ratio; in brackets where it is not proved equal."""
    if name not in took:
        return "-"
    text = f"{took[name]:.0f}"
    if name != "original":
        text += f" ({took['original'] / took[name]:.1f}x)"
    return text if proved else f"[{text}]"


if __name__ == "__main__":
    main()
