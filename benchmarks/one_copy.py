"""What workers hold of memory together once each has read all of a large table: one copy, or many.

python benchmarks/one_copy.py [--megabytes 1024] [--workers 4]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import urllib.request
from pathlib import Path

import numpy as np
from load import server
from machine import machine

from martlet.stores import write_embeddings

PORT = 18799
URL = f"http://127.0.0.1:{PORT}"


def proportional_mb(pids: list[int]) -> float:
    """Return what *pids* hold of memory together, what they share counted once (Pss)."""
    texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    return sum(int(text.split("Pss:")[1].split()[0]) for text in texts) / 1024


def memory(megabytes: int, workers: int) -> None:
    """Print what *workers* hold once each has read all of a table of *megabytes*."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = (megabytes << 20) // 256
        vectors = np.random.default_rng(0).standard_normal((rows, 64), dtype=np.float32)
        write_embeddings(folder / "items.table", np.arange(rows), vectors)
        write_embeddings(folder / "users.table", [0], np.ones((1, 64)))
        (folder / "r.toml").write_text(
            '[recommender]\n[tables]\nusers = "users.table"\nitems = "items.table"\n'
            '[[candidates]]\nfrom = "neighbours"\nquery = "users"\nitems = "items"\n'
        )
        del vectors
        command = [sys.executable, "-m", "martlet", "serve", f"--workers={workers}",
                   f"--rest-port={PORT}", "--recommender", f"r={folder / 'r.toml'}"]  # fmt: skip
        with server(command, f"{URL}/v1/recommenders") as pid:
            children = Path(f"/proc/{pid}/task/{pid}/children")
            pids = list(map(int, children.read_text().split()))
            before = proportional_mb(pids)
            whole: set[int] = set()
            while len(whole) < workers:
                request = urllib.request.Request(
                    f"{URL}/v1/recommenders/r:recommend", b'{"unit": 0}'
                )
                urllib.request.urlopen(request).read()
                for each in pids:
                    text = Path(f"/proc/{each}/smaps_rollup").read_text()
                    if int(text.split("Rss:")[1].split()[0]) > megabytes << 10:
                        whole.add(each)
            after = proportional_mb(pids)
        print(f"\n{workers} workers and a table of {megabytes} MB: {before:.0f} MB together "
              f"before it was read, {after:.0f} after, where copies would take "
              f"{before + workers * megabytes:.0f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1024, help="of the table")
    parser.add_argument("--workers", type=int, default=4)
    options = parser.parse_args()
    print(machine())
    memory(options.megabytes, options.workers)


if __name__ == "__main__":
    main()
