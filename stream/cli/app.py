"""The command `neardup`: its groups of commands and the options before them.

Commands import what they need when they run, so that help is there at once and a bare installation starts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream.cli import job_commands, serve_commands, topics_commands
from stream.cli.context import CommandContext
from stream.cli.exits import Exit
from stream.cli.publish_command import publish

__all__ = ["app"]

_EXIT_CODES = "\n\n".join(f"{code.value:>3}  {code.meaning}" for code in Exit)

app = typer.Typer(
    name="neardup",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"neardup {version('neardup')}")
        raise typer.Exit


@app.callback(epilog=f"Exit codes:\n\n{_EXIT_CODES}")
def neardup(
    context: typer.Context,
    settings: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The settings file; without it $NEARDUP_SETTINGS, then neardup.toml, then the defaults.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Near-duplicate images, found as they arrive.

    Images enter as two embeddings on Kafka; each gets a cluster head within a second.
    """
    context.obj = CommandContext(settings)


app.command()(publish)
app.add_typer(topics_commands.app, name="topics")
app.add_typer(job_commands.app, name="job")
app.add_typer(serve_commands.app, name="serve")
