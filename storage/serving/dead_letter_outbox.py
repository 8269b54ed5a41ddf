"""Publishes the dead letters that were stored with the decisions on their records, at least once.

A dead letter is written together with the decision, in one write. So a record that could not be scored never has a
verdict without a dead letter. One may be published twice; readers know a repeat by the topic, partition and offset in
it.

A broker may lose what it has acknowledged, if a power cut comes before the system has written it to disk. So a dead
letter stays in the store until that time is over and the topic still has it. Else it is sent again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from crc32c import crc32c

from core.dead_letters import within
from core.types import DeadLetterRecord
from storage.interfaces import ClusterStore
from storage.serving.assignments import HEADERS, Message
from storage.serving.publish_loop import LoopTimes, PublishLoop
from storage.serving.sender import Connection, Sender
from storage.serving.topic_loss import lies_there

__all__ = ["DeadLetterListener", "DeadLetterOutbox"]

log = logging.getLogger(__name__)

CHUNK_BYTES = 524_288
"""A chunk ends with the dead letter that reaches this size."""

CHUNK = 100
"""Dead letters of one chunk, at most."""

HOLD_S = 60.0
"""A dead letter is removed so long after it was acknowledged. Linux writes a page to disk after 35 s at most."""

PAUSE_S = 0.5
"""Between two looks into a store that is written to, and between two attempts."""

HEADROOM_BYTES = 1_024
"""What Kafka's record needs beside key and value."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A dead letter that was acknowledged."""

    offset: int
    """Of its message."""
    checksum: int
    """CRC-32C of its value."""
    since: float


class DeadLetterListener(Protocol):
    """Is told of progress and failures: metrics."""

    def dead_letters_published(self, count: int, truncated: int) -> None:
        """So many more are acknowledged; of so many the topic took only the beginning of the record."""
        ...

    def publish_failed(self) -> None:
        """An attempt failed and will be tried again."""
        ...


class DeadLetterOutbox:
    """The loop, on its own thread between `start` and `stop`."""

    def __init__(
        self,
        store: ClusterStore,
        open_sender: Callable[[], Sender],
        listener: DeadLetterListener,
        max_message_bytes: int,
        pause_s: float = PAUSE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepares the loop.

        Args:
            store: Has the dead letters.
            open_sender: Connects, or raises `UnavailableError`.
            listener: Is told of progress and failures.
            max_message_bytes: The largest message that the topic takes. The payload of a larger dead letter is cut.
            pause_s: Between two looks, and between two attempts.
            clock: Seconds that only grow.
        """
        self._store = store
        self._connection = Connection(open_sender)
        self._listener = listener
        self._limit_bytes = max_message_bytes - HEADROOM_BYTES
        self._clock = clock
        self._held: dict[int, _Held] = {}
        """What was acknowledged and is still in the store, by the offset of the rejected record."""
        self._loop = PublishLoop(
            "dead-letter-outbox",
            self.publish_available,
            listener.publish_failed,
            lambda: "waits with dead letters",
            self._connection.close,
            LoopTimes(pause_s, pause_s, pause_s),
        )
        store.on_apply(lambda state: self._loop.wake())

    def start(self) -> None:
        """Starts the loop."""
        self._loop.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ends the loop after the current chunk, or after `timeout_s` seconds."""
        self._loop.stop(timeout_s)

    def publish_available(self) -> int:
        """Sends one chunk, and removes what was sent long enough ago; returns how many dead letters it has sent.

        Raises:
            UnavailableError: Sending failed, or the store cannot be read or written. Try again later.
        """
        self._confirm()
        with self._store.snapshot() as view:
            chunk = list(_chunk(view.dead_letters(max(self._held, default=-1))))
        if not chunk:
            return 0
        messages = [self._message(*one) for one in chunk]
        at = self._connection.use(lambda sender: sender.send(messages, self._loop.stopping))
        now = self._clock()
        for message, offset in zip(messages, at, strict=True):
            self._held[message.number] = _Held(offset, crc32c(message.value), now)
        truncated = sum(message.value != record.value for message, (_, record) in zip(messages, chunk, strict=True))
        self._listener.dead_letters_published(len(chunk), truncated)
        return len(chunk)

    def _confirm(self) -> None:
        """Removes the dead letters that the broker has had for long enough, if the topic has the last of them."""
        until = self._clock() - HOLD_S
        due = {number: held for number, held in self._held.items() if held.since <= until}
        if not due:
            return
        last = max(due.values(), key=lambda held: held.offset)
        if not self._connection.use(lambda sender: _has(sender, last)):
            log.warning(
                "the topic of dead letters has lost what was acknowledged at offset %d: %d dead letters are sent again",
                last.offset,
                len(self._held),
            )
            self._held = {}
            return
        self._store.remove_dead_letters(list(due))
        for number in due:
            del self._held[number]

    def _message(self, offset: int, record: DeadLetterRecord) -> Message:
        headers = [*HEADERS, ("traceparent", record.traceparent)] if record.traceparent else HEADERS
        return Message(offset, record.key, within(record.value, self._limit_bytes - len(record.key)), headers)


def _chunk(waiting: Iterator[tuple[int, DeadLetterRecord]]) -> Iterator[tuple[int, DeadLetterRecord]]:
    size = 0
    for offset, record in islice(waiting, CHUNK):
        yield offset, record
        size += len(record.key) + len(record.value)
        if size >= CHUNK_BYTES:
            return


def _has(sender: Sender, held: _Held) -> bool:
    with sender.look() as topic:
        return lies_there(topic, held.offset, lambda value: crc32c(value) == held.checksum)
