"""`neardup dead-letters` and `neardup tail`: the topics that the service writes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import BadInputError
from stream.cli.context import AsJson, SignalName, of
from stream.cli.output import note, show_json, table, write_json_line
from stream.cli.texts import time_text

if TYPE_CHECKING:
    from stream.topic_reader import TopicRecord

__all__ = ["app", "dead_letters"]

app = typer.Typer(no_args_is_help=True, help="Follow what the service publishes.")

_SHOWN_DEFAULT = 20


def dead_letters(
    context: typer.Context,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="Show the last N.")] = _SHOWN_DEFAULT,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest rejected records: the reason, and where each came from. JSON shows the full records, one a line.

    Examples:

        neardup dead-letters --limit 5

        neardup dead-letters --limit 1000 --json | jq -r .reason | sort | uniq -c
    """
    from stream.names import client_id
    from stream.topic_reader import TopicReader

    settings = of(context).settings()
    name, chosen = settings.signal(signal)
    topic = chosen.topic("dead_letter")
    with TopicReader(settings.kafka_access(client_id(name, "dead-letters")), topic) as reader:
        if as_json:
            for record in reader.last(limit):
                show_json(_dead_letter_json(record), indent=None)
            return
        rows = [_dead_letter_row(record) for record in reader.last(limit)]
    if not rows:
        note(f"{topic} is empty")
        return
    table(("when", "reason", "topic/partition/offset", "detail"), rows)


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
    from stream.names import client_id
    from stream.topic_reader import TopicReader

    settings = of(context).settings()
    name, chosen = settings.signal(signal)
    topic = chosen.topic("assignments")
    with TopicReader(settings.kafka_access(client_id(name, "tail")), topic) as reader:
        reader.seek(reader.ends()[0 if from_start else 1])
        records: Iterator[TopicRecord] = reader.follow()
        for record in islice(records, limit):
            write_json_line(record.value.decode("utf-8", errors="replace"))


def _dead_letter_json(record: TopicRecord) -> dict[str, object]:
    about: dict[str, object] = {"dead_letter_offset": record.offset}
    try:
        return {**about, **json.loads(record.value)}
    except (ValueError, TypeError):
        return {**about, "not_a_dead_letter": base64.b64encode(record.value).decode()}


def _dead_letter_row(record: TopicRecord) -> tuple[object, ...]:
    from core.dead_letters import parse_dead_letter

    when = time_text(record.timestamp_ms)
    try:
        dead = parse_dead_letter(record.value)
    except BadInputError as error:
        return when, "(not a dead letter)", f"offset {record.offset} of this topic", error
    source = dead.source
    return when, dead.reason.value, f"{source.topic}/{source.partition}/{source.offset}", dead.detail
