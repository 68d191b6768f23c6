"""What a call costs for files that nobody here made, beside their own libraries in the same run.

MARTLET_SHARED=FOLDER python benchmarks/formats/real.py [--only xgboost,keras/ncf] [--seconds 0.5]

Every model of FOLDER/models, by rows of its own, repeated to 1, 200 and 10,000, in each form that
it takes; one thread each, by turns. A figure is the processor's time of the best round, so that
what else the machine does counts for little; that of an isolated model is the time on the wall,
since another process computes. martlet's figure includes the check of the inputs. The last column
marks what is over the library by more than 10 us and a twentieth of the library's time.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
sys.path.insert(0, str(ROOT / "tests" / "contracts"))

from machine import machine, turns  # noqa: E402

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
warnings.simplefilter("ignore")

import libraries  # noqa: E402
import numpy as np  # noqa: E402
import real_models  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

import martlet  # noqa: E402

COUNTS = (1, 200, 10_000)
_MOST_BYTES = 16 << 30  # of addresses: a transformer's thousands of rows would take all memory
Given = dict[str, NDArray[Any]]


def models(only: list[str]) -> Iterator[real_models.Real]:
    """Yield each file whose format and name begin as one of *only* does."""
    for kind in libraries.LIBRARIES:
        if not (real_models.ROOT / kind / "index.json").is_file():
            continue
        for parameter in real_models.real_models(kind):
            (real,) = parameter.values
            told = real is not None and (real.folder / "open.inputs.json").is_file()
            wanted = any(f"{kind}/{real}".startswith(each) for each in only)
            if told and wanted and real.entry["id"] not in real_models.REFUSED:
                yield real


def forms(model: martlet.Checked, real: real_models.Real) -> Iterator[tuple[str, Given]]:
    """Yield the entry's rows as its file gives them, then as the other form of the signature."""
    default = model.signatures["serving_default"]
    given = real_models.given_inputs(real, default)
    other = model.signatures[default.also or "serving_default"]
    specs = {**other.inputs, **default.inputs}
    ranks = {name: len(spec.shape) for name, spec in specs.items() if spec.shape is not None}
    if all(value.ndim == ranks.get(name, value.ndim) + 1 for name, value in given.items()):
        given = {name: value[0] for name, value in given.items()}  # cases stacked on an axis
    yield "", given
    if real.entry["format"] == "mlflow":
        return  # its users' rows are data frames, by name
    if other.inputs.keys() == {"X"} and "X" not in given:
        yield " matrix", {"X": libraries.matrix(given).astype(np.float64)}
    elif given.keys() == {"X"} and other.inputs.keys() != {"X"}:
        columns = np.asarray(given["X"], np.float64).T
        yield " columns", {n: c.copy() for n, c in zip(other.inputs, columns, strict=True)}


def repeated(given: Given, count: int) -> Given:
    """Return the rows again and again until there are *count*."""
    return {name: np.resize(value, (count, *value.shape[1:])) for name, value in given.items()}


def lines(only: list[str], seconds: float) -> Iterator[str]:
    yield f"{'model':58}{'rows':>7}{'library us':>12}{'martlet us':>12}{'more':>10}"
    for real in models(only):
        kind = real.entry["format"]
        isolated = kind in ("sklearn", "mlflow") and real.path.suffix != ".skops"
        clock = time.perf_counter if isolated else time.process_time
        with martlet.load(real.path, trusted=True) as model:
            asked = list(forms(model, real))
            try:
                own = libraries.LIBRARIES[kind](real.path)
                own(asked[0][1])()
            except Exception as exc:  # each library has its own errors, and old files they refuse
                yield f"{kind}/{real}: its library refuses it: {str(exc).splitlines()[0]}"
                continue
            for form, given in asked:
                for count in COUNTS:
                    rows = repeated(given, count)
                    calls = [own(rows), partial(model.predict, rows)]
                    try:
                        library, ours = turns(calls, seconds, clock)
                    except Exception as exc:  # of each library, for want of memory
                        yield f"{kind}/{real}{form}{count:7}: {str(exc).splitlines()[0]}"
                        continue
                    more = ours - library
                    label = f"{kind}/{real}{form}{', isolated' if isolated else ''}"
                    over = "  over" if more > max(10, library / 20) else ""
                    yield f"{label:58}{count:7}{library:12.1f}{ours:12.1f}{more:+10.1f}{over}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(libraries.LIBRARIES))
    parser.add_argument("--seconds", type=float, default=0.5, help="for each pair of calls")
    arguments = parser.parse_args()
    if not real_models.ROOT.is_dir():
        sys.exit(f"no models at {real_models.ROOT}: set MARTLET_SHARED to the folder that has them")
    libraries.settle()
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
    print(machine())
    for line in lines(arguments.only.split(","), arguments.seconds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
