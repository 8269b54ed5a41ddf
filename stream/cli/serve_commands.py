"""`neardup serve`: runs one server in the foreground, for the supervisor and for containers."""

from __future__ import annotations

import typer

from stream.cli.context import SignalName, of
from stream.cli.logs import configure_server_logs

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Run one server in the foreground until SIGTERM.")


@app.command()
def search(context: typer.Context, signal: SignalName = None) -> None:
    """Run the term search server: the index of a signal.

    Example:

        neardup serve search --signal photos
    """
    from stream import servers

    settings = of(context).settings()
    configure_server_logs(f"{settings.signal(signal)[0]}-search")
    servers.serve_search(settings, signal)


@app.command()
def scorer(context: typer.Context, signal: SignalName = None) -> None:
    """Run the scorer: the classifier of a signal.

    Example:

        neardup serve scorer --signal photos
    """
    from stream import servers

    settings = of(context).settings()
    configure_server_logs(f"{settings.signal(signal)[0]}-scorer")
    servers.serve_scorer(settings, signal)


@app.command()
def storage(context: typer.Context, signal: SignalName = None) -> None:
    """Run the storage server with its HTTP API: the heads and members of a signal.

    Example:

        neardup serve storage --signal photos
    """
    from stream import servers

    settings = of(context).settings()
    configure_server_logs(f"{settings.signal(signal)[0]}-storage")
    servers.serve_storage(settings, signal)
