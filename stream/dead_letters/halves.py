"""Sends halves that are dead letters to their topics again.

A half goes back as it was: key, value, and the header `traceparent`. `plan` says what becomes of a record. `replay`
reads, sends, and appends what was acknowledged to `dead-letter` (`core.settlements`), so the next run leaves it out. A
run that is killed in between sends up to a thousand halves again. That is harmless: the join and the order ignore an
image version that they have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Container, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice

from core.dead_letters import DeadLetter, Reason, parse_dead_letter
from core.errors import BadInputError
from core.settlements import Kind, Settlement, ranges_of
from stream.dead_letters.choice import DeadLetterChoice
from stream.dead_letters.settling import SettlementSender, appender
from stream.topic_reader import TopicRecord

__all__ = ["EXPIRED", "Fate", "ReplayReport", "plan", "replay"]

EXPIRED = frozenset({Reason.MISSING_SEARCH_HALF, Reason.MISSING_SCORE_HALF, Reason.TOO_MANY_VERSIONS})
"""The reasons of halves with which nothing is wrong."""

OF_IMAGES = frozenset({Reason.REFUSED, Reason.FAULTED})
"""The reasons of images that have their place already, so that only a new decision helps."""

CHUNK = 1_000
"""Records that are read, and their halves sent, before a settlement is appended."""

CHUNK_BYTES = 16_777_216
"""A chunk ends with the record that reaches this size."""

NAMED = 20
"""How many truncated dead letters a report names."""


class Fate(StrEnum):
    """What a replay does with a record of `dead-letter`."""

    SENT = "sent"
    SETTLED = "settled"
    """An earlier replay sent it, or a person has settled it."""
    LEFT_OUT = "left out"
    """It is not among the chosen ones."""
    NOT_NAMED = "not named"
    """Something was wrong with it; it is sent only if its reason is named."""
    WAITING = "waiting"
    """Its image has a place, and waits for the replay of images."""
    TRUNCATED = "truncated"
    """Only its beginning was kept."""
    NO_HALF = "no half"
    """It came from another topic, or stands for lost records."""
    NO_DEAD_LETTER = "no dead letter"


@dataclass(slots=True)
class ReplayReport:
    """What became of the records so far. `counts[Fate.SENT]` is what Kafka has acknowledged."""

    counts: Counter[Fate] = field(default_factory=Counter)
    reasons: Counter[tuple[Fate, Reason]] = field(default_factory=Counter)
    truncated: list[str] = field(default_factory=list)
    """The first `NAMED` of them: reason and where they lay."""

    def add(self, fate: Fate, dead: DeadLetter | None) -> None:
        """Counts one record."""
        self.counts[fate] += 1
        if dead is None:
            return
        self.reasons[fate, dead.reason] += 1
        if fate is Fate.TRUNCATED and len(self.truncated) < NAMED:
            source = dead.source
            self.truncated.append(f"{dead.reason} {source.topic}/{source.partition}/{source.offset}")


def plan(
    record: TopicRecord, choice: DeadLetterChoice, settled: Container[int], half_topics: Collection[str]
) -> tuple[Fate, DeadLetter | None]:
    """What is to be done with a record of `dead-letter`, and the dead letter in it.

    Args:
        record: As it lies there.
        choice: Which dead letters are chosen.
        settled: The offsets of those that are not sent again.
        half_topics: The topics that halves come from.
    """
    try:
        dead = parse_dead_letter(record.value)
    except BadInputError:
        return Fate.NO_DEAD_LETTER, None
    return _fate(record, dead, choice, settled, half_topics), dead


def _fate(
    record: TopicRecord,
    dead: DeadLetter,
    choice: DeadLetterChoice,
    settled: Container[int],
    half_topics: Collection[str],
) -> Fate:
    if not choice.takes(record, dead):
        return Fate.LEFT_OUT
    if dead.reason in OF_IMAGES:
        return Fate.SETTLED if record.offset in settled else Fate.WAITING
    if dead.source.topic not in half_topics or dead.reason is Reason.LOST:
        return Fate.NO_HALF
    if not choice.reasons and dead.reason not in EXPIRED:
        return Fate.NOT_NAMED
    if record.offset in settled:
        return Fate.SETTLED
    return Fate.TRUNCATED if dead.truncated else Fate.SENT


def replay(
    records: Iterator[TopicRecord],
    planned: Callable[[TopicRecord], tuple[Fate, DeadLetter | None]],
    sender: SettlementSender | None,
    dead_letter_topic: str,
    report: ReplayReport,
) -> None:
    """Sends what is planned to be sent, chunk by chunk, and counts into the report.

    Args:
        records: Of `dead-letter`, in order.
        planned: `plan` for one record.
        sender: None: nothing is sent.
        dead_letter_topic: Where settlements go.
        report: Is added to after each chunk, so that it is true also when an error ends the replay.

    Raises:
        UnavailableError: Kafka did not take all of a chunk. What was counted before is safe.
    """
    while chunk := list(_chunk(records)):
        fates = [(record, *planned(record)) for record in chunk]
        halves = [(record, dead) for record, fate, dead in fates if fate is Fate.SENT and dead is not None]
        if sender is not None and halves:
            for record, half in halves:
                sender.send_raw(half.source.topic, record.key, half.payload, _headers(record.headers))
            sender.flush()
            ranges = tuple(ranges_of(record.offset for record, _ in halves))
            done = Settlement(Kind.REPLAYED, f"{len(halves)} sent to their topics", ranges)
            appender(sender, dead_letter_topic)(done)
        for _, fate, dead in fates:
            report.add(fate, dead)


def _chunk(records: Iterator[TopicRecord]) -> Iterator[TopicRecord]:
    size = 0
    for record in islice(records, CHUNK):
        yield record
        size += len(record.value)
        if size >= CHUNK_BYTES:
            return


def _headers(of_dead_letter: Mapping[str, bytes]) -> list[tuple[str, bytes]] | None:
    """Of the half: its trace context, which its dead letter carries on."""
    trace = of_dead_letter.get("traceparent")
    return [("traceparent", trace)] if trace else None
