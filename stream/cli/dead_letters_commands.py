"""`neardup dead-letters`: the rejected records, what is in them, and which of them need something still."""

from __future__ import annotations

import base64
import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.errors import BadInputError
from stream.cli.context import AsJson, SignalName, of
from stream.cli.dead_letters_actions import replay_command, settle_command
from stream.cli.dead_letters_choice import (
    DeadLetterTopic,
    IdsFile,
    Images,
    Reasons,
    Since,
    Until,
    choice_of,
    opened,
)
from stream.cli.nested import show_nested
from stream.cli.output import line, note, show_json, table
from stream.cli.texts import time_text

if TYPE_CHECKING:
    from core.settlements import Settlement
    from stream.dead_letters.groups import DeadLetterGroup, DeadLetterState, ListedDeadLetter
    from stream.topic_reader import TopicRecord

__all__ = ["app"]

app = typer.Typer(invoke_without_command=True)

_SHOWN_DEFAULT = 20
_LISTED_DEFAULT = 10


@app.callback()
def dead_letters(
    context: typer.Context,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="Show the last N.")] = _SHOWN_DEFAULT,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest rejected records: the reason, and where each came from. JSON shows the full records, one a line.

    `list` groups those that are open by reason, `stats` counts them, `show` decodes one, `replay` and `settle` settle.

    Examples:

        neardup dead-letters --limit 5

        neardup dead-letters --limit 1000 --json | jq -r .reason | sort | uniq -c
    """
    if context.invoked_subcommand is not None:
        return
    with opened(of(context), signal) as topic:
        records = topic.reader.last(limit)
        if as_json:
            for record in records:
                show_json(_dead_letter_json(record), indent=None)
            return
        rows = [_dead_letter_row(record) for record in records]
    if not rows:
        note(f"{topic.name} is empty")
        return
    table(("when", "reason", "topic/partition/offset", "detail"), rows)


app.command("replay")(replay_command)
app.command("settle")(settle_command)


class Listed(StrEnum):
    """Which dead letters `list` shows."""

    OPEN = "open"
    SETTLED = "settled"
    ALL = "all"

    def shows(self, state: DeadLetterState) -> bool:
        """Whether it shows those in a state."""
        return self is Listed.ALL or (self is Listed.OPEN) == (state.value == Listed.OPEN.value)


@app.command("list")
def list_command(
    context: typer.Context,
    reason: Reasons = None,
    since: Since = None,
    until: Until = None,
    image: Images = None,
    ids_file: IdsFile = None,
    state: Annotated[Listed, typer.Option(help="Those that need something still, those that are settled, or all.")] = (
        Listed.OPEN
    ),
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="Show the newest N of each reason.")] = _LISTED_DEFAULT,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters by reason: how many, the newest of each, and what is in them.

    Examples:

        neardup dead-letters list

        neardup dead-letters list --reason refused --reason faulted --since 1d --limit 50

        neardup dead-letters list --state all --json | jq '.reasons[] | {reason, open}'
    """
    from stream.dead_letters.groups import group

    choice = choice_of(reason, since, until, image, ids_file)
    with opened(of(context), signal, choice.since_ms) as topic:
        found = group(topic.records(), choice, topic.settlements(), state.shows, limit)
    shown = {each: kept for each, kept in sorted(found.groups.items()) if kept.newest}
    if as_json:
        groups = [
            {**_counts(each.value, kept), "dead_letters": [_listed_json(one, topic) for one in kept.newest]}
            for each, kept in shown.items()
        ]
        show_json({"reasons": groups})
        return
    if not shown:
        note(f"no dead letter of {topic.name} is {'chosen' if state is Listed.ALL else state.value}")
    for each, kept in shown.items():
        _show_group(each.value, kept, topic)


