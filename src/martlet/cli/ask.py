"""``martlet predict``, ``rank`` and ``recommend``: ask a running server, or a file at once."""

from __future__ import annotations

import contextlib
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import click
import orjson

from martlet.cli.options import json_option, trusted_option
from martlet.cli.output import print_json, print_table
from martlet.errors import (
    DeadlineExceeded,
    InvalidInput,
    MartletError,
    ModelNotFound,
    NotAvailable,
    Overloaded,
    ServableFailed,
)

URL = "http://127.0.0.1:8501"

_ERRORS: dict[int, type[MartletError]] = {
    404: ModelNotFound,
    429: Overloaded,
    503: NotAvailable,
    504: DeadlineExceeded,
}

server_option = click.option(
    "--server", default=URL, envvar="MARTLET_SERVER", show_default=True, help="The server's URL."
)


def ask(server: str, path: str, body: object) -> Any:
    """
    Post *body* as JSON and return the JSON that comes back.

    Raises:
        MartletError: what the server answered, or that it cannot be reached.
    """
    if "://" not in server:
        server = f"http://{server}"
    request = urllib.request.Request(
        server.rstrip("/") + path,
        data=body if isinstance(body, bytes) else orjson.dumps(body),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            # Not orjson: NaN and the infinities come as bare tokens.
            return json.loads(response.read())
    except urllib.error.HTTPError as exc:
        text = exc.read().decode(errors="replace")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            text = json.loads(text)["error"]
        kind = _ERRORS.get(exc.code, InvalidInput if exc.code < 500 else ServableFailed)
        raise kind(text) from None
    except (urllib.error.URLError, OSError) as exc:
        reason = getattr(exc, "reason", exc)
        raise NotAvailable(
            f"no server answers at {server} ({reason}); start one with 'martlet serve', or name "
            "another with --server"
        ) from None


def _read(data: str) -> bytes:
    """Return JSON as given, from ``@file``, or from ``-``: standard input."""
    if data == "-":
        return sys.stdin.buffer.read()
    if data.startswith("@"):
        try:
            return Path(data[1:]).read_bytes()
        except OSError as exc:
            raise ModelNotFound(f"{data[1:]} cannot be read: {exc.strerror}") from None
    return data.encode()


@click.command()
@click.argument("model")
@click.argument("data")
@server_option
@click.option(
    "--signature", default="serving_default", show_default=True, help="The signature to call."
)
@trusted_option
def predict(model: str, data: str, server: str, signature: str, trusted: bool) -> None:
    """Predict with a model file, or with a model on a running server.

    MODEL is a file or folder; where there is none, the name of a model on the server. DATA is
    TensorFlow Serving's JSON ('instances' or 'inputs'), @FILE, or - for standard input.

    \b
    Examples:
      martlet predict ctr '{"instances": [{"user": 1, "item": 7}]}'
      martlet predict ./model.txt '{"inputs": {"X": [[0.5, 1.5]]}}'
      cat rows.json | martlet predict ctr@stable - --server http://10.0.0.5:8501
    """
    body = _read(data)
    if Path(model).exists():
        print_json(_predict_file(Path(model), body, signature, trusted))
        return
    if signature != "serving_default":
        from martlet.wire.tfserving.requests import parse_object

        # Not orjson: it writes NaN and the infinities as null.
        body = json.dumps({**parse_object(body), "signature_name": signature}).encode()
    print_json(ask(server, f"/v1/models/{_path(model)}:predict", body))


def _predict_file(path: Path, body: bytes, signature_name: str, trusted: bool) -> Any:
    import martlet
    from martlet.servable import form_of, signature_of
    from martlet.wire.tfserving import requests, responses

    with martlet.load(path, trusted=trusted) as servable:
        document = requests.parse_object(body)
        signature_of(servable, signature_name)
        called = form_of(servable, signature_name, requests.names_of(document))
        decoder = requests.PredictDecoder(servable.signatures[called], signature_name)
        inputs, by_row = decoder.decode(document)
        outputs = servable.predict(inputs, called)
    reply = responses.predictions(outputs) if by_row else responses.outputs(outputs)
    return json.loads(reply)


@click.command()
@click.argument("model")
@click.argument("data")
@server_option
@json_option
def rank(model: str, data: str, server: str, as_json: bool) -> None:
    """Score many items for one user, on a running server.

    DATA is JSON, @FILE, or - for standard input. Either 'context' holds what all items share, and
    'items' a column for each other input; or 'recommender' names a recommender that joins the
    features, and 'items' lists the items' keys.

    \b
    Examples:
      martlet rank ctr '{"context": {"user": 1}, "items": {"item": [7, 8, 9]}}'
      martlet rank ranker '{"recommender": "films", "user": 42, "items": [318, 50]}'
    """
    body = _read(data)
    reply = ask(server, f"/v1/models/{_path(model)}:rank", body)
    if as_json:
        print_json(reply)
        return
    order = sorted(range(len(reply["scores"])), key=lambda i: -(reply["scores"][i] or 0.0))
    rows = [(place, i, f"{reply['scores'][i]:.6g}") for place, i in enumerate(order, 1)]
    print_table(["#", "#row", "#score"], rows, title=f"{reply['model']}@{reply['version']}")


@click.command()
@click.argument("recommender")
@click.option("--user", "unit", help="The user's key.")
@click.option("--text-key", is_flag=True, help="The key is text, even if it looks like a number.")
@click.option("--size", type=click.IntRange(1), help="How many items to recommend.")
@click.option("--context", metavar="JSON", default="{}", help="Values for the model's inputs.")
@click.option(
    "--history", metavar="ITEMS", help="Items seen, instead of the stored ones: 318,50,7."
)
@server_option
@json_option
def recommend(
    recommender: str,
    unit: str | None,
    text_key: bool,
    size: int | None,
    context: str,
    history: str | None,
    server: str,
    as_json: bool,
) -> None:
    """Ask a recommender on a running server for recommendations.

    \b
    Examples:
      martlet recommend films --user 42 --size 5
      martlet recommend films --history 318,50 --json
    """
    body: dict[str, Any] = {"context": _context(context)}
    if unit is not None:
        body["unit"] = _key(unit, text_key)
    if size is not None:
        body["size"] = size
    if history is not None:
        body["history"] = [_key(each.strip(), text_key) for each in history.split(",")]
    started = time.perf_counter()
    reply = ask(server, f"/v1/recommenders/{_path(recommender)}:recommend", body)
    took_ms = (time.perf_counter() - started) * 1000
    if as_json:
        print_json(reply)
        return
    print_slate(reply, took_ms)


def print_slate(reply: dict[str, Any], took_ms: float, title: str = "") -> None:
    """Print one slate as a table, with what answered and how long it took."""
    columns = list(reply["items"][0]) if reply["items"] else []
    shown = ["item", *(c for c in columns if c not in ("item", "score", "source"))]
    rows = [
        (place, *(each[c] for c in shown), _score(each["score"]), each["source"])
        for place, each in enumerate(reply["items"], 1)
    ]
    versions = ", ".join(f"{name}@{version}" for name, version in reply["versions"].items())
    print_table(["#", *shown, "#score", "source"], rows, title=title)
    click.secho(
        f"answered by {reply['answered_by']} in {took_ms:.1f} ms, with {versions}", dim=True
    )


def _score(score: float | None) -> str:
    return "" if score is None else f"{score:.4f}"


def _context(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as exc:
        raise InvalidInput(f"--context is not JSON: {exc}") from None


def _key(text: str, is_text: bool) -> int | str:
    return int(text) if not is_text and text.lstrip("-").isdigit() else text


def _path(reference: str) -> str:
    """Return ``ctr``, ``ctr@3`` or ``ctr@stable`` as a path of the API."""
    from martlet.names import ModelRef

    ref = ModelRef.parse(reference)
    name = urllib.parse.quote(ref.name)
    if ref.version is not None:
        return f"{name}/versions/{ref.version}"
    return f"{name}/labels/{ref.label}" if ref.label is not None else name
