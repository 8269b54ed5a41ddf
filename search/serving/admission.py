"""Admission: how much each class of callers may ask for, and which class goes first.

Four classes share a server: the stream (the job itself), replays, interactive calls, and shadow traffic of a signal
that is being tried out. A token bucket limits the rate of each class, in items (queries, ids) a second. The stream
enters at once. The other classes share a few slots. A call that finds none waits in the queue of its class; a free slot
goes to the first class that has a call waiting. A call is rejected when its bucket is empty or its queue is full, and
is told when to try again. So queues stay short, and a flood of one class does not slow down the classes before it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite

from core.errors import BadInputError, BusyError, SettingsError

__all__ = ["Admission", "AdmissionPolicy", "Caller", "TokenBucket", "caller_named"]

REJECTED_RETRY_S = 0.1
"""Seconds after which a call that got no slot should try again: the time of some tens of calls."""


class Caller(StrEnum):
    """The classes, highest priority first. The values travel with every call and are labels of metrics."""

    STREAM = "stream"
    """The job. No other class holds it back."""
    REPLAY = "replay"
    INTERACTIVE = "interactive"
    """The class of a call that names none."""
    SHADOW = "shadow"


def caller_named(name: str) -> Caller:
    """The class of a name.

    Raises:
        BadInputError: No class has it.
    """
    try:
        return Caller(name)
    except ValueError:
        raise BadInputError(f"there is no caller class {name[:32]!r}, there are {', '.join(Caller)}") from None


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """How much each class may ask for. Rates are items a second; 0 sets no limit."""

    stream_per_s: float = 0.0
    replay_per_s: float = 5_000.0
    interactive_per_s: float = 5_000.0
    shadow_per_s: float = 2_000.0
    burst_s: float = 1.0
    """The largest burst, in seconds of the rate, after a pause of the same length."""
    slots: int = 2
    """Calls that run at once, of all classes but the stream."""
    waiting: int = 8
    """The longest queue of one class, in calls."""
    max_wait_s: float = 1.0
    """The longest wait of a call for a slot."""

    def __post_init__(self) -> None:
        """Checks every value against its range."""
        for caller in Caller:
            rate = self.rate(caller)
            if not (isfinite(rate) and rate >= 0):
                raise SettingsError(f"the rate of {caller} must be 0 (no limit) or above, not {rate}")
        if not (isfinite(self.burst_s) and self.burst_s > 0 and isfinite(self.max_wait_s) and self.max_wait_s > 0):
            raise SettingsError(f"burst_s ({self.burst_s}) and max_wait_s ({self.max_wait_s}) must be above 0")
        if self.slots < 1 or self.waiting < 0:
            raise SettingsError(f"slots ({self.slots}) must be at least 1, waiting ({self.waiting}) at least 0")

    def rate(self, caller: Caller) -> float:
        """Items a second of a class; 0 for no limit."""
        rates = (self.stream_per_s, self.replay_per_s, self.interactive_per_s, self.shadow_per_s)
        return rates[list(Caller).index(caller)]

    @property
    def most_calls(self) -> int:
        """The most calls that run or wait at once, of all classes but the stream."""
        return self.slots + self.waiting * (len(Caller) - 1)


class TokenBucket:
    """A token bucket: `rate` items a second, and up to `burst` at once after a pause.

    A call of more items than the bucket holds passes when the bucket is full, and leaves a debt.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Starts full. The clock gives seconds. Not thread-safe."""
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._tokens = burst
        self._filled_at = clock()

    def take(self, items: int) -> float:
        """Takes a token for each item, if there are enough.

        Returns:
            0 when they were taken, else the seconds until there are enough.
        """
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        lacking = min(items, self._burst) - self._tokens
        if lacking > 0:
            return lacking / self._rate
        self._tokens -= items
        return 0.0

    def give_back(self, items: int) -> None:
        """Returns tokens of a call that was not made."""
        self._tokens = min(self._burst, self._tokens + items)


class _Ticket:
    """A waiting call. `granted` changes under the lock of the admission."""

    def __init__(self) -> None:
        self.granted = False


class Admission:
    """Admits calls; one object for all calls of a server. Thread-safe."""

    def __init__(self, policy: AdmissionPolicy, clock: Callable[[], float] = time.monotonic) -> None:
        """Starts with full buckets and free slots. The clock gives seconds; the rates use it."""
        self._policy = policy
        self._changed = threading.Condition()
        self._buckets = {
            caller: TokenBucket(rate, max(1.0, rate * policy.burst_s), clock)
            for caller in Caller
            if (rate := policy.rate(caller)) > 0
        }
        self._free = policy.slots
        self._queues: dict[Caller, deque[_Ticket]] = {
            caller: deque() for caller in Caller if caller is not Caller.STREAM
        }

    def waiting(self, caller: Caller) -> int:
        """Calls of a class that wait for a slot."""
        return len(self._queues.get(caller, ()))

    @contextmanager
    def admit(self, caller: Caller, items: int, timeout_s: float | None = None) -> Iterator[None]:
        """Admits one call while the block runs.

        Args:
            caller: The class of the call.
            items: How many items it asks for; the rate counts them.
            timeout_s: The longest wait in seconds; None, or a longer one: that of the policy.

        Raises:
            BusyError: The class is over its rate, its queue is full, or no slot became free in time. The error says
                when to try again.
        """
        self._pay(caller, items)
        if caller is Caller.STREAM:
            yield
            return
        try:
            self._enter(caller, timeout_s)
        except BusyError:
            self._refund(caller, items)
            raise
        try:
            yield
        finally:
            self._leave()

    def _pay(self, caller: Caller, items: int) -> None:
        bucket = self._buckets.get(caller)
        if bucket is None:
            return
        with self._changed:
            wait_s = bucket.take(items)
        if wait_s > 0:
            rate = self._policy.rate(caller)
            raise BusyError(f"{caller} may ask for {rate:g} items a second: try again in {wait_s:.3f} s", wait_s)

    def _refund(self, caller: Caller, items: int) -> None:
        bucket = self._buckets.get(caller)
        if bucket is not None:
            with self._changed:
                bucket.give_back(items)

    def _enter(self, caller: Caller, timeout_s: float | None) -> None:
        most_s = self._policy.max_wait_s
        timeout_s = most_s if timeout_s is None else max(0.0, min(most_s, timeout_s))
        with self._changed:
            if self._free:  # then no call waits, since a call that ends hands its slot to a waiting one
                self._free -= 1
                return
            queue = self._queues[caller]
            if len(queue) >= self._policy.waiting:
                raise BusyError(f"{len(queue)} calls of {caller} wait already: try again later", REJECTED_RETRY_S)
            ticket = _Ticket()
            queue.append(ticket)
            self._changed.wait_for(lambda: ticket.granted, timeout_s)
            if not ticket.granted:
                queue.remove(ticket)
                raise BusyError(f"no slot for {caller} became free in {timeout_s:.3f} s", REJECTED_RETRY_S)

    def _leave(self) -> None:
        with self._changed:
            for queue in self._queues.values():  # in the order of the classes
                if queue:
                    queue.popleft().granted = True
                    self._changed.notify_all()
                    return
            self._free += 1
