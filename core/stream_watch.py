"""Ends the streams of a gRPC server whose readers have stopped reading.

A stream holds a thread of the server, and often a lock or a snapshot. Flow control makes a message wait until the
reader has room for it, for ever if need be. So a message that is not taken in time ends its stream.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

__all__ = ["Cancellable", "StreamWatch"]

log = logging.getLogger(__name__)

_Message = TypeVar("_Message")


class Cancellable(Protocol):
    """What the watch needs of a call: `grpc.ServicerContext` has it."""

    def cancel(self) -> object:
        """Ends the call from any thread."""
        ...


class StreamWatch:
    """Watches the streams of one server, in a thread of its own."""

    def __init__(self, stall_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Watches once `start` was called.

        Args:
            stall_s: How long a reader may leave one message.
            clock: Monotonic seconds.
        """
        self._stall_s = stall_s
        self._clock = clock
        self._lock = threading.Lock()
        self._sent_at: dict[Cancellable, float] = {}
        self._stopped = threading.Event()

    def watched(self, call: Cancellable, messages: Iterable[_Message]) -> Iterator[_Message]:
        """The same messages; the call is cancelled when its reader leaves one of them for too long."""
        try:
            for message in messages:
                with self._lock:
                    self._sent_at[call] = self._clock()
                yield message
                with self._lock:
                    self._sent_at.pop(call, None)
        finally:
            with self._lock:
                self._sent_at.pop(call, None)

    @contextmanager
    def waiting(self, call: Cancellable) -> Iterator[None]:
        """The call is cancelled when the block takes too long: it waits for what the caller sends."""
        with self._lock:
            self._sent_at[call] = self._clock()
        try:
            yield
        finally:
            with self._lock:
                self._sent_at.pop(call, None)

    def end_stalled(self) -> None:
        """Cancels the calls whose readers have stalled."""
        with self._lock:
            due = self._clock() - self._stall_s
            stalled = [call for call, sent_at in self._sent_at.items() if sent_at <= due]
            for call in stalled:
                del self._sent_at[call]
        for call in stalled:
            log.warning("a caller took or sent no message for %.0f s: its call is ended", self._stall_s)
            call.cancel()

    def start(self) -> None:
        """Starts the thread."""
        threading.Thread(target=self._run, name="stream-watch", daemon=True).start()

    def stop(self) -> None:
        """Ends the thread."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(min(1.0, self._stall_s / 4)):
            self.end_stalled()
