"""The command `neardup`: its groups of commands and the options before them.

Commands import what they need when they run. So help is fast, and works in a bare installation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream.cli import (
    alias_command,
    bootstrap_command,
    dead_letters_commands,
    debug_command,
    index_command,
    inspect_commands,
    job_commands,
    log_command,
    model_command,
    operations_command,
    override_command,
    secrets_command,
    serve_commands,
    store_command,
    topics_commands,
)
from stream.cli.at_command import at
from stream.cli.centres_command import centres
from stream.cli.compare_command import compare
from stream.cli.context import CommandContext
from stream.cli.delete_command import delete
from stream.cli.demo_command import demo
from stream.cli.deployment_commands import down, up
from stream.cli.evaluate_command import evaluate
from stream.cli.exits import Exit
from stream.cli.explain_command import explain
from stream.cli.forget_command import forget
from stream.cli.history_command import history
from stream.cli.label_command import label, label_tree
from stream.cli.publish_command import publish
from stream.cli.read_commands import head, members, similar
from stream.cli.replay_command import replay
from stream.cli.rollback_command import rollback
from stream.cli.search_command import search
from stream.cli.show_command import show
from stream.cli.status_command import status
from stream.cli.train_command import train
from stream.cli.tune_command import tune
from stream.cli.verify_command import verify

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
        from core.build_info import installed_version

        typer.echo(f"neardup {installed_version()}")
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
    """Near-duplicate image detection in near real time.

    Images arrive as two embeddings on Kafka. Each gets a cluster head within a second.
    """
    context.obj = CommandContext(settings)


_SERVICE, _IMAGES, _LOOKING, _MODEL = "Run the service", "Query images", "Inspect", "Train the model"

app.command(rich_help_panel=_SERVICE)(demo)
app.command(rich_help_panel=_SERVICE)(up)
app.command(rich_help_panel=_SERVICE)(down)
app.command(rich_help_panel=_SERVICE)(status)
app.add_typer(topics_commands.app, name="topics", rich_help_panel=_SERVICE)
app.add_typer(job_commands.app, name="job", rich_help_panel=_SERVICE)
app.add_typer(log_command.app, name="log", rich_help_panel=_SERVICE)
app.add_typer(serve_commands.app, name="serve", rich_help_panel=_SERVICE)
app.add_typer(index_command.app, name="index", rich_help_panel=_SERVICE)
app.add_typer(store_command.app, name="store", rich_help_panel=_SERVICE)
app.add_typer(bootstrap_command.app, name="bootstrap", rich_help_panel=_SERVICE)
app.add_typer(alias_command.app, name="alias", rich_help_panel=_SERVICE)
app.add_typer(secrets_command.app, name="secrets", rich_help_panel=_SERVICE)

app.command(rich_help_panel=_IMAGES)(publish)
app.command(rich_help_panel=_IMAGES)(delete)
app.command(rich_help_panel=_IMAGES)(forget)
app.add_typer(override_command.app, name="override", rich_help_panel=_IMAGES)
app.command(rich_help_panel=_IMAGES)(rollback)
app.add_typer(operations_command.app, name="operations", rich_help_panel=_IMAGES)
app.command(rich_help_panel=_IMAGES)(replay)
app.command(rich_help_panel=_IMAGES)(head)
app.command(rich_help_panel=_IMAGES)(members)
app.command(rich_help_panel=_IMAGES)(similar)
app.command(rich_help_panel=_IMAGES)(history)
app.command(rich_help_panel=_IMAGES)(at)
app.command(rich_help_panel=_IMAGES)(search)
app.command(rich_help_panel=_IMAGES)(show)

app.command(rich_help_panel=_LOOKING)(verify)
app.command(rich_help_panel=_LOOKING)(compare)
app.add_typer(dead_letters_commands.app, name="dead-letters", rich_help_panel=_LOOKING)
app.command(rich_help_panel=_LOOKING)(explain)
app.add_typer(debug_command.app, name="debug", rich_help_panel=_LOOKING)
app.add_typer(inspect_commands.app, name="tail", rich_help_panel=_LOOKING)

app.command(rich_help_panel=_MODEL)(train)
app.command(rich_help_panel=_MODEL)(evaluate)
app.command(rich_help_panel=_MODEL)(centres)
app.command(rich_help_panel=_MODEL)(tune)
app.command(rich_help_panel=_MODEL)(label)
app.command("label-tree", rich_help_panel=_MODEL)(label_tree)
app.add_typer(model_command.app, name="model", rich_help_panel=_MODEL)
