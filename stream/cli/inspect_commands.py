"""`neardup tail`: what the service publishes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.context import SignalName, of
from stream.cli.output import write_json_line

if TYPE_CHECKING:
    from stream.topic_reader import TopicRecord

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Follow what the service publishes.")


@app.command()
def assignments(
    context: typer.Context,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Stop after N changes.")] = None,
    from_start: Annotated[bool, typer.Option("--from-start", help="Begin with the oldest change.")] = False,
    signal: SignalName = None,
) -> None:
    """Follow the changes of heads as the storage server publishes them, one JSON object a line, until Ctrl-C.

    Examples:

        neardup tail assignments

        neardup tail assignments --from-start --limit 10 | jq .head
    """
    from stream.interrupts import interruptible
    from stream.names import client_id
    from stream.topic_reader import TopicReader

    settings = of(context).settings()
    name, chosen = settings.signal(signal)
    topic = chosen.topic("assignments")
    with interruptible(), TopicReader(settings.kafka_access(client_id(name, "tail")), topic) as reader:
        reader.seek(reader.ends()[0 if from_start else 1])
        records: Iterator[TopicRecord] = reader.follow()
        for record in islice(records, limit):
            write_json_line(record.value.decode("utf-8", errors="replace"))
