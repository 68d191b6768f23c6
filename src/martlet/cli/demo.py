"""``martlet demo``: the whole job, from ratings to recommendations over HTTP."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from martlet.cli.ask import ask, print_slate
from martlet.cli.output import print_table
from martlet.errors import NotAvailable, ServableFailed

if TYPE_CHECKING:
    from martlet.demo.train import Trained

TABLES = (
    *("users.csv", "items.csv", "user_embeddings.npz", "user_recent.npz", "user_genres.npz"),
    *("item_embeddings.npz", "item_genres.npz", "neighbours.json", "popular.json"),
    *("lists.json", "seen.json"),
)
MODELS = {"ranker": "ranker/model.txt", "light": "light/light.npz"}
CLOSE = 1e-6

console = Console()


@click.command(context_settings={"show_default": True})
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A MovieLens folder (ml-latest-small, ml-100k or ml-1m).  [default: generated data]",
)
@click.option("--users", default=600, help="Users in the generated data.")
@click.option("--items", default=1000, help="Items in the generated data.")
@click.option("--ratings", default=60_000, help="Ratings in the generated data.")
@click.option("--seed", default=0, help="The same seed and sizes generate the same data.")
@click.option(
    "--output",
    "--out",
    "out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("run"),
    help="The folder for the data, files and registry.",
)
@click.option("--rest-port", default=8501, help="The server's HTTP port; another if it is taken.")
@click.option("--workers", type=click.IntRange(1, 256), help="The server's processes.")
@click.option("--once", is_flag=True, help="Stop at the end instead of serving on.")
def demo(
    data: Path | None,
    users: int,
    items: int,
    ratings: int,
    seed: int,
    out: Path,
    rest_port: int,
    workers: int | None,
    once: bool,
) -> None:
    """Do the whole job, from ratings to measured recommendations.

    \b
    Examples:
      martlet demo
      martlet demo --data ~/ml-latest-small
      martlet demo --users 2000 --items 5000 --ratings 300000 --once
    """
    from martlet.demo.generate import Settings

    began = time.perf_counter()
    source = data if data is not None else Settings(users, items, ratings, seed)
    out.mkdir(parents=True, exist_ok=True)
    trained = _train(source, out)
    root = out / "registry"
    _import(trained, root)
    with _serving(root, rest_port, workers) as url:
        _show(trained, url)
        _measure(trained, url)
        console.print(f"\n[dim]all of it took {time.perf_counter() - began:.0f} s[/dim]")
        _invite(trained, url)
        if not once:
            _wait()


def _train(source: Any, out: Path) -> Trained:
    from martlet.demo.prepare import prepare
    from martlet.demo.train import train

    _heading("1. Train, offline, with scipy, scikit-learn and LightGBM")
    with _bars() as progress:
        folder = prepare(source, out / "data", progress)
        trained = train(folder, out / "files", progress=progress)
    console.print(
        f"ordinary files are in [bold]{trained.folder}[/bold]: .npz, .csv, .json, model.txt"
    )
    return trained


@contextmanager
def _bars() -> Iterator[Any]:
    """A bar for each step, as it is heard of."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<11}"),
        BarColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}

        def progress(step: str, done: float) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=1.0)
            bars.update(tasks[step], completed=done)

        yield progress


def _import(trained: Trained, root: Path) -> None:
    _heading("2. Bring them online: every file is registered by a command that you could type")
    generation = uuid4().hex[:8]
    files = {Path(name).stem: trained.folder / name for name in TABLES}
    files |= {name: trained.folder / path for name, path in MODELS.items()}
    declaration = trained.folder / "films.toml"
    declaration.write_text(
        resources.files("martlet.demo").joinpath("films.toml").read_text(encoding="utf-8"),
        encoding="utf-8",
    )
    for name, path in files.items():
        _command("import", path, "--name", name, "--generation", generation, "--root", root)
    _command("import", declaration, "--name", "films", "--label", "stable", "--root", root)


