"""Writes reference.md from the code, as in ``python docs/write_reference.py``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

import martlet
from martlet import errors, formats
from martlet.cli import EXIT_CODES, main
from martlet.servers.status import HTTP_STATUS

HERE = Path(__file__).parent


def reference() -> str:
    """Return the whole page."""
    return "\n".join([_HEAD, *_commands(), *_python(), *_errors(), *_formats()]) + "\n"


_HEAD = """# Reference

Commands, Python names, errors and formats, as the code has them. The keys of a recommender's
declaration are in [guides/recommender.md](guides/recommender.md).
<!-- Written by docs/write_reference.py -->
"""


def _commands() -> list[str]:
    lines = ["## Commands", ""]
    for name, command, own in commands():
        about, _, examples = inspect.cleandoc(command.help or "").partition("\b\n")
        usage = " ".join([own.command_path, *command.collect_usage_pieces(own)])
        lines += [f"### martlet {name}", "", f"`{usage}`", "", about.strip(), ""]
        examples = examples.replace("Examples:\n", "").rstrip()
        if examples:
            lines += ["```sh", inspect.cleandoc(examples), "```", ""]
        rows = [
            record
            for each in command.params
            if isinstance(each, click.Option) and (record := each.get_help_record(own))
        ]
        if not isinstance(command, click.Group):
            lines += ["| option | what |", "| --- | --- |"]
            lines += [f"| `{_cell(option)}` | {_cell(what)} |" for option, what in rows]
            lines.append("")
    return lines


def commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Give every command, those of groups too, as ``table set``, with its context."""
    yield from _within(main, click.Context(main, info_name="martlet"), "")


def _within(
    group: click.Group, context: click.Context, prefix: str
) -> Iterator[tuple[str, click.Command, click.Context]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        own = click.Context(command, info_name=name, parent=context)
        yield f"{prefix}{name}", command, own
        if isinstance(command, click.Group):
            yield from _within(command, own, f"{prefix}{name} ")


def _python() -> list[str]:
    lines = ["## Python", "", "| name | what |", "| --- | --- |"]
    for name in sorted(martlet.__all__):
        about = inspect.getdoc(getattr(martlet, name)) or ""
        lines.append(f"| `martlet.{name}` | {_cell(about.split(chr(10) * 2)[0])} |")
    return [*lines, ""]


def _errors() -> list[str]:
    lines = [
        "## Errors",
        "",
        "| class | what | code | HTTP | exit |",
        "| --- | --- | --- | --- | --- |",
    ]
    for found in [errors.MartletError, *errors.MartletError.__subclasses__()]:
        about = _cell((inspect.getdoc(found) or "").split("\n\n")[0])
        lines.append(
            f"| `{found.__name__}` | {about} | `{found.code.value}` | {HTTP_STATUS[found.code]} "
            f"| {EXIT_CODES.get(found.code, 1)} |"
        )
    return [*lines, "", "A command that is done exits with 0.", ""]


def _formats() -> list[str]:
    lines = ["## Formats", "", "| format | extra |", "| --- | --- |"]
    for name in formats.BUILTIN:
        extra = formats._format(name).extra
        lines.append(f"| `{name}` | {f'`martlet[{extra}]`' if extra else ''} |")
    return lines


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().replace("|", "\\|")


if __name__ == "__main__":
    (HERE / "reference.md").write_text(reference(), encoding="utf-8")
