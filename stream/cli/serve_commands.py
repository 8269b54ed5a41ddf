"""`neardup serve`: runs one server in the foreground, as supervisor and containers do."""

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

    configure_server_logs()
    servers.serve_search(of(context).settings(), signal)


@app.command()
def scorer(context: typer.Context, signal: SignalName = None) -> None:
    """Run the scorer: the classifier of a signal.

    Example:

        neardup serve scorer --signal photos
    """
    from stream import servers

    configure_server_logs()
    servers.serve_scorer(of(context).settings(), signal)


@app.command()
def storage(context: typer.Context, signal: SignalName = None) -> None:
    """Run the storage server with its HTTP API: the heads and members of a signal.

    Example:

        neardup serve storage --signal photos
    """
    from stream import servers

    configure_server_logs()
    servers.serve_storage(of(context).settings(), signal)
