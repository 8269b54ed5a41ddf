"""The options that choose dead letters, and the connection to their topic, for every command about them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.cli.choices import ids_of, reason_of, since_ms
from stream.cli.context import CommandContext
from stream.cli.output import progress_bar

if TYPE_CHECKING:
    from rich.progress import Progress

    from core.dead_letters import DeadLetter
    from stream.dead_letters.choice import DeadLetterChoice, Settlements
    from stream.settings import Signal
    from stream.topic_reader import TopicReader, TopicRecord

__all__ = ["DeadLetterTopic", "IdsFile", "Images", "Reasons", "Since", "Until", "choice_of", "opened"]

LONG = 10_000
"""Reading more records than these comes with a bar."""

STEP = 1_000
"""The bar moves after so many."""

Reasons = Annotated[
    list[str] | None,
    typer.Option("--reason", metavar="REASON", help="Only those with this reason; may be given several times."),
]
Since = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only those rejected since then: 90m, 2h, 7d, or an ISO time (UTC).")
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Only those rejected before then, in the same forms.")]
Images = Annotated[
    list[str] | None,
    typer.Option("--image", metavar="IMAGE_ID", help="Only those of this image; may be given several times."),
]
IdsFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Only those of the images in this file, one id a line.")
]


def choice_of(
    reasons: list[str] | None, since: str | None, until: str | None, images: list[str] | None, ids_file: Path | None
) -> DeadLetterChoice:
    """What the options choose.

    Raises:
        BadInputError: One of them is not valid.
    """
    from stream.dead_letters.choice import DeadLetterChoice

    now_s, ids = time.time(), frozenset(each.encode("utf-8", "surrogateescape") for each in images or ())
    if ids_file is not None:
        ids |= ids_of(ids_file)
    return DeadLetterChoice(
        [reason_of(each) for each in reasons or ()],
        0 if since is None else since_ms(since, now_s),
        None if until is None else since_ms(until, now_s, "--until"),
        ids if images or ids_file is not None else None,
    )


class DeadLetterTopic:
    """The topic `dead-letter` of a signal, as of one moment."""

    def __init__(self, reader: TopicReader, signal_name: str, signal: Signal, parts: ExitStack) -> None:
        """Takes the connection; a bar of what is read ends with `parts`."""
        self.reader = reader
        self._parts = parts
        self._bar: Progress | None = None
        self.name = signal.topic("dead_letter")
        self.signal_name = signal_name
        self.half_topics = (signal.topic("search"), signal.topic("score"))
        self.joined_topic = signal.topic("joined")
        self.replay_topic = signal.topic("replay")
        self.first, self.end = reader.ends()

    def begin_at(self, time_ms: int) -> None:
        """Leaves out what was rejected before a time. Settlements lie behind what they settle."""
        if time_ms > 0:
            self.first = min(self.end, max(self.first, self.reader.offset_at(time_ms)))

    def records(self, what: str = "reading") -> Iterator[TopicRecord]:
        """All records, in order; `what` is done with them."""
        return self.between(self.first, self.end, what)

    def between(self, first: int, end: int, what: str = "reading") -> Iterator[TopicRecord]:
        """The records from an offset on that lie before another. Many of them come with a bar."""
        first, end = max(first, self.first), min(end, self.end)
        records = self.reader.between(first, end)
        return records if end - first <= LONG else self._with_bar(records, first, end, what)

    def _with_bar(self, records: Iterator[TopicRecord], first: int, end: int, what: str) -> Iterator[TopicRecord]:
        if self._bar is None:
            self._bar = self._parts.enter_context(progress_bar(time_left=True))
        task = self._bar.add_task(what, total=end - first, note="")
        for record in records:
            yield record
            if record.offset % STEP == 0:
                self._bar.update(task, completed=record.offset - first)
        self._bar.update(task, completed=end - first)

    def payload(self, dead: DeadLetter) -> dict[str, Any]:
        """What is in a dead letter, decoded as far as it goes."""
        from stream.dead_letters.payloads import decode_payload

        return decode_payload(dead, self.half_topics, self.joined_topic, self.replay_topic).as_json()

    def settlements(self) -> Settlements:
        """What is settled."""
        from stream.dead_letters.choice import settled_in

        return settled_in(self.records("reading what is settled"))


@contextmanager
def opened(context: CommandContext, signal: str | None, since_ms: int = 0) -> Iterator[DeadLetterTopic]:
    """Connects to the topic of a signal.

    Args:
        context: The command's options.
        signal: The signal's name.
        since_ms: What was rejected before is left out.
    """
    from stream.interrupts import interruptible
    from stream.names import client_id
    from stream.topic_reader import TopicReader

    settings = context.settings()
    name, chosen = settings.signal(signal)
    access, topic = settings.kafka_access(client_id(name, "dead-letters")), chosen.topic("dead_letter")
    with interruptible(), TopicReader(access, topic) as reader, ExitStack() as parts:
        found = DeadLetterTopic(reader, name, chosen, parts)
        found.begin_at(since_ms)
        yield found
