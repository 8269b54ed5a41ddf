"""Publishes the dead letters that were stored with the decisions on their records, at least once.

A dead letter is written together with the decision, in one write, and removed once Kafka has acknowledged it. So a
record that could not be scored never has a verdict without a dead letter. One may be published twice; readers know a
repeat by the topic, partition and offset in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Protocol

from core.dead_letters import within
from core.errors import UnavailableError
from core.types import DeadLetterRecord
from storage.interfaces import ClusterStore
from storage.serving.assignments import HEADERS, Message
from storage.serving.publish_loop import PublishLoop

__all__ = ["DeadLetterListener", "DeadLetterOutbox", "DeadLetterSender"]

CHUNK_BYTES = 524_288
"""A chunk ends with the dead letter that reaches this size."""

CHUNK = 100
"""Dead letters of one chunk, at most."""

PAUSE_S = 0.5
"""Between two looks into a store that is written to, and between two attempts."""

HEADROOM_BYTES = 1_024
"""What Kafka's record needs beside key and value."""


class DeadLetterSender(Protocol):
    """Sends messages. `storage.serving.publisher.KafkaSender` is one."""

    def send(self, messages: Sequence[Message], stopping: Callable[[], bool]) -> None:
        """As `storage.serving.outbox.Sender.send`."""
        ...

    def close(self) -> None:
        """Closes the connection without waiting."""
        ...


class DeadLetterListener(Protocol):
    """Is told of progress and failures: metrics."""

    def dead_letters_published(self, count: int) -> None:
        """So many more are acknowledged."""
        ...

    def publish_failed(self) -> None:
        """An attempt failed and will be tried again."""
        ...


class DeadLetterOutbox:
    """The loop, on its own thread between `start` and `stop`."""

    def __init__(
        self,
        store: ClusterStore,
        open_sender: Callable[[], DeadLetterSender],
        listener: DeadLetterListener,
        max_message_bytes: int,
        pause_s: float = PAUSE_S,
    ) -> None:
        """Prepares the loop.

        Args:
            store: Has the dead letters.
            open_sender: Connects, or raises `UnavailableError`.
            listener: Is told of progress and failures.
            max_message_bytes: The largest message that the topic takes. The payload of a larger dead letter is cut.
            pause_s: Between two looks, and between two attempts.
        """
        self._store = store
        self._open_sender = open_sender
        self._listener = listener
        self._limit_bytes = max_message_bytes - HEADROOM_BYTES
        self._sender: DeadLetterSender | None = None
        self._loop = PublishLoop(
            "dead-letter-outbox",
            self.publish_available,
            listener.publish_failed,
            lambda: "waits with dead letters",
            self._close_sender,
            backoff_s=(pause_s, pause_s),
            pause_s=pause_s,
        )
        store.on_apply(lambda state: self._loop.wake())

    def start(self) -> None:
        """Starts the loop."""
        self._loop.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ends the loop after the current chunk, or after `timeout_s` seconds."""
        self._loop.stop(timeout_s)

    def publish_available(self) -> int:
        """Sends one chunk and removes it from the store; returns how many dead letters it had.

        Raises:
            UnavailableError: Sending failed, or the store cannot be read or written. Try again later.
        """
        with self._store.snapshot() as view:
            chunk = list(_chunk(view.dead_letters()))
        if not chunk:
            return 0
        if self._sender is None:
            self._sender = self._open_sender()
        try:
            self._sender.send([self._message(*one) for one in chunk], self._loop.stopping)
        except UnavailableError:
            sender, self._sender = self._sender, None
            sender.close()
            raise
        self._store.remove_dead_letters([offset for offset, _ in chunk])
        self._listener.dead_letters_published(len(chunk))
        return len(chunk)

    def _message(self, offset: int, record: DeadLetterRecord) -> Message:
        headers = [*HEADERS, ("traceparent", record.traceparent)] if record.traceparent else HEADERS
        return Message(offset, record.key, within(record.value, self._limit_bytes - len(record.key)), headers)

    def _close_sender(self) -> None:
        if self._sender is not None:
            self._sender.close()


def _chunk(waiting: Iterator[tuple[int, DeadLetterRecord]]) -> Iterator[tuple[int, DeadLetterRecord]]:
    size = 0
    for offset, record in islice(waiting, CHUNK):
        yield offset, record
        size += len(record.key) + len(record.value)
        if size >= CHUNK_BYTES:
            return
