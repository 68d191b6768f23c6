"""Models that MLflow's server, or its database, keeps: fetched by MLflow's own client."""

from __future__ import annotations

import subprocess
import sys
from os import PathLike
from pathlib import Path

from martlet.errors import MartletError, MissingExtra, UnsupportedModel

_SCHEMES = ("models:/", "runs:/")


def is_kept(path: str | PathLike[str]) -> bool:
    """Return whether *path* is a name that MLflow resolves rather than a place here."""
    return str(path).startswith(_SCHEMES)


def fetch(uri: str) -> Path:
    """
    Return the local folder of ``models:/name@alias``, ``models:/name/3`` or ``runs:/id/path``.

    Asks the MLflow server that MLFLOW_TRACKING_URI or MLFLOW_REGISTRY_URI names.

    Raises:
        MissingExtra: the MLflow client is not installed.
        UnsupportedModel: the server has no such model, or does not answer.
    """
    try:
        import mlflow.artifacts
    except ModuleNotFoundError as exc:
        raise MissingExtra(f"the model {uri}", "mlflow") from exc
    try:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri))
    except Exception as exc:  # of mlflow, requests and the store behind it
        raise UnsupportedModel(f"MLflow does not give {uri}: {exc}") from exc


def fetch_apart(uri: str) -> Path:
    """
    Return what `fetch` does, asked in a process of its own.

    MLflow's client brings its libraries and leaves threads: a server that forks its workers does
    without them.

    Raises:
        UnsupportedModel: MLflow, or its client, does not give it.
    """
    asked = subprocess.run(
        [sys.executable, "-m", __name__, uri], capture_output=True, text=True, check=False
    )
    if asked.returncode:
        said = asked.stderr.strip().rpartition("\n")[2]
        raise UnsupportedModel(said or f"MLflow does not give {uri}: it ended without a word")
    return Path(asked.stdout.rstrip("\n").rpartition("\n")[2])


if __name__ == "__main__":
    try:
        print(fetch(sys.argv[1]))
    except MartletError as exc:
        sys.exit(str(exc).replace("\n", " "))
