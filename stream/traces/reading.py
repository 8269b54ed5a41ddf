"""Finds traces in their topic. Memory is bounded whatever the topic holds: records are read and dropped one by one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from core.errors import BadInputError
from core.traces import Trace
from stream.topic_reader import TopicRecord
from stream.traces.choice import TraceChoice

__all__ = ["FoundTrace", "TraceSource", "Unread", "chosen", "newest"]

FIRST_WINDOW = 2_000
"""So many offsets are read first to find the newest traces, then twice as many each time: an image that was decided a
moment ago is found at once, one of last week in about one reading of the topic."""

FoundTrace = tuple[TopicRecord, Trace]
"""A record of the topic, and the trace in it."""


class TraceSource(Protocol):
    """The topic (`stream.topic_reader.TopicReader`)."""

    def between(self, at: int, end: int) -> Iterator[TopicRecord]:
        """The records from an offset on that lie before another, in order."""
        ...


class Unread:
    """Counts records that this release does not read: of a later format, or no traces."""

    def __init__(self) -> None:
        self.count = 0
        self.first = ""
        """What is wrong with the first of them."""

    def add(self, error: BadInputError) -> None:
        """One more."""
        self.count += 1
        self.first = self.first or str(error)


def chosen(records: Iterator[TopicRecord], choice: TraceChoice, unread: Unread) -> Iterator[FoundTrace]:
    """The chosen traces among some records, in order, as they are read."""
    for record in records:
        try:
            trace = choice.read(record)
        except BadInputError as error:
            unread.add(error)
            continue
        if trace is not None:
            yield record, trace


def newest(
    source: TraceSource,
    first: int,
    end: int,
    choice: TraceChoice,
    count: int,
    unread: Unread,
    on_progress: Callable[[int], None] = lambda records: None,
) -> list[FoundTrace]:
    """The newest chosen traces, oldest first. The topic is read backwards, window by window, until there are enough.

    Args:
        source: The topic.
        first: The first offset that is looked at.
        end: One after the last.
        choice: Which traces.
        count: How many, at most.
        unread: Counts what cannot be read.
        on_progress: Called with the number of offsets that are done.
    """
    found: deque[FoundTrace] = deque()
    window, upper = FIRST_WINDOW, end
    while upper > first and len(found) < count:
        lower = max(first, upper - window)
        kept = deque(chosen(source.between(lower, upper), choice, unread), maxlen=count - len(found))
        found.extendleft(reversed(kept))
        upper, window = lower, 2 * window
        on_progress(end - upper)
    return list(found)
