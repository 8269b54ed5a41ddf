"""How many dead letters of each reason are open, kept up to date while the topic grows. It takes a byte a record."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from core.dead_letters import Reason, parse_dead_letter
from core.errors import BadInputError, ServiceError
from core.settlements import parse_settlement
from stream.topic_reader import TopicRecord

__all__ = ["DeadLetterFollower", "DeadLetterSource", "OpenLedger"]

log = logging.getLogger(__name__)

LOOK_S = 5.0
"""Between two looks at the topic."""

_REASONS = tuple(Reason)
_NOTHING = 0
"""The code of a record that is settled, or no dead letter. Reason number n has the code n + 1."""


class OpenLedger:
    """The open dead letters among the records of a topic, which come in order."""

    def __init__(self) -> None:
        """Nothing was read."""
        self._first = 0
        self._codes = bytearray()
        self._open: Counter[int] = Counter()

    @property
    def next_offset(self) -> int:
        """One after the last record."""
        return self._first + len(self._codes)

    def add(self, record: TopicRecord) -> None:
        """Takes the next record. Offsets may leave gaps."""
        if not self._codes:
            self._first = record.offset
        self._codes.extend(bytes(record.offset - self.next_offset))  # markers of transactions
        self._codes.append(self._code(record))
        self._open[self._codes[-1]] += 1

    def forget_before(self, offset: int) -> None:
        """Records before this offset are gone from the topic."""
        gone = min(max(0, offset - self._first), len(self._codes))
        self._open.subtract(self._codes[:gone])
        del self._codes[:gone]
        self._first += gone

    def open(self) -> dict[Reason, int]:
        """How many of each reason are open; every reason is there."""
        return {reason: max(0, self._open[number + 1]) for number, reason in enumerate(_REASONS)}

    def _code(self, record: TopicRecord) -> int:
        settlement = parse_settlement(record.value)
        if settlement is not None:
            for first, last in settlement.ranges:
                self._settle(first, last)
            return _NOTHING
        try:
            return _REASONS.index(parse_dead_letter(record.value).reason) + 1
        except BadInputError:
            return _NOTHING

    def _settle(self, first: int, last: int) -> None:
        start, end = max(0, first - self._first), max(0, min(last + 1 - self._first, len(self._codes)))
        if start < end:
            self._open.subtract(self._codes[start:end])
            self._codes[start:end] = bytes(end - start)


class DeadLetterSource(Protocol):
    """The topic (`stream.topic_reader.TopicReader`)."""

    def ends(self) -> tuple[int, int]:
        """The first offset that is left, and the one that the next record will get."""
        ...

    def between(self, at: int, end: int) -> Iterator[TopicRecord]:
        """The records from an offset on that lie before another, in order."""
        ...


class DeadLetterFollower:
    """Reads `dead-letter` on a thread of its own, and shows what is open after each look."""

    def __init__(
        self,
        connect: Callable[[], AbstractContextManager[DeadLetterSource]],
        show: Callable[[Mapping[Reason, int]], None],
        stop: threading.Event,
    ) -> None:
        """Connects to nothing yet.

        Args:
            connect: Opens the topic, or raises `UnavailableError`.
            show: Takes the open dead letters by reason.
            stop: Ends it.
        """
        self._connect = connect
        self._show = show
        self._stop = stop
        self._ledger = OpenLedger()
        self._said = ""

    def start(self) -> None:
        """Starts the thread. It does not keep the process alive."""
        threading.Thread(target=self.follow, name="dead-letters", daemon=True).start()

    def follow(self) -> None:
        """Follows until it is stopped. After an error it connects again and goes on."""
        while not self._stop.is_set():
            try:
                with self._connect() as topic:
                    while not self._stop.is_set():
                        self._look(topic)
                        self._said = ""
                        self._stop.wait(LOOK_S)
            except ServiceError as error:
                if str(error) != self._said:
                    log.warning("open dead letters cannot be counted: %s", error)
                self._said = str(error)
                self._stop.wait(LOOK_S)

    def _look(self, topic: DeadLetterSource) -> None:
        first, end = topic.ends()
        if end < self._ledger.next_offset:  # the topic lost its end, or was made anew
            self._ledger = OpenLedger()
        self._ledger.forget_before(first)
        for record in topic.between(max(first, self._ledger.next_offset), end):
            if self._stop.is_set():
                return
            self._ledger.add(record)
        self._show(self._ledger.open())
