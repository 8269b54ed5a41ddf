"""`neardup topics`: the Kafka topics of the signals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import MismatchError
from stream.cli.context import AsJson, of
from stream.cli.output import line, show_json, table

if TYPE_CHECKING:
    from stream.settings import Settings
    from stream.topic_plans import TopicPlan

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Create and list the Kafka topics.")


OneSignal = Annotated[str | None, typer.Option("--signal", metavar="NAME", help="Only this signal; without it all.")]
"""The option of commands that take all signals unless one is named."""


@app.command()
def create(
    context: typer.Context,
    signal: OneSignal = None,
    update: Annotated[
        bool, typer.Option("--update", help="Also give existing topics the settings that they should have.")
    ] = False,
) -> None:
    """Create the missing topics: those of all signals and that of aliases, or those of one signal.

    Existing topics are not touched without --update.

    Examples:

        neardup topics create

        neardup topics create --update
    """
    from stream.broker import Broker
    from stream.topic_plans import changes

    settings = of(context).settings()
    with Broker(settings.kafka_access("neardup-topics")) as broker:
        for _, plans in _chosen(settings, signal):
            created = set(broker.create(plans))
            for plan in plans:
                changed = changes(plan, broker.topic_state(plan.name)) if update and plan.name not in created else {}
                if changed:
                    broker.alter(plan.name, changed)
                told = "created" if plan.name in created else _told(changed)
                line(f"{plan.name}: {told}")


def _chosen(settings: Settings, signal: str | None) -> list[tuple[str, list[TopicPlan]]]:
    """The topics of one signal, or those of each and the one that all share, under the name ""."""
    from stream.topic_plans import alias_topic_plan, topic_plans

    names = [settings.signal(signal)[0]] if signal else list(settings.signals)
    found = [(name, topic_plans(settings.signals[name], settings.kafka)) for name in names]
    return found if signal else [*found, ("", [alias_topic_plan(settings.kafka)])]


def _told(changed: Mapping[str, str]) -> str:
    return f"changed {', '.join(f'{key}={value}' for key, value in changed.items())}" if changed else "exists"


@app.command()
def check(context: typer.Context, signal: OneSignal = None) -> None:
    """Check whether the topics are as they must be: partitions, copies, and the settings that keep records safe.

    The exit code is 6 if a topic endangers records. The message names the values and what mends them.

    Example:

        neardup topics check
    """
    from stream.broker import Broker
    from stream.topic_check import topic_problems

    settings = of(context).settings()
    with Broker(settings.kafka_access("neardup-topics")) as broker:
        found = [problem for _, plans in _chosen(settings, signal) for problem in topic_problems(broker, plans)]
    for problem in found:
        line(problem)
    if found:
        raise MismatchError(f"{len(found)} of the topics' settings are not as they must be")


@app.command("list")
def list_topics(context: typer.Context, signal: OneSignal = None, as_json: AsJson = False) -> None:
    """List the topics of all signals, or of one, with their partitions and records.

    Example:

        neardup topics list --json
    """
    from stream.broker import Broker

    settings = of(context).settings()
    rows = []
    with Broker(settings.kafka_access("neardup-topics")) as broker:
        there = broker.topics()
        for name, plans in _chosen(settings, signal):
            for plan in plans:
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
