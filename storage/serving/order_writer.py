"""Writes records of people into the order: once every job must know their kind, and acknowledged by all replicas."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence

from core.delete_requests import DELETE_KIND, FORGET_KIND, DeleteRequest, delete_record
from core.errors import UnavailableError
from core.few import one_of_few
from storage.serving.assignments import Message
from storage.serving.sender import Connection, Sender

__all__ = ["OrderWriter"]

HEADERS = (("content-type", b"application/x-protobuf"), ("schema-version", b"1"))
"""The Kafka headers of a record of the order."""


MAX_CALLS = 8
"""Calls at once. Each holds a thread of the HTTP API for half a minute while Kafka is down, and readers need theirs."""

RETRY_AFTER_S = 1.0


class OrderWriter:
    """Sends to the topic `joined`. Thread-safe."""

    def __init__(self, open_sender: Callable[[], Sender], require_kinds: Callable[[Collection[str]], None]) -> None:
        """Connects when the first record is sent.

        Args:
            open_sender: Connects to the topic, or raises `UnavailableError`.
            require_kinds: Storage's; raises `MismatchError` if the job that wrote last does not know a kind.
        """
        self._connection = Connection(open_sender)
        self._require_kinds = require_kinds
        self._required: set[str] = set()
        self._lock = threading.Lock()
        self._calls = threading.BoundedSemaphore(MAX_CALLS)
        self._closing = threading.Event()

    def delete(self, requests: Sequence[DeleteRequest]) -> Sequence[int]:
        """Returns the offset of each record in Kafka, once all are acknowledged.

        Raises:
            MismatchError: The job does not know deletes, or that images are forgotten; nothing was sent.
            BusyError: Too many others wait; nothing was sent.
            UnavailableError: Storage does not answer, or not all records are known to be acknowledged. Sending them
                again does no harm.
        """
        messages = [Message(0, each.image_id.encode(), delete_record(each), HEADERS) for each in requests]
        kinds = {FORGET_KIND if each.forget else DELETE_KIND for each in requests} | {DELETE_KIND}
        return self._send(kinds, messages)

    def close(self) -> None:
        """Closes the connection. Calls that wait for Kafka fail."""
        self._closing.set()
        with self._lock:
            self._connection.close()

    def _send(self, kinds: Collection[str], messages: Sequence[Message]) -> Sequence[int]:
        busy = f"{MAX_CALLS} calls wait for Kafka already: try again"
        with one_of_few(self._calls, busy, RETRY_AFTER_S), self._lock:
            if self._closing.is_set():
                raise UnavailableError("the server stops: nothing was sent")
            if not self._required.issuperset(kinds):
                self._require_kinds(sorted(kinds))
                self._required.update(kinds)
            if not messages:
                return ()
            return self._connection.use(lambda sender: sender.send(messages, self._closing.is_set))
