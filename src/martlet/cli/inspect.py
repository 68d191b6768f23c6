"""``martlet inspect``: what a file is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from martlet.cli.options import format_option, json_option, model_path, trusted_option
from martlet.cli.output import print_json, print_table, print_tree

if TYPE_CHECKING:
    from martlet.servable import Servable
    from martlet.tensors import Spec


@click.command()
@click.argument("path", type=model_path)
@format_option
@trusted_option
@json_option
def inspect(path: Path, format_: str | None, trusted: bool, as_json: bool) -> None:
    """Show the inputs and outputs of a model.

    \b
    Examples:
      martlet inspect model.pmml
      martlet inspect model.onnx --json
    """
    from martlet import formats
    from martlet.formats.package.paired import Paired

    name = format_ or formats.sniff(path).name
    servable = formats.load(path, formats.LoadOptions(trusted=trusted), name)
    if isinstance(servable, Paired):
        servable = servable.original  # the same signatures, and it can describe itself
    about = _about(servable)
    if as_json:
        print_json(
            {"path": str(path), "format": name, "signatures": _signatures(servable), **about}
        )
        return
    click.secho(f"{path}: {name}", bold=True)
    for called, signature in servable.signatures.items():
        rows = [("input", *_row(spec)) for spec in signature.inputs.values()]
        rows += [("output", *_row(spec)) for spec in signature.outputs.values()]
        print_table(
            ["", "name", "dtype", "shape", "about"], rows, title=f"\n{called}", wraps="about"
        )
    told = getattr(servable, "outline", None)
    if told is not None:
        click.echo()
        print_tree(told())
        return
    for key, value in about.items():
        _print_about(key, value)


def _about(servable: Servable) -> dict[str, Any]:
    describe: Callable[[], dict[str, Any]] | None = getattr(servable, "describe", None)
    return describe() if describe is not None else {}


def _print_about(key: str, value: Any) -> None:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        columns = list(dict.fromkeys(name for row in value for name in row))
        rows = [[row.get(name) for name in columns] for row in value]
        print_table(columns, rows, title=f"\n{key}")
    else:
        click.echo(f"\n{key}: {value}")


def _row(spec: Spec) -> tuple[str, str, str, str]:
    shape = "any" if spec.shape is None else str(list(spec.shape))
    marks = [] if spec.required else ["optional"]
    marks += ["may be missing"] if spec.nullable else []
    return (
        spec.name,
        spec.dtype.value,
        shape,
        "; ".join([*marks, *filter(None, [spec.description])]),
    )


def _signatures(servable: Servable) -> dict[str, Any]:
    return {
        name: {
            "inputs": [spec.to_json() for spec in signature.inputs.values()],
            "outputs": [spec.to_json() for spec in signature.outputs.values()],
        }
        for name, signature in servable.signatures.items()
    }
