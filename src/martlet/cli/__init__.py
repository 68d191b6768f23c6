"""The command ``martlet``: one file a noun; each loads what it needs when it runs."""

from __future__ import annotations

import importlib
import os
import sys

import click

from martlet.errors import Code, MartletError

SECTIONS: dict[str, dict[str, str]] = {
    "Bring a model online": {
        "import": "martlet.cli.bring:import_",
        "report": "martlet.cli.bring:report",
        "inspect": "martlet.cli.inspect:inspect",
        "audit": "martlet.cli.compare:audit",
        "convert": "martlet.cli.compare:convert",
        "compare": "martlet.cli.compare:compare",
        "shrink": "martlet.cli.shrink:shrink",
    },
    "Manage versions": {
        "models": "martlet.cli.registry:models",
        "label": "martlet.cli.registry:label",
        "retire": "martlet.cli.registry:retire",
        "delete": "martlet.cli.registry:delete",
        "table": "martlet.cli.table:table",
    },
    "Serve and ask": {
        "serve": "martlet.cli.serve:serve",
        "predict": "martlet.cli.ask:predict",
        "rank": "martlet.cli.ask:rank",
        "recommend": "martlet.cli.ask:recommend",
        "demo": "martlet.cli.demo:demo",
    },
}
"""Where each command is, under the headings that ``martlet --help`` shows."""

COMMANDS = {name: where for section in SECTIONS.values() for name, where in section.items()}

EXIT_CODES: dict[Code, int] = {
    Code.INVALID_ARGUMENT: 2,
    Code.NOT_FOUND: 3,
    Code.ALREADY_EXISTS: 4,
    Code.FAILED_PRECONDITION: 5,
    Code.UNAVAILABLE: 6,
    Code.DEADLINE_EXCEEDED: 7,
    Code.RESOURCE_EXHAUSTED: 8,
}


class Commands(click.Group):
    """Imports a command when it is called; an error of ours becomes a sentence and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, names in SECTIONS.items():
            limit = formatter.width - 6 - max(map(len, COMMANDS))
            found = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(heading):
                formatter.write_dl(
                    [(name, each.get_short_help_str(limit)) for name, each in found if each]
                )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except MartletError as exc:
            click.secho("martlet: ", fg="red", nl=False, err=True)
            click.echo(str(exc), err=True)
            ctx.exit(EXIT_CODES.get(exc.code, 1))
        except BrokenPipeError:
            # The reader of a pipe has gone (``martlet models | head``): no error.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 failed, 2 wrong input, 3 not found, 4 already exists, "
    "5 unsupported file or missing extra, 6 unavailable, 7 deadline exceeded, 8 overloaded.",
)
@click.version_option(package_name="martlet", prog_name="martlet")
def main() -> None:
    """Bring a model that was trained offline online.

    \b
    Examples:
      martlet serve --model ctr=model.onnx       serve a file at once
      martlet import model.onnx --name ctr       register it, in a faster form proved equal
      martlet label ctr 3 stable                 point a label at a version
      martlet serve --root martlet-registry      serve what is registered
      martlet recommend films --user 42          ask a running server
      martlet demo                               the whole job, on generated data
    """
