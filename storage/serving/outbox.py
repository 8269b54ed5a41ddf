"""The outbox: publishes the history entries in order, at least once, from a stored position.

A loop reads the entries after the position, sends them in chunks, and stores the new position once a whole chunk is
acknowledged. A write to the store wakes the loop. When sending fails, it warns once, waits, and resumes after the last
acknowledged entry. No entry is skipped; a chunk may be sent twice.

A broker may lose what it has acknowledged. So each new sender is asked how far the topic goes, and what is missing is
sent again. If the topic was cut while a sender was in use, the new messages come before the missing ones; all of them
are then sent again, in order.

Numbers begin again with a new or a restored store. So each store publishes in an epoch of its own, which begins when
the first sender is opened. A store that finds messages of a later epoch was put back: it begins another epoch, and
publishes all of its history again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Protocol

from core.errors import UnavailableError
from storage.epochs import is_newer, new_epoch
from storage.interfaces import ClusterStore
from storage.records import StoreEpoch, StoreState
from storage.serving.assignments import Message, message_of
from storage.serving.publish_loop import PublishLoop
from storage.serving.topic_end import LastMessage

__all__ = ["Outbox", "OutboxListener", "OutboxSettings", "Sender", "TopicCutError"]

log = logging.getLogger(__name__)


class TopicCutError(UnavailableError):
    """The topic has lost messages that were acknowledged; `kept` is the last one before the gap."""

    def __init__(self, message: str, kept: LastMessage | None) -> None:
        super().__init__(message)
        self.kept = kept


class Sender(Protocol):
    """Sends messages."""

    def last(self) -> LastMessage | None:
        """The topic's last message; None: it is not known.

        Raises:
            UnavailableError: The topic cannot be read. The sender must not be used again.
        """
        ...

    def send(self, messages: Sequence[Message], stopping: Callable[[], bool]) -> None:
        """Returns once all messages are acknowledged, in order.

        Args:
            messages: Sent in this order.
            stopping: Asked now and then. Once it is true, the sender may give up with an `UnavailableError`.

        Raises:
            UnavailableError: Not all are known to be acknowledged. The sender must not be used again.
            TopicCutError: The same, and the topic has lost earlier messages.
        """
        ...

    def close(self) -> None:
        """Closes the connection without waiting."""
        ...


class OutboxListener(Protocol):
    """Is told of progress and failures: metrics."""

    def published(self, number: int) -> None:
        """All entries up to `number` are acknowledged."""
        ...

    def publish_failed(self) -> None:
        """An attempt failed and will be tried again."""
        ...


@dataclass(frozen=True, slots=True)
class OutboxSettings:
    """Sizes and waits of the loop."""

    chunk_entries: int = 500
    chunk_bytes: int = 262_144
    """A chunk ends with the entry that reaches this size. It must fit into one request of the sender."""
    backoff_first_s: float = 0.1
    backoff_max_s: float = 1.0


class Outbox:
    """The loop, on its own thread between `start` and `stop`."""

    def __init__(
        self,
        store: ClusterStore,
        open_sender: Callable[[], Sender],
        listener: OutboxListener,
        settings: OutboxSettings | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 10**6,
    ) -> None:
        """Prepares the loop.

        Args:
            store: Has the history and the position.
            open_sender: Connects, or raises `UnavailableError`.
            listener: Is told of progress and failures.
            settings: Sizes and waits.
            now_ms: Milliseconds since 1970.
        """
        self._now_ms = now_ms
        self._store = store
        self._open_sender = open_sender
        self._listener = listener
        self._settings = settings or OutboxSettings()
        self._sender: Sender | None = None
        self._epoch = store.epoch()
        self._published = self._stored = store.published()
        self._loop = PublishLoop(
            "outbox",
            self.publish_available,
            listener.publish_failed,
            lambda: f"waits after history entry {self._published}",
            self._close_sender,
            backoff_s=(self._settings.backoff_first_s, self._settings.backoff_max_s),
        )
        store.on_apply(self._wake)

    def start(self) -> None:
        """Starts the loop at the stored position."""
        self._loop.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ends the loop after the current chunk, or after `timeout_s` seconds."""
        self._loop.stop(timeout_s)

    def publish_available(self) -> bool:
        """Sends one chunk of the entries after the position; False if there were none.

        Raises:
            UnavailableError: Sending failed, or the store cannot be read. Try again later.
        """
        if self._sender is None and self._store.state().history_number:
            self._sender = self._open_sender()
            self._with_sender(self._begin_where_the_topic_ends)
        messages = self._chunk()
        if not messages:
            self._store_position()
            return False
        self._with_sender(lambda sender: sender.send(messages, self._loop.stopping))
        self._published = messages[-1].number
        self._listener.published(self._published)
        self._store_position()
        return True

    def _with_sender(self, use: Callable[[Sender], None]) -> None:
        """Uses the sender, and closes it if that fails."""
        sender = self._sender
        if sender is None:
            raise UnavailableError("there is no connection")
        try:
            use(sender)
        except UnavailableError as error:
            self._sender = None
            sender.close()
            if isinstance(error, TopicCutError):
                self._go_back(error.kept)
            raise

    def _begin_where_the_topic_ends(self, sender: Sender) -> None:
        last, epoch = sender.last(), self._store.epoch()
        theirs = None if last is None else last.epoch
        if epoch is None:
            published = self._published if theirs is None else 0
            self._begin_epoch(new_epoch(self._now_ms(), theirs.created_ms if theirs else 0, token_hex(8), published))
        elif last is not None and theirs is not None and self._was_put_back(epoch, theirs, last.number):
            log.warning(
                "the topic ends at entry %d of the epoch %d, the store was put back to an earlier state: all of its "
                "history is published again",
                last.number,
                theirs.created_ms,
            )
            self._begin_epoch(new_epoch(self._now_ms(), theirs.created_ms, token_hex(8)))
        self._go_back(last)

    def _was_put_back(self, epoch: StoreEpoch, theirs: StoreEpoch, number: int) -> bool:
        """Whether another store has published since, or this one in a later state."""
        if is_newer(theirs, epoch):
            return True
        same = theirs.created_ms == epoch.created_ms
        return same and number > self._store.state().history_number

    def _begin_epoch(self, epoch: StoreEpoch) -> None:
        self._store.begin_epoch(epoch)
        self._epoch = epoch
        self._published = self._stored = epoch.first - 1

    def _go_back(self, last: LastMessage | None) -> None:
        epoch = self._epoch = self._store.epoch()
        if last is None or epoch is None:
            return
        if last.epoch is None:
            kept = min(last.number, epoch.first - 1)
        elif last.epoch.created_ms < epoch.created_ms:
            kept = epoch.first - 1
        else:
            kept = last.number
        if kept < self._published:
            log.warning(
                "the topic ends at history entry %d, but %d were acknowledged: the rest is sent again",
                kept,
                self._published,
            )
            self._published = kept

    def _store_position(self) -> None:
        if self._stored < self._published:
            self._store.set_published(self._published)
            self._stored = self._published

    def _chunk(self) -> list[Message]:
        messages: list[Message] = []
        epoch, size = self._epoch, 0
        if epoch is None:  # no sender was opened yet: there is no history
            return messages
        for entry in self._store.history(self._published, self._settings.chunk_entries):
            message = message_of(entry, epoch)
            messages.append(message)
            size += message.size
            if size >= self._settings.chunk_bytes:
                break
        return messages

    def _close_sender(self) -> None:
        if self._sender is not None:
            self._sender.close()

    def _wake(self, state: StoreState) -> None:
        if state.history_number > self._published:
            self._loop.wake()
