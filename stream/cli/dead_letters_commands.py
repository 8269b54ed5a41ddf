"""`neardup dead-letters`: the rejected records, and the replay of halves among them."""

from __future__ import annotations

import base64
import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import BadInputError
from stream.cli.context import AsJson, SignalName, of
from stream.cli.output import counted, note, progress_bar, show_json, table
from stream.cli.texts import time_text

if TYPE_CHECKING:
    from core.dead_letters import Reason
    from stream.dead_letter_replay import ReplayReport
    from stream.topic_reader import TopicRecord

__all__ = ["app", "since_ms"]

app = typer.Typer(invoke_without_command=True)

_SHOWN_DEFAULT = 20


@app.callback()
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
    if context.invoked_subcommand is not None:
        return
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


@app.command("replay")
def replay_command(
    context: typer.Context,
    reason: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REASON",
            help="Only halves with this reason; may be given several times. Without it, those that waited in vain.",
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only those rejected since then: 90m, 2h, 7d, or an ISO time (UTC)."),
    ] = None,
    ids_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Only those of the images in this file, one id a line.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also those that an earlier replay has sent.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Send nothing; show what would be sent.")] = False,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Send rejected halves to their topics again, as they were: after an outage of one sender, or a mended setting.

    Images that a server refused or failed on are counted as waiting: they have their place, and need a new decision.
    What was sent is noted in the topic, so another run leaves it out. A half that arrives twice is ignored.

    Examples:

        neardup dead-letters replay --since 3h --dry-run

        neardup dead-letters replay --reason missing_score_half --ids-file ids.txt
    """
    from stream.dead_letter_replay import Fate, ReplayChoice, ReplayReport, plan, replay, settled_before
    from stream.interrupts import interruptible
    from stream.names import client_id
    from stream.publish import Publisher
    from stream.topic_reader import TopicReader

    choice = ReplayChoice(
        [_reason(each) for each in reason or ()],
        0 if since is None else since_ms(since, time.time()),
        None if ids_file is None else _ids(ids_file),
        again,
    )
    settings = of(context).settings()
    name, chosen = settings.signal(signal)
    topic, report = chosen.topic("dead_letter"), ReplayReport()
    access = settings.kafka_access(client_id(name, "dead-letters"))
    half_topics = (chosen.topic("search"), chosen.topic("score"))
    with (
        interruptible(),
        TopicReader(access, topic) as reader,
        Publisher(settings, name) as publisher,
        progress_bar() as bar,
    ):
        first, end = reader.ends()
        reading = bar.add_task("reading what is settled", total=None, note="")
        settled = settled_before(reader.between(first, end))
        bar.update(reading, total=1, completed=1)
        task = bar.add_task("looking" if dry_run else "sending", total=end - first, note="")

        def progress(offset: int) -> None:
            bar.update(task, completed=offset + 1 - first, note=f"{report.counts[Fate.SENT]:,} sent")

        try:
            replay(
                reader.between(first, end),
                lambda record: plan(record, choice, settled, half_topics),
                None if dry_run else publisher,
                topic,
                report,
                progress,
            )
        except BaseException:
            if not dry_run:
                sent = counted(report.counts[Fate.SENT], "half", "halves")
                note(f"{sent} sent and noted; the same command goes on from there")
            raise
    _show(report, as_json=as_json, dry_run=dry_run)


def since_ms(text: str, now_s: float) -> int:
    """A point in time, in milliseconds since the epoch: `90m`, `2h` and `7d` ago, or ISO 8601 (UTC without a zone).

    Raises:
        BadInputError: It is neither.
    """
    ago = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if ago is not None:
        return int(1000 * (now_s - int(ago[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[ago[2]]))
    try:
        when = datetime.fromisoformat(text)
        return int(1000 * (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        form = "90m, 2h, 7d or an ISO time such as 2025-01-31T12:00"
        raise BadInputError(f"--since takes {form}, not {text!r}") from None


def _reason(text: str) -> Reason:
    from core.dead_letters import Reason

    try:
        return Reason(text)
    except ValueError:
        raise BadInputError(f"there is no reason {text!r}: choose from {', '.join(sorted(Reason))}") from None


def _ids(path: Path) -> frozenset[bytes]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}") from error
    return frozenset(line for line in content.replace(b"\r\n", b"\n").split(b"\n") if line)


def _show(report: ReplayReport, *, as_json: bool, dry_run: bool) -> None:
    from stream.dead_letter_replay import Fate

    if as_json:
        counts = {fate.value: report.counts[fate] for fate in Fate}
        reasons = {f"{fate} {reason}": number for (fate, reason), number in sorted(report.reasons.items())}
        show_json({"dry_run": dry_run, "counts": counts, "reasons": reasons, "truncated": report.truncated})
        return
    meanings = {
        Fate.SENT: "would be sent" if dry_run else "sent, and acknowledged",
        Fate.SETTLED: "sent by an earlier replay (--again sends them once more)",
        Fate.WAITING: "images that wait for a new decision: nothing was done",
        Fate.TRUNCATED: "truncated, so they cannot be sent: send these images again",
        Fate.NOT_NAMED: "rejected for what they are: mend the cause, then name the reason with --reason",
        Fate.NO_HALF: "no halves",
    }
    rows = [
        (reason, report.reasons[fate, reason], meaning)
        for fate, meaning in meanings.items()
        for reason in sorted({each for other, each in report.reasons if other is fate})
    ]
    if not rows:
        note("no dead letter is chosen")
        return
    table(("reason", "count", "what became of them"), rows, right=("count",))
    for named in report.truncated:
        note(f"truncated: {named}")
    if len(report.truncated) < report.counts[Fate.TRUNCATED]:
        note(f"and {report.counts[Fate.TRUNCATED] - len(report.truncated)} more are truncated")


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
        return when, f"({settlement.kind.value})", f"offset {record.offset} of this topic", settlement.detail
    try:
        dead = parse_dead_letter(record.value)
    except BadInputError as error:
        return when, "(not a dead letter)", f"offset {record.offset} of this topic", error
    source = dead.source
    return when, dead.reason.value, f"{source.topic}/{source.partition}/{source.offset}", dead.detail
