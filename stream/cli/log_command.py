"""`neardup log`: the topic `joined`, which holds the order."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from stream.cli.context import AsJson, SignalName, of
from stream.cli.output import line, note, show_json

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Go on after the topic of the order was lost or moved.")


@app.callback()
def _log() -> None:
    """Go on after the topic of the order was lost or moved."""


@app.command()
def renew(
    context: typer.Context,
    signal: SignalName = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Go on with another topic `joined`: one that was created again, or lies in another cluster.

    The job must be stopped, and index and storage must be at the same position. Heads and members stay. The next
    `job start` reads embeddings again, from one join timeout before the last images arrived. So images that only the
    lost topic had are decided after all, if their embeddings are still in Kafka. A call that was interrupted is simply
    repeated.

    Examples:

        neardup log renew --dry-run

        neardup log renew
    """
    from stream.job_control import JobControl

    settings = of(context).running()
    name, _ = settings.signal(signal)
    renewal = JobControl(settings, name).renew_log(dry_run)
    if as_json:
        show_json({"signal": name, "dry_run": dry_run, **asdict(renewal)})
        return
    since = "everything that Kafka holds of the embeddings is read again"
    if renewal.read_again_ms:
        time = datetime.fromtimestamp(renewal.read_again_ms / 1000, UTC).isoformat(timespec="seconds")
        since = f"embeddings are read again from one join timeout before {time}"
    would = "would go on" if dry_run else "go on"
    line(f"{renewal.topic}: the stores {would} with the topic {renewal.log_id}, from position {renewal.base} on")
    note(since + ("" if dry_run else "; now run `neardup job start`"))
