"""The connection that the outboxes send through, and that is opened anew after each failure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from core.errors import NeardupError
from storage.serving.assignments import Message
from storage.serving.topic_loss import TopicView

__all__ = ["Connection", "Sender"]

_T = TypeVar("_T")


class Sender(Protocol):
    """Sends messages."""

    def look(self) -> AbstractContextManager[TopicView]:
        """The topic as it is now.

        Raises:
            UnavailableError: The topic cannot be read. The sender must not be used again.
        """
        ...

    def send(self, messages: Sequence[Message], stopping: Callable[[], bool]) -> Sequence[int]:
        """Returns the offset of each message, once all are acknowledged, in order.

        Args:
            messages: Sent in this order.
            stopping: Asked now and then. Once it is true, the sender may give up with an `UnavailableError`.

        Raises:
            UnavailableError: Not all are known to be acknowledged, or the topic has lost earlier messages. The sender
                must not be used again.
        """
        ...

    def close(self) -> None:
        """Closes the connection without waiting."""
        ...


class Connection:
    """At most one sender at a time, opened when it is used."""

    def __init__(self, open_sender: Callable[[], Sender]) -> None:
        """`open_sender` connects, or raises `UnavailableError`."""
        self._open_sender = open_sender
        self._sender: Sender | None = None

    @property
    def is_open(self) -> bool:
        """Whether the last use was none that failed."""
        return self._sender is not None

    def use(self, use: Callable[[Sender], _T]) -> _T:
        """What `use` returns. If it fails, the sender is closed."""
        if self._sender is None:
            self._sender = self._open_sender()
        try:
            return use(self._sender)
        except NeardupError:
            self.close()
            raise

    def close(self) -> None:
        """Closes the sender, if there is one."""
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()
