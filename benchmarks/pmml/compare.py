"""PMML engines side by side: martlet, the JVM's, pypmml; the native library and ONNX as floors.

python benchmarks/pmml/compare.py FOLDER [--models lightgbm text] [--engines martlet jpmml]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from machine import machine

HERE = Path(__file__).resolve().parent
ENGINES = ["martlet", "jpmml transpiled", "jpmml", "pypmml", "native library", "onnxruntime"]


def run(engine: str, folder: Path, model: str, seconds: float) -> dict[str, float] | None:
    if engine == "onnxruntime" and not (folder / f"{model}.onnx").exists():
        return None
    done = subprocess.run(
        [sys.executable, str(HERE / "engines.py"), engine, str(folder), model, str(seconds)],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    if done.returncode:
        print(f"    {engine}: {done.stderr.strip().splitlines()[-1][:160]}", flush=True)
        return None
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="*")
    parser.add_argument("--engines", nargs="*", default=ENGINES)
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    print(machine())
    known = sorted(path.stem for path in arguments.folder.glob("*.pmml"))
    for model in arguments.models or known:
        size = (arguments.folder / f"{model}.pmml").stat().st_size / 1e6
        print(f"\n{model}, {size:.1f} MB of PMML, 10,000 rows")
        print("    engine               rows/s   record us    load s  load MB   off native")
        for engine in arguments.engines:
            found = run(engine, arguments.folder, model, arguments.seconds)
            if found is not None:
                print(
                    f"    {engine:<16}{found['rows_per_s']:>11,.0f}{found['record_us']:>12.1f}"
                    f"{found['load_s']:>10.2f}{found['load_mb']:>9.0f}{found['off']:>13.1e}"
                    + (f"  {found['unanswered']:.1%} missing" if found["unanswered"] else ""),
                    flush=True,
                )


if __name__ == "__main__":
    main()
