"""`neardup dead-letters replay` and `settle`: halves are sent again, and what needs nothing more is acknowledged."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import BadInputError
from stream.cli.context import AsJson, SignalName, of
from stream.cli.dead_letters_choice import IdsFile, Images, Reasons, Since, Until, choice_of, opened
from stream.cli.output import counted, note, show_json, table
from stream.cli.replay_command import send_replay, try_replay

if TYPE_CHECKING:
    from stream.dead_letters.choice import DeadLetterChoice
    from stream.dead_letters.halves import ReplayReport
    from stream.dead_letters.settling import SettlingReport
    from stream.settings import Settings

__all__ = ["replay_command", "settle_command"]


def replay_command(
    context: typer.Context,
    reason: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REASON",
            help="Only those with this reason; may be given several times. Without it, halves that waited in vain.",
        ),
    ] = None,
    since: Since = None,
    ids_file: IdsFile = None,
    again: Annotated[bool, typer.Option("--again", help="Also those that were settled before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Send nothing; show what would be sent.")] = False,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Send rejected halves to their topics again, as they were: after an outage of one sender, or a mended setting.

    Images that a server refused or failed on have their place, and need a new decision: with --reason refused or
    --reason faulted they are decided again by force, as by `neardup replay --dead-letters`. Else they are counted.

    What was sent is noted in the topic, so another run leaves it out. A half that arrives twice is ignored.

    Examples:

        neardup dead-letters replay --since 3h --dry-run

        neardup dead-letters replay --reason missing_score_half --ids-file ids.txt

        neardup dead-letters replay --reason refused --reason faulted
    """
    from stream.dead_letters.halves import OF_IMAGES, Fate, ReplayReport, plan, replay
    from stream.publish import Publisher

    choice, report = choice_of(reason, since, None, None, ids_file), ReplayReport()
    command, settings = of(context), of(context).settings()
    if OF_IMAGES.intersection(choice.reasons):
        if again or not OF_IMAGES.issuperset(choice.reasons):
            raise BadInputError(
                f"{' and '.join(sorted(OF_IMAGES))} are reasons of images, which are decided again: give them without "
                "--again, and without reasons of halves"
            )
        _decide_again(settings, signal, choice, dry_run=dry_run, as_json=as_json)
        return
    try:
        with opened(command, signal, choice.since_ms) as topic, Publisher(settings, topic.signal_name) as publisher:
            settled = frozenset[int]() if again else topic.settlements()
            replay(
                topic.records("looking" if dry_run else "sending"),
                lambda record: plan(record, choice, settled, topic.half_topics),
                None if dry_run else publisher,
                topic.name,
                report,
            )
    except BaseException:
        if not dry_run and report.counts:
            sent = counted(report.counts[Fate.SENT], "half", "halves")
            note(f"{sent} sent and noted; the same command goes on from there")
        raise
    _show(report, as_json=as_json, dry_run=dry_run)


def _decide_again(
    settings: Settings, signal: str | None, choice: DeadLetterChoice, *, dry_run: bool, as_json: bool
) -> None:
    """Has the images of dead letters decided again, by force. What has a score then is settled."""
    from stream.replay.choice import ReplaySelection
    from stream.requests import new_request, replay_of

    name, selection = settings.signal(signal)[0], ReplaySelection(dead_letters=choice)
    if dry_run:
        try_replay(settings, name, selection, "", as_json=as_json)
        return
    wanted = replay_of(new_request("dead-letters"), force=True, bulk=selection.bulk)
    send_replay(settings, name, selection, wanted, resumed=False, diff=False, as_json=as_json)


def settle_command(
    context: typer.Context,
    because: Annotated[
        str, typer.Option("--because", metavar="TEXT", help="Why nothing more is to be done. It is kept.")
    ],
    offsets: Annotated[
        list[int] | None,
        typer.Argument(metavar="OFFSET...", min=0, help="Where they lie in the topic, as `list` shows it."),
    ] = None,
    reason: Reasons = None,
    since: Since = None,
    until: Until = None,
    image: Images = None,
    ids_file: IdsFile = None,
    everything: Annotated[bool, typer.Option("--all", help="All open dead letters.")] = False,
    author: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who settles; without it the name of the user.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing; show what would be settled.")] = False,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Acknowledge dead letters about which nothing more is to be done: lists, counts and alerts then leave them out.

    They stay in the topic. The acknowledgement is a record behind them, with author and reason.

    Examples:

        neardup dead-letters settle 17 18 --because "a test of the new sender"

        neardup dead-letters settle --reason unparsable --since 3h --because "sender mended, images sent again"
    """
    from stream.dead_letters.settling import Acknowledgement, SettlingReport, acknowledge, appender, checked_offsets
    from stream.publish import Publisher
    from stream.requests import user_name

    choice = choice_of(reason, since, until, image, ids_file)
    if everything == bool(offsets or reason or since or until or image or ids_file):
        raise BadInputError("say which dead letters: offsets, or options that choose some, or --all alone")
    by, report = Acknowledgement(author or user_name(), because), SettlingReport()
    command, settings = of(context), of(context).settings()
    try:
        with opened(command, signal, choice.since_ms) as topic, Publisher(settings, topic.signal_name) as publisher:
            if offsets:
                wanted = frozenset(offsets)
                choice = replace(choice, offsets=wanted)
                checked_offsets(topic.between(min(wanted), max(wanted) + 1), wanted)
            settled = topic.settlements()
            acknowledge(
                topic.between(min(offsets), max(offsets) + 1, "settling") if offsets else topic.records("settling"),
                choice,
                settled,
                by,
                None if dry_run else appender(publisher, topic.name),
                report,
            )
    except BaseException:
        if not dry_run and report.settled:
            note(f"{report.settled:,} settled; the same command goes on from there")
        raise
    _show_settled(report, as_json=as_json, dry_run=dry_run)


def _show_settled(report: SettlingReport, *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        reasons = {reason.value: number for reason, number in sorted(report.reasons.items())}
        show_json(
            {
                "dry_run": dry_run,
                "settled": report.settled,
                "settled_before": report.settled_before,
                "reasons": reasons,
            }
        )
        return
    if report.settled:
        rows = [(reason.value, number) for reason, number in sorted(report.reasons.items())]
        table(("reason", "would be settled" if dry_run else "settled"), rows, right=("would be settled", "settled"))
    else:
        note("no open dead letter is chosen")
    if report.settled_before:
        note(f"({report.settled_before:,} were settled before)", style="dim")


def _show(report: ReplayReport, *, as_json: bool, dry_run: bool) -> None:
    from stream.dead_letters.halves import Fate

    if as_json:
        counts = {fate.value: report.counts[fate] for fate in Fate}
        reasons = {f"{fate} {reason}": number for (fate, reason), number in sorted(report.reasons.items())}
        show_json({"dry_run": dry_run, "counts": counts, "reasons": reasons, "truncated": report.truncated})
        return
    meanings = {
        Fate.SENT: "would be sent" if dry_run else "sent, and acknowledged",
        Fate.SETTLED: "settled before, by a replay or by hand (--again sends them all the same)",
        Fate.WAITING: "images that wait for a new decision: name the reason with --reason, and they are decided again",
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
