"""Brings an index up to the end of the order, by applying the records as the job does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from core.dead_letters import BadRecord, Reason
from core.errors import RefusedError
from core.notifications import decode_joined
from core.types import LogPosition
from operators.decided import Decided, drop_needless_images, stretches
from search.index.interface import Record, TermIndex
from search.serving.log_entries import log_entry, skip_entry
from search.serving.request_parser import RequestParser
from stream.start_plan import Log, starting_position

__all__ = ["OrderedLog", "catch_up", "check_log"]

ROUNDS = 5
"""How often the order is read to its end; it grows meanwhile, and the job sends the last records anyway."""


class OrderedLog(Protocol):
    """The topic `joined`, read from outside of the job, by position."""

    def log(self) -> Log:
        """Its topic id, base, first and next position, as of now."""
        ...

    def checksum(self, position: int) -> int | None:
        """CRC-32C of a record; None when it is gone or not there yet."""
        ...

    def read(self, start: int, end: int) -> Iterator[Sequence[tuple[int, bytes]]]:
        """The records from `start` to before `end`, in batches: position and payload."""
        ...


def check_log(position: LogPosition, joined: OrderedLog) -> None:
    """Makes sure that an index with this position can go on from the order.

    Raises:
        MismatchError: It is another order, or the records that follow are gone; the message has both values.
    """
    starting_position(joined.log(), {"the source of the build": position}, joined.checksum)


def catch_up(
    index: TermIndex,
    joined: OrderedLog,
    parser: RequestParser,
    decided: Decided | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Applies the records after the index's position, up to the end of the order or close to it.

    Args:
        index: The index.
        joined: The order.
        parser: Checks and hashes the records.
        decided: What storage has decided on them; None: nothing, or not known.
        on_progress: Called with the number of records applied and the number to apply.

    Raises:
        MismatchError: The index cannot go on from there.
        UnavailableError: The order cannot be read, or the index cannot be written.
    """
    check_log(index.position, joined)
    done = 0
    for _ in range(ROUNDS):
        log, start = joined.log(), index.position.offset + 1
        if start >= log.end:
            return
        total = done + log.end - start
        for records in joined.read(start, log.end):
            _apply(index, log.topic_id, records, parser, decided)
            done += len(records)
            if on_progress is not None:
                on_progress(done, total)


def _apply(
    index: TermIndex,
    log_id: str,
    payloads: Sequence[tuple[int, bytes]],
    parser: RequestParser,
    decided: Decided | None,
) -> None:
    """Applies records; an unscored image is hidden as soon as it is placed."""
    records = _records(payloads, parser, decided)
    if decided is None:
        index.insert_and_search(log_id, records)
        return
    for part, place in stretches(records[0].offset, len(records), decided.unscored(records[-1].offset)):
        index.insert_and_search(log_id, records[part])
        if place is not None:
            index.hide(place)
            decided.hidden(place)


def _records(
    payloads: Sequence[tuple[int, bytes]], parser: RequestParser, decided: Decided | None = None
) -> list[Record]:
    """The records for the index; a refused record is skipped, as in the job."""
    decoded = {offset: decode_joined(payload) for offset, payload in payloads}
    entries = {offset: log_entry(offset, payload, decoded[offset]) for offset, payload in payloads}
    if decided is not None:
        drop_needless_images(entries.values(), decided)
    raw = dict(payloads)
    while True:
        try:
            return parser.records(list(entries.values()))
        except RefusedError as error:
            if error.offset is None:
                raise
            bad = BadRecord(Reason.REFUSED, str(error))
            entries[error.offset] = skip_entry(error.offset, raw[error.offset], decoded[error.offset], bad)
