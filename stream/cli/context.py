"""What every command shares: the options before the command's name, and the settings that they select."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.output import note

if TYPE_CHECKING:
    from neardup.client import ApiClient
    from stream.settings import Settings, Signal

__all__ = ["AsJson", "CommandContext", "SignalName", "Spool", "of", "spool_folder"]

SignalName = Annotated[
    str | None, typer.Option("--signal", metavar="NAME", help="The signal; without it the settings' default_signal.")
]
"""The option that every command about one signal has."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
"""The option that every command that reads has."""

Spool = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        exists=True,
        file_okay=False,
        help="Where to keep what is needed meanwhile; default: $TMPDIR, or /tmp.",
    ),
]
"""The option of a command that needs space on a disk."""


@dataclass(frozen=True, slots=True)
class CommandContext:
    """The options given before the command's name."""

    settings_file: Path | None = None

    def settings(self) -> Settings:
        """Reads the settings.

        Raises:
            SettingsError: They cannot be read or are not valid.
        """
        from stream.settings import load_settings

        return load_settings(self.settings_file)

    def running(self) -> Settings:
        """The settings of the running deployment: those of `settings`, or of a kept demo if that runs instead.

        A demo uses the same ports and its own data folder, so only one of the two can run.

        Raises:
            SettingsError: They cannot be read or are not valid.
        """
        from stream.data_folders import demo_settings, runs

        settings = self.settings()
        demo = demo_settings(settings)
        if not runs(settings) and runs(demo):
            note(f"(the demo that was kept, in {demo.data_dir})", style="dim")
            return demo
        return settings

    def api(self, signal_name: str | None) -> ApiClient:
        """A client of a signal's HTTP API."""
        from stream.access import api_client

        settings = self.settings()
        return api_client(settings, settings.signal(signal_name)[0])

    def signal(self, signal_name: str | None) -> tuple[str, Signal]:
        """A signal of the settings, with its name."""
        return self.settings().signal(signal_name)


def of(context: typer.Context) -> CommandContext:
    """The command's options, from typer's context."""
    found = context.find_object(CommandContext)
    return found if found is not None else CommandContext()


def spool_folder(chosen: Path | None) -> Path:
    """The folder that `Spool` means."""
    return chosen or Path(tempfile.gettempdir())
