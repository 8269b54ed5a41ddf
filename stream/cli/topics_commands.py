"""`neardup topics`: the Kafka topics of the signals."""

from __future__ import annotations

from typing import Annotated

import typer

from stream.cli.context import AsJson, of
from stream.cli.output import line, show_json, table

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Create and list the Kafka topics.")


OneSignal = Annotated[str | None, typer.Option("--signal", metavar="NAME", help="Only this signal; without it all.")]
"""The option of commands that take all signals unless one is named."""


@app.command()
def create(context: typer.Context, signal: OneSignal = None) -> None:
    """Create the missing topics, of all signals or of one. Existing topics are not touched.

    Example:

        neardup topics create
    """
    from stream.broker import Broker, topic_plans

    settings = of(context).settings()
    chosen = [settings.signal(signal)[1]] if signal else list(settings.signals.values())
    with Broker(settings.kafka_access("neardup-topics")) as broker:
        for each in chosen:
            plans = topic_plans(each, settings.kafka)
            created = set(broker.create(plans, settings.kafka.replication))
            for plan in plans:
                line(f"{plan.name}: {'created' if plan.name in created else 'exists'}")


@app.command("list")
def list_topics(context: typer.Context, signal: OneSignal = None, as_json: AsJson = False) -> None:
    """List the topics of all signals, or of one, with their partitions and records.

    Example:

        neardup topics list --json
    """
    from stream.broker import Broker, topic_plans

    settings = of(context).settings()
    names = [settings.signal(signal)[0]] if signal else list(settings.signals)
    rows = []
    with Broker(settings.kafka_access("neardup-topics")) as broker:
        there = broker.topics()
        for name in names:
            for plan in topic_plans(settings.signals[name], settings.kafka):
                ends = broker.ends(plan.name) if plan.name in there else None
                rows.append(
                    {
                        "signal": name,
                        "topic": plan.name,
                        "exists": ends is not None,
                        "partitions": len(ends) if ends is not None else 0,
                        "records": sum(each.end - each.first for each in ends.values()) if ends is not None else 0,
                    }
                )
    if as_json:
        show_json(rows)
        return
    table(
        ("signal", "topic", "partitions", "records"),
        [
            (row["signal"], row["topic"], row["partitions"] if row["exists"] else "missing", row["records"])
            for row in rows
        ],
        right=("partitions", "records"),
    )
