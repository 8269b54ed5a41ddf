"""`neardup up` and `neardup down`: all parts on this machine, under supervisor."""

from __future__ import annotations

import typer

from core.errors import BadInputError
from stream.cli.context import of
from stream.cli.output import line, note
from stream.cli.part_progress import tell_part

__all__ = ["down", "up"]


def up(context: typer.Context) -> None:
    """Start all parts as a service of this machine, and return when they are ready.

    The supervisor restarts a part that ends. Running parts are not touched, but if the settings have changed, all are
    restarted. A restart loses nothing and repeats nothing.

    Example:

        neardup up
    """
    from stream.access import api_url
    from stream.data_folders import demo_settings, runs
    from stream.local.errors import PartFailedError
    from stream.local.supervisor import Deployment

    settings = of(context).settings()
    demo = demo_settings(settings)
    if runs(demo) and not runs(settings):
        raise BadInputError(
            f"the demo that was kept runs on these ports ({demo.data_dir}): stop it with `neardup down`"
        )
    try:
        Deployment(settings).up(progress=tell_part)
    except PartFailedError:
        note("(the other parts are left running for a look at them: `neardup down` stops them)", style="dim")
        raise
    for name in settings.signals:
        line(
            f"signal {name}: HTTP API {api_url(settings, name)}, settings {settings.data_dir / 'run' / 'settings.toml'}"
        )


def down(context: typer.Context) -> None:
    """Stop all parts, also those of a demo that was kept. The data stays on disk.

    Example:

        neardup down
    """
    from stream.data_folders import demo_settings
    from stream.local.supervisor import Deployment

    settings = of(context).settings()
    for each in (settings, demo_settings(settings)):
        if each.data_dir.exists():
            Deployment(each).down(progress=tell_part)
    line("nothing is running")
