"""The outbox: publishes the history entries in order, at least once, from a stored position.

A loop reads the entries after the position, sends them in chunks, and stores the new position once a whole chunk is
acknowledged. A write to the store wakes the loop. When sending fails, it warns once, waits, and resumes after the last
acknowledged entry. No entry is skipped; a chunk may be sent twice.

A broker may lose what it has acknowledged. So each new sender is asked how far the topic goes, and what is missing is
sent again. If the topic was cut while a sender was in use, the new messages come before the missing ones; all of them
are then sent again, in order.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from core.errors import UnavailableError
from storage.errors import StorageError
from storage.interfaces import ClusterStore
from storage.records import StoreState
from storage.serving.assignments import Message, message_of

__all__ = ["Outbox", "OutboxListener", "OutboxSettings", "Sender", "TopicCutError"]

log = logging.getLogger(__name__)


class TopicCutError(UnavailableError):
    """The topic has lost messages that were acknowledged; `kept` is the number of the last one before the gap."""

    def __init__(self, message: str, kept: int | None) -> None:
        super().__init__(message)
        self.kept = kept


class Sender(Protocol):
    """Sends messages."""

    def last_number(self) -> int | None:
        """The number of the topic's last message; 0: there never was one; None: it is not known.

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
    ) -> None:
        """Prepares the loop.

        Args:
            store: Has the history and the position.
            open_sender: Connects, or raises `UnavailableError`.
            listener: Is told of progress and failures.
            settings: Sizes and waits.
        """
        self._store = store
        self._open_sender = open_sender
        self._listener = listener
        self._settings = settings or OutboxSettings()
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self._sender: Sender | None = None
        self._failing = False
        self._published = self._stored = store.published()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        store.on_apply(self._wake)

    def start(self) -> None:
        """Starts the loop at the stored position."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ends the loop after the current chunk, or after `timeout_s` seconds."""
        self._stopped.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

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
        self._with_sender(lambda sender: sender.send(messages, self._stopped.is_set))
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
        self._go_back(sender.last_number())

    def _go_back(self, kept: int | None) -> None:
        if kept is not None and kept < self._published:
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
        size = 0
        for entry in self._store.history(self._published, self._settings.chunk_entries):
            message = message_of(entry)
            messages.append(message)
            size += message.size
            if size >= self._settings.chunk_bytes:
                break
        return messages

    def _run(self) -> None:
        backoff_s = self._settings.backoff_first_s
        while not self._stopped.is_set():
            self._woken.clear()
            try:
                while not self._stopped.is_set() and self.publish_available():
                    backoff_s = self._settings.backoff_first_s
                    self._recovered()
            except Exception as error:  # noqa: BLE001 - the edge of the thread: publishing must continue
                if not self._stopped.is_set():
                    self._failed(error)
                    self._stopped.wait(backoff_s)
                    backoff_s = min(2 * backoff_s, self._settings.backoff_max_s)
                continue
            self._woken.wait()
        if self._sender is not None:
            self._sender.close()

    def _wake(self, state: StoreState) -> None:
        if state.history_number > self._published:
            self._woken.set()

    def _failed(self, error: Exception) -> None:
        self._listener.publish_failed()
        if not self._failing:
            self._failing = True
            known = isinstance(error, (UnavailableError, StorageError))
            log.warning(
                "publishing waits after history entry %d: %s", self._published, error, exc_info=None if known else error
            )

    def _recovered(self) -> None:
        if self._failing:
            self._failing = False
            log.info("publishing resumed, up to history entry %d", self._published)