def _command(*words: object) -> None:
    line = [str(word) for word in words]
    _typed(line)
    done = subprocess.run(_martlet(line), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ServableFailed(f"martlet {line[0]} failed: {done.stderr.strip()}")


def _typed(words: Sequence[str]) -> None:
    """Show a command as somebody would type it, unbroken, so that it can be copied."""
    console.print(f"[dim]$[/dim] martlet {shlex.join(words)}", soft_wrap=True, highlight=False)


def _martlet(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "martlet", *words]


@contextmanager
def _serving(root: Path, rest_port: int, workers: int | None) -> Iterator[str]:
    _heading("3. Serve")
    words = ["serve", "--root", str(root), "--rest-port", str(_free(rest_port))]
    words += ["--workers", str(workers)] if workers else []
    _typed(words)
    server = subprocess.Popen(_martlet(words), stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        url = re.search(r"http://\S+", line)
        if url is None:
            raise NotAvailable("the server did not start; what it says is above")
        console.print(line.strip())
        yield url.group()
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def _free(port: int) -> int:
    """Return *port*, or 0 (any) where somebody listens on it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port


def _show(trained: Trained, url: str) -> None:
    _heading("4. Ask for recommendations")
    known = [int(user) for user in _stored(trained, "lists.json")]
    asked: list[int] = [*known[:2], known[len(known) // 2], max(known) + 1]
    for user in asked:
        body = {"user": user, "size": 5}
        # Once to warm up: the first request of a worker fills its caches.
        ask(url, "/v1/recommenders/films:recommend", body)
        started = time.perf_counter()
        reply = ask(url, "/v1/recommenders/films:recommend", body)
        took_ms = (time.perf_counter() - started) * 1000
        who = "somebody new" if user == asked[-1] else f"user {user}"
        reply["versions"] = {k: v for k, v in reply["versions"].items() if k in ("films", "ranker")}
        print_slate(reply, took_ms, title=f"\n{who}")


def _measure(trained: Trained, url: str) -> None:
    """Judge the running server by what users liked later, beside the offline files."""
    from martlet.demo.evaluate import evaluate

    _heading("5. Quality on ratings that came later than all that was learnt from")
    later = {int(k): [int(i) for i in v] for k, v in _stored(trained, "liked_later.json").items()}
    served: dict[int, Any] = {}

    def recommend(user: int) -> list[int]:
        reply = ask(url, "/v1/recommenders/films:recommend", {"user": user, "size": 50})
        served[user] = reply
        return [each["item"] for each in reply["items"]]

    catalogue = sum(1 for _ in (trained.folder / "items.csv").open(encoding="utf-8")) - 1
    with _bars() as progress:
        online = evaluate(recommend, later, catalogue, progress)
    rows = [_row(name, quality, trained.auc.get(name)) for name, quality in trained.quality.items()]
    rows.append(_row("served over HTTP", online, None))
    print_table(["", "#NDCG@10", "#recall@50", "#MRR", "#AUC"], rows)
    ratio = online.ndcg_at_10 / trained.quality["popularity"].ndcg_at_10
    console.print(
        f"{online.users} users judge; the server's NDCG@10 is [bold]{ratio:.2f} times[/bold] that "
        "of the popularity baseline"
    )
    _compare(trained, served)


def _row(name: str, quality: Any, auc: float | None) -> tuple[object, ...]:
    figures = (quality.ndcg_at_10, quality.recall_at_50, quality.mrr)
    return (name, *(f"{x:.4f}" for x in figures), "" if auc is None else f"{auc:.4f}")


def _compare(trained: Trained, served: Mapping[int, Any]) -> None:
    """Show that the server scores as the offline job did with the same files."""
    stored = _stored(trained, "lists.json")
    offline = {(int(user), item): score for user, pairs in stored.items() for item, score in pairs}
    online = {
        (user, each["item"]): each["score"]
        for user, reply in served.items()
        for each in reply["items"]
    }
    both = offline.keys() & online.keys()
    apart = max((abs(offline[pair] - online[pair]) for pair in both), default=0.0)
    verdict = "the same" if apart <= CLOSE else "[red]NOT the same[/red]"
    console.print(
        f"served scores are {verdict} as the offline ones: {len(both)} of {len(online)} pairs are "
        f"in both, and the largest difference is {apart:.1e}"
    )


def _stored(trained: Trained, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((trained.folder / name).read_bytes())
    return found


def _invite(trained: Trained, url: str) -> None:
    user = next(iter(_stored(trained, "lists.json")))
    items = [pair[0] for pair in _stored(trained, "lists.json")[user][:3]]
    rank = json.dumps({"recommender": "films", "user": int(user), "items": items})
    console.print("\n[bold]Try it:[/bold]")
    for line in (
        f'curl {url}/v1/recommenders/films:recommend -d \'{{"user": {user}, "size": 3}}\'',
        f"curl {url}/v1/models/ranker:rank -d '{rank}'",
        f"curl {url}/v1/models/ranker",
    ):
        click.echo(f"  {line}")


def _wait() -> None:
    console.print("\nThe server runs until Ctrl-C.")
    sys.stdout.flush()
    # make, the shell and CI stop it by SIGTERM; a person by Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        signal.pause()
    except KeyboardInterrupt:
        console.print("\nstopping")


def _heading(text: str) -> None:
    console.print(f"\n[bold cyan]{text}[/bold cyan]")
