"""Receives the requests of unary calls within a budget of memory.

gRPC receives and parses the whole request of each call that has a worker. So many large requests may fill the memory
before any limit of the server is asked. Here a call takes a slot first, then its request is received. There are as many
slots as requests of the largest size fit into the budget. A call with a small request returns its slot at once.

The stream's calls, those of all others, and questions after the health have slots of their own: none keeps another out.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from core.errors import BadInputError, BusyError
from core.stream_watch import Cancellable, StreamWatch

__all__ = ["Intake", "Intakes", "ReceivingCall"]

_COPIES = 2
"""A request is held as it was received, and parsed."""

_SMALL = 16
"""A request is small below this part of the largest one."""

_RETRY_AFTER_S = 0.1

_WAITED_SHARE = 0.8
"""How much of the time that a call has left it may wait: the refusal must arrive before its deadline."""


class ReceivingCall(Cancellable, Protocol):
    """What the intake needs of a call: `grpc.ServicerContext` has it."""

    def time_remaining(self) -> float | None:
        """Seconds until the deadline; None when there is none."""
        ...


class Intake:
    """Lets the calls of one server receive their requests."""

    def __init__(self, budget_bytes: int, max_message_bytes: int, stall_s: float = 30.0, wait_s: float = 5.0) -> None:
        """Lets calls in once `start` was called.

        Args:
            budget_bytes: What large requests may take together; one always gets in.
            max_message_bytes: The most bytes of a request.
            stall_s: How long a caller may take to send its request.
            wait_s: How long a call waits for a slot, at most.
        """
        self.slots = max(1, budget_bytes // (_COPIES * max_message_bytes))
        self._free = threading.BoundedSemaphore(self.slots)
        self._small = max_message_bytes // _SMALL
        self._wait_s = wait_s
        self._watch = StreamWatch(stall_s)

    @contextmanager
    def received(self, requests: Iterator[bytes], call: ReceivingCall) -> Iterator[bytes]:
        """The request of a call, within the budget while the block runs.

        Raises:
            BusyError: Other calls held all slots for too long; the error says when to try again.
            BadInputError: The caller sent none.
        """
        remaining_s = call.time_remaining()
        wait_s = self._wait_s if remaining_s is None else max(0.0, min(self._wait_s, _WAITED_SHARE * remaining_s))
        if not self._free.acquire(timeout=wait_s):
            raise BusyError(
                f"{self.slots} calls with large requests are being handled: try again later", _RETRY_AFTER_S
            )
        held = True
        try:
            with self._watch.waiting(call):
                request = next(requests, None)
            if request is None:
                raise BadInputError("the call ended before its request")
            if len(request) <= self._small:
                self._free.release()
                held = False
            yield request
        finally:
            if held:
                self._free.release()

    def start(self) -> None:
        """Starts to end calls whose requests do not come."""
        self._watch.start()

    def stop(self) -> None:
        """Ends its thread."""
        self._watch.stop()


class Intakes:
    """Those of one server."""

    def __init__(self, budget_bytes: int, max_message_bytes: int) -> None:
        """`budget_bytes` is what the large requests of the stream may take, and as much again those of all others."""
        self.stream = Intake(budget_bytes, max_message_bytes)
        self.others = Intake(budget_bytes, max_message_bytes)
        self.health = Intake(max_message_bytes, max_message_bytes)

    def start(self) -> None:
        """Starts to end calls whose requests do not come."""
        for each in (self.stream, self.others, self.health):
            each.start()

    def stop(self) -> None:
        """Ends its threads."""
        for each in (self.stream, self.others, self.health):
            each.stop()
