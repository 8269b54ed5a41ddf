"""Appends acknowledgements to `dead-letter`: a person says that nothing more is to be done about some dead letters.

A run that is broken off has acknowledged what it appended. Another run leaves that out and goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from core.dead_letters import Reason, parse_dead_letter
from core.errors import BadInputError
from core.settlements import Kind, Settlement, ranges_of, settlement_bytes
from stream.dead_letters.choice import DeadLetterChoice, Settlements
from stream.topic_reader import TopicRecord

__all__ = [
    "SETTLEMENT_HEADERS",
    "Acknowledgement",
    "SettlementSender",
    "SettlingReport",
    "acknowledge",
    "appender",
    "checked_offsets",
]

CHUNK = 1_000
"""Dead letters that one record acknowledges, at most."""

TEXT_LIMIT = 1_000
"""The characters of an author or of a reason."""

SETTLEMENT_HEADERS = [("content-type", b"application/json"), ("schema-version", b"1")]
"""The Kafka headers of a settlement."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Who settles, and why.

    Raises:
        BadInputError: One of them is empty or too long.
    """

    author: str
    reason: str

    def __post_init__(self) -> None:
        for name, text in (("author", self.author), ("reason", self.reason)):
            if not 1 <= len(text.strip()) <= TEXT_LIMIT:
                hint = ": give --author" if name == "author" and not text else ""
                raise BadInputError(
                    f"the {name} of a settlement has 1 to {TEXT_LIMIT} characters, not {len(text)}{hint}"
                )


@dataclass(slots=True)
class SettlingReport:
    """What was acknowledged; Kafka has it."""

    reasons: Counter[Reason] = field(default_factory=Counter)
    settled_before: int = 0

    @property
    def settled(self) -> int:
        """How many are acknowledged now that were open before."""
        return sum(self.reasons.values())


class SettlementSender(Protocol):
    """Sends records, and says when all of them are acknowledged (`stream.publish.Publisher`)."""

    def send_raw(self, topic: str, key: bytes, value: bytes, headers: list[tuple[str, bytes]] | None = None) -> None:
        """Sends one record; returns before it is acknowledged."""
        ...

    def flush(self) -> None:
        """Returns when all records are acknowledged.

        Raises:
            UnavailableError: One was not.
        """
        ...


def acknowledge(
    records: Iterable[TopicRecord],
    choice: DeadLetterChoice,
    settled: Settlements,
    by: Acknowledgement,
    append: Callable[[Settlement], None] | None,
    report: SettlingReport,
) -> None:
    """Acknowledges the open dead letters that are chosen.

    Args:
        records: Of `dead-letter`, in order.
        choice: Which dead letters.
        settled: What is settled already.
        by: Who, and why.
        append: Appends one settlement to the topic and returns when Kafka has it. None: nothing is written.
        report: Is added to after each settlement, so that it is true also when an error ends the run.

    Raises:
        UnavailableError: Kafka did not take a settlement. What was counted before is safe.
    """
    chunk: list[tuple[int, Reason]] = []

    def flush() -> None:
        if append is not None and chunk:
            ranges = tuple(ranges_of(offset for offset, _ in chunk))
            append(Settlement(Kind.ACKNOWLEDGED, f"{len(chunk)} settled by hand", ranges, by.author, by.reason))
        report.reasons.update(reason for _, reason in chunk)
        chunk.clear()

    for record in records:
        try:
            dead = parse_dead_letter(record.value)
        except BadInputError:
            continue
        if not choice.takes(record, dead):
            continue
        if record.offset in settled:
            report.settled_before += 1
            continue
        chunk.append((record.offset, dead.reason))
        if len(chunk) >= CHUNK:
            flush()
    flush()


def appender(sender: SettlementSender, topic: str) -> Callable[[Settlement], None]:
    """Appends settlements to a topic; each is acknowledged on return."""

    def append(settlement: Settlement) -> None:
        sender.send_raw(topic, b"", settlement_bytes(settlement), SETTLEMENT_HEADERS)
        sender.flush()

    return append


def checked_offsets(records: Iterable[TopicRecord], wanted: frozenset[int]) -> None:
    """Checks that each wanted offset is a dead letter.

    Raises:
        BadInputError: Some are not; the message names the first of them.
    """
    found = set()
    for record in records:
        if record.offset in wanted:
            try:
                parse_dead_letter(record.value)
            except BadInputError:
                continue
            found.add(record.offset)
    missing = sorted(wanted - found)
    if missing:
        raise BadInputError(
            f"there is no dead letter at {', '.join(map(str, missing[:5]))}: `neardup dead-letters list` shows offsets"
        )
