"""`neardup debug`: traces of verdicts, live and from the topic."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import BadInputError, MismatchError
from stream.cli.choices import since_ms
from stream.cli.context import AsJson, CommandContext, SignalName, of
from stream.cli.output import counted, line, note, progress_bar, reader_gone, show_tree, write_json_line

if TYPE_CHECKING:
    from stream.topic_reader import TopicReader, TopicRecord
    from stream.traces.choice import TraceChoice
    from stream.traces.reading import FoundTrace, Unread

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Look into verdicts: what each rests on, and how long its steps took.")

Words = list[str] | None

Image = Annotated[Words, typer.Option(metavar="IMAGE_ID", help="Only this image.")]
Head = Annotated[Words, typer.Option(metavar="IMAGE_ID", help="Only images that got this head, or had it.")]
OutcomeName = Annotated[Words, typer.Option(metavar="OUTCOME", help="Only this outcome: decided, replayed, ...")]
CauseName = Annotated[Words, typer.Option(metavar="CAUSE", help="Only this cause: founded, matched, unscored, ...")]
ReasonName = Annotated[
    Words,
    typer.Option(metavar="REASON", help="Only those traced for this: sampled, flag, ..."),
]
WhyName = Annotated[
    Words, typer.Option(metavar="WHY", help="Only verdicts with this ground: no_match, all_refused, ...")
]
Request = Annotated[Words, typer.Option(metavar="ID", help="Only images of this replay or delete.")]
MinScore = Annotated[float | None, typer.Option(metavar="SCORE", min=0, max=1, help="The lowest score of the match.")]
MaxScore = Annotated[float | None, typer.Option(metavar="SCORE", min=0, max=1, help="The highest score of the match.")]
Slower = Annotated[
    Words,
    typer.Option(metavar="STEP=MS", help="Only where search, score, assign, join or total took that long."),
]
Since = Annotated[str | None, typer.Option(metavar="TIME", help="Begin there: 90m, 2h, 7d ago, or an ISO time (UTC).")]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="End there, in the same forms.")]
AsTree = Annotated[bool, typer.Option("--tree", help="Draw each verdict as a tree instead of a line.")]


@app.command()
def tail(
    context: typer.Context,
    image: Image = None,
    head: Head = None,
    outcome: OutcomeName = None,
    cause: CauseName = None,
    reason: ReasonName = None,
    why: WhyName = None,
    request: Request = None,
    min_score: MinScore = None,
    max_score: MaxScore = None,
    slower: Slower = None,
    since: Since = None,
    from_start: Annotated[bool, typer.Option("--from-start", help="Begin with the oldest trace.")] = False,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Stop after N traces.")] = None,
    as_tree: AsTree = False,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Follow traces as they are written, one line each, until Ctrl-C. JSON shows each whole, one a line.

    Examples:

        neardup debug tail

        neardup debug tail --since 10m --cause matched --max-score 0.6 --slower total=500

        neardup debug tail --from-start --limit 3 --tree
    """
    if from_start and since is not None:
        raise BadInputError("--from-start and --since cannot be given together")
    choice = _choice(image, head, outcome, cause, reason, why, request, min_score, max_score, slower)
    with _opened(of(context), signal) as topic:
        begin = topic.ends()[0 if from_start else 1]
        topic.seek(begin if since is None else topic.offset_at(since_ms(since, time.time())))
        _show_all(_following(topic), choice, limit, as_tree=as_tree, as_json=as_json)