@app.command("show")
def show_command(
    context: typer.Context,
    offset: Annotated[int, typer.Argument(metavar="OFFSET", min=0, help="Where it lies, as `list` shows it.")],
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter: where it came from, what is in it as far as it can be decoded, and how it was settled.

    Examples:

        neardup dead-letters show 17

        neardup dead-letters show 17 --json | jq .payload.fields
    """
    from core.dead_letters import parse_dead_letter
    from core.settlements import parse_settlement
    from stream.dead_letters.choice import Settlements
    from stream.dead_letters.groups import listed

    with opened(of(context), signal) as topic:
        record = next(iter(topic.between(offset, offset + 1)), None)
        if record is None:
            raise BadInputError(f"{topic.name} has offsets {topic.first} to {topic.end - 1}, and no record at {offset}")
        parse_dead_letter(record.value)
        settled, how = Settlements(), []
        for later in topic.between(offset + 1, topic.end):
            settlement = parse_settlement(later.value)
            if settlement is not None and any(first <= offset <= last for first, last in settlement.ranges):
                settled.add(settlement)
                how.append({"when": time_text(later.timestamp_ms), **_settlement_json(settlement)})
    shown = {**_listed_json(listed(record, settled), topic), "settlements": how}
    if as_json:
        show_json(shown)
    else:
        show_nested(shown)


@app.command("stats")
def stats_command(
    context: typer.Context,
    since: Since = None,
    until: Until = None,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Count dead letters by reason: open, replayed, acknowledged, and since when the oldest open one waits.

    Examples:

        neardup dead-letters stats

        neardup dead-letters stats --since 1d --json | jq .open
    """
    from stream.dead_letters.groups import DeadLetterState, group

    choice = choice_of(None, since, until, None, None)
    with opened(of(context), signal, choice.since_ms) as topic:
        found = group(topic.records(), choice, topic.settlements())
    totals = {state.value: found.total(state) for state in DeadLetterState}
    counts = [_counts(reason.value, kept) for reason, kept in sorted(found.groups.items())]
    if as_json:
        others = {"settlements": found.settlements, "unreadable": found.unreadable}
        show_json({**totals, **others, "reasons": counts})
        return
    if not counts:
        note(f"{topic.name} has no dead letter")
        return
    columns = ("reason", *totals, "oldest_open", "newest")
    rows = [*([each[name] for name in columns] for each in counts), ["all", *totals.values()]]
    table([name.replace("_", " ") for name in columns], rows, right=tuple(totals))
    if found.unreadable:
        note(f"({found.unreadable:,} records of {topic.name} are no dead letters)", style="dim")


def _counts(reason: str, kept: DeadLetterGroup) -> dict[str, Any]:
    from stream.dead_letters.groups import DeadLetterState

    return {
        "reason": reason,
        **{state.value: kept.counts[state] for state in DeadLetterState},
        "oldest_open": None if kept.oldest_open_ms is None else time_text(kept.oldest_open_ms),
        "newest": time_text(kept.newest_ms),
    }


def _show_group(reason: str, kept: DeadLetterGroup, topic: DeadLetterTopic) -> None:
    counts = _counts(reason, kept)
    line(f"{reason}: {counts['open']:,} open, {counts['replayed']:,} replayed, {counts['acknowledged']:,} acknowledged")
    rows = [
        (
            one.record.offset,
            time_text(one.record.timestamp_ms),
            one.state.value,
            _image_id(one, topic.payload(one.dead)),
            f"{one.dead.source.topic}/{one.dead.source.partition}/{one.dead.source.offset}",
            _brief(one, topic),
            one.dead.detail,
        )
        for one in reversed(kept.newest)
    ]
    table(("offset", "when", "state", "image", "topic/partition/offset", "payload", "detail"), rows, right=("offset",))
    line("")


def _brief(one: ListedDeadLetter, topic: DeadLetterTopic) -> str:
    """A payload in a few words."""
    decoded = topic.payload(one.dead)
    inner = _image_fields(decoded)
    words = [f"version {inner['image_version']}"] if "image_version" in inner else []
    words += [
        f"{name} {each['elements']}" for name, each in inner.items() if isinstance(each, dict) and "elements" in each
    ]
    words += ["truncated" if one.dead.truncated else f"ends early ({decoded['problem']})"] if decoded["problem"] else []
    return f"{decoded['form']}: {', '.join(words)}" if words else decoded["form"]


def _image_fields(decoded: dict[str, Any]) -> dict[str, Any]:
    """The fields of a payload that has an image, or those of the image inside of it."""
    fields: dict[str, Any] = decoded["fields"]
    return next((each for each in fields.values() if isinstance(each, dict) and "image_id" in each), fields)


def _image_id(one: ListedDeadLetter, decoded: dict[str, Any]) -> str:
    """The image: the record's key, or where it has none, the id that the payload has."""
    key = one.record.key.decode("utf-8", errors="backslashreplace")
    return key or str(_image_fields(decoded).get("image_id", ""))


def _listed_json(one: ListedDeadLetter, topic: DeadLetterTopic) -> dict[str, Any]:
    record, dead, payload = one.record, one.dead, topic.payload(one.dead)
    return {
        "offset": record.offset,
        "when": time_text(record.timestamp_ms),
        "state": one.state.value,
        "image_id": _image_id(one, payload),
        "reason": dead.reason.value,
        "detail": dead.detail,
        "source": {
            "topic": dead.source.topic,
            "partition": dead.source.partition,
            "offset": dead.source.offset,
            "timestamp_ms": dead.source.timestamp_ms,
        },
        "payload_bytes": dead.payload_bytes,
        "truncated": dead.truncated,
        "payload": payload,
    }


def _settlement_json(settlement: Settlement) -> dict[str, Any]:
    return {
        "kind": settlement.kind.value,
        "detail": settlement.detail,
        "author": settlement.author or None,
        "reason": settlement.reason or None,
    }


def _dead_letter_json(record: TopicRecord) -> dict[str, object]:
    about: dict[str, object] = {"dead_letter_offset": record.offset}
    try:
        return {**about, **json.loads(record.value)}
    except (ValueError, TypeError):
        return {**about, "not_a_dead_letter": base64.b64encode(record.value).decode()}


def _dead_letter_row(record: TopicRecord) -> tuple[object, ...]:
    from core.dead_letters import parse_dead_letter
    from core.settlements import parse_settlement

    when = time_text(record.timestamp_ms)
    settlement = parse_settlement(record.value)
    if settlement is not None:
        why = f": {settlement.author}: {settlement.reason}" if settlement.author else ""
        return when, f"({settlement.kind.value})", f"offset {record.offset} of this topic", settlement.detail + why
    try:
        dead = parse_dead_letter(record.value)
    except BadInputError as error:
        return when, "(not a dead letter)", f"offset {record.offset} of this topic", error
    source = dead.source
    return when, dead.reason.value, f"{source.topic}/{source.partition}/{source.offset}", dead.detail