@app.command()
def grep(
    context: typer.Context,
    text: Annotated[
        str, typer.Argument(metavar="[TEXT]", help="Only traces in which this occurs: in an id, a word, a version.")
    ] = "",
    image: Image = None,
    head: Head = None,
    outcome: OutcomeName = None,
    cause: CauseName = None,
    reason: ReasonName = None,
    why: WhyName = None,
    request: Request = None,
    min_score: MinScore = None,
    max_score: MaxScore = None,
    slower: Slower = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Stop after N traces.")] = None,
    as_tree: AsTree = False,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Find traces in the topic, oldest first: by a text that occurs in them, by what was decided, by how long it took.

    A candidate, a match or a head is found by its id too.

    Examples:

        neardup debug grep clothing-0152ec2ee8

        neardup debug grep --outcome decided --why all_refused --since 1h --tree

        neardup debug grep --slower score=100 --json | jq -r .image_id
    """
    now_s = time.time()
    end_ms = None if until is None else since_ms(until, now_s, "--until")
    choice = _choice(image, head, outcome, cause, reason, why, request, min_score, max_score, slower)
    choice = replace(choice, text=text, until_ms=end_ms)
    with _opened(of(context), signal) as topic:
        first, end = topic.ends()
        begin = first if since is None else topic.offset_at(since_ms(since, now_s))
        if end_ms is not None:
            end = topic.offset_at(end_ms)
        shown = _show_all(topic.between(begin, end), choice, limit, as_tree=as_tree, as_json=as_json)
    if not shown:
        note("no trace is chosen")


@app.command()
def show(
    context: typer.Context,
    image_id: Annotated[str, typer.Argument(metavar="IMAGE_ID", help="The image.")],
    count: Annotated[int, typer.Option("--last", metavar="N", min=1, help="Show its last N traces.")] = 1,
    candidates: Annotated[
        int, typer.Option(metavar="N", min=0, help="How many candidates that are no matches are drawn.")
    ] = 10,
    since: Since = None,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Draw the last recorded verdict on an image: its match, every other candidate and why it lost, writes and times.

    The topic is read backwards, so a new verdict is found at once. `neardup explain` answers for images without traces.

    Examples:

        neardup debug show clothing-0152ec2ee8

        neardup debug show clothing-0152ec2ee8 --last 5 --json | jq .choice
    """
    from stream.errors import NotKnownError
    from stream.traces.choice import TraceChoice
    from stream.traces.reading import Unread, newest
    from stream.traces.tree import trace_tree

    unread = Unread()
    with _opened(of(context), signal) as topic, progress_bar() as bar:
        first, end = topic.ends()
        if since is not None:
            first = topic.offset_at(since_ms(since, time.time()))
        task = bar.add_task("reading backwards", total=end - first, note="")
        found = newest(
            topic,
            first,
            end,
            TraceChoice(image_ids=[image_id]),
            count,
            unread,
            lambda records: bar.update(task, completed=records),
        )
    _say_unread(unread)
    if not found:
        raise NotKnownError(
            f"no trace of {image_id!r} is in the topic: images that ask for one, are sampled or end badly have one"
        )
    for record, trace in found:
        if as_json:
            write_json_line(record.value.decode("utf-8", errors="replace"))
        else:
            show_tree(trace_tree(trace, candidates))


def _choice(
    image: Words,
    head: Words,
    outcome: Words,
    cause: Words,
    reason: Words,
    why: Words,
    request: Words,
    min_score: float | None,
    max_score: float | None,
    slower: Words,
) -> TraceChoice:
    from stream.traces.choice import TraceChoice, parse_slow

    return TraceChoice(
        image_ids=image or (),
        heads=head or (),
        outcomes=outcome or (),
        causes=cause or (),
        reasons=reason or (),
        whys=why or (),
        requests=request or (),
        min_score=min_score,
        max_score=max_score,
        slower_ms=dict(map(parse_slow, slower or ())),
    )


@contextmanager
def _opened(context: CommandContext, signal: str | None) -> Iterator[TopicReader]:
    from stream.interrupts import interruptible
    from stream.names import client_id
    from stream.topic_reader import TopicReader

    settings = context.settings()
    name, chosen = settings.signal(signal)
    topic = chosen.topic("debug")
    with interruptible(), TopicReader(settings.kafka_access(client_id(name, "debug")), topic) as reader:
        if reader.partitions != 1:
            raise MismatchError(
                f"{topic} has {reader.partitions} partitions, but traces are read from one: delete the topic, and run "
                "`neardup topics create`"
            )
        yield reader


def _following(topic: TopicReader) -> Iterator[TopicRecord]:
    """Every record from the position on, until the reader of our output is gone."""
    while not reader_gone():
        yield from topic.poll()


def _show_all(
    records: Iterator[TopicRecord], choice: TraceChoice, limit: int | None, *, as_tree: bool, as_json: bool
) -> int:
    """Shows each chosen trace as it is read; returns how many."""
    from stream.traces.reading import Unread, chosen

    unread, shown = Unread(), 0
    try:
        for found in islice(chosen(records, choice, unread), limit):
            _show(found, as_tree=as_tree, as_json=as_json)
            shown += 1
    finally:
        _say_unread(unread)
    return shown


def _show(found: FoundTrace, *, as_tree: bool, as_json: bool) -> None:
    from stream.traces.tree import trace_tree
    from stream.traces.words import trace_line

    record, trace = found
    if as_json:
        write_json_line(record.value.decode("utf-8", errors="replace"))
    elif as_tree:
        show_tree(trace_tree(trace))
    else:
        line(trace_line(trace, record.timestamp_ms), flush=True)


def _say_unread(unread: Unread) -> None:
    if unread.count:
        note(f"({counted(unread.count, 'record')} could not be read; the first: {unread.first})", style="dim")
