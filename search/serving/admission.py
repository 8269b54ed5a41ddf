"""Who calls a server, how much each may ask for, and who goes first.

Four classes of callers share a server: the stream (the job itself), replays, interactive calls, and shadow traffic of a
signal that is being tried out. Each has a rate, in items a second (a query, an id), kept by a token bucket. The stream
enters at once; the others share a few slots, wait for one in a short line of their own class, and get free slots in the
order of the classes. Who finds the bucket empty or the line full is rejected with the time after which to come again:
nothing piles up, and a flood of one class costs the others nothing but their place.
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
"""How long who found the line full, or waited in vain, is asked to stay away: some tens of calls."""


class Caller(StrEnum):
    """The classes, first come first; the values travel with every call and are labels of metrics."""

    STREAM = "stream"
    """The job. It is never held back by the others."""
    REPLAY = "replay"
    INTERACTIVE = "interactive"
    """Whoever says nothing."""
    SHADOW = "shadow"


def caller_named(name: str) -> Caller:
    """The class of that name.

    Raises:
        BadInputError: There is none.
    """
    try:
        return Caller(name)
    except ValueError:
        raise BadInputError(f"there is no class of callers {name[:32]!r}, there are {', '.join(Caller)}") from None


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """How much each class may ask for. Rates are items a second; 0 sets no limit."""

    stream_per_s: float = 0.0
    replay_per_s: float = 5_000.0
    interactive_per_s: float = 5_000.0
    shadow_per_s: float = 2_000.0
    burst_s: float = 1.0
    """How many seconds' worth of a rate may be asked for at once, after a pause as long."""
    slots: int = 2
    """Calls of all classes but the stream that run at once."""
    waiting: int = 8
    """Calls of one class that wait for a slot."""
    max_wait_s: float = 1.0
    """The longest a call waits for a slot."""

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
        """Calls of all classes but the stream that are inside at once, running or waiting."""
        return self.slots + self.waiting * (len(Caller) - 1)


class TokenBucket:
    """Lets `rate` items a second pass, and up to `burst` at once after a pause.

    A call of more items than the bucket holds passes when it is full, and leaves a debt.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Starts full. The clock gives seconds; not thread-safe."""
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._tokens = burst
        self._filled_at = clock()

    def take(self, items: int) -> float:
        """Takes tokens for so many items if they are there.

        Returns:
            0 when they were taken, else the seconds after which they will be there.
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
        """Returns tokens that were taken for nothing."""
        self._tokens = min(self._burst, self._tokens + items)


class _Ticket:
    """A call that waits; `granted` under the lock of the admission."""

    def __init__(self) -> None:
        self.granted = False


class Admission:
    """Lets calls in, one object for all calls of a server. Thread-safe."""

    def __init__(self, policy: AdmissionPolicy, clock: Callable[[], float] = time.monotonic) -> None:
        """Starts with full buckets and free slots; the clock (seconds) is that of the rates."""
        self._policy = policy
        self._changed = threading.Condition()
        self._buckets = {
            caller: TokenBucket(rate, max(1.0, rate * policy.burst_s), clock)
            for caller in Caller
            if (rate := policy.rate(caller)) > 0
        }
        self._free = policy.slots
        self._lines: dict[Caller, deque[_Ticket]] = {
            caller: deque() for caller in Caller if caller is not Caller.STREAM
        }

    def waiting(self, caller: Caller) -> int:
        """Calls of a class that wait for a slot."""
        return len(self._lines.get(caller, ()))

    @contextmanager
    def admit(self, caller: Caller, items: int, patience_s: float | None = None) -> Iterator[None]:
        """Holds a place in the server while the block runs.

        Args:
            caller: Its class.
            items: How much it asks for; what its rate counts.
            patience_s: How long the caller waits at most; None: as long as the policy says.

        Raises:
            BusyError: Too much was asked for, or too many wait already; it says when to come again.
        """
        self._pay(caller, items)
        if caller is Caller.STREAM:
            yield
            return
        try:
            self._enter(caller, patience_s)
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
            raise BusyError(f"{caller} may ask for {rate:g} items a second: wait {wait_s:.3f} s", wait_s)

    def _refund(self, caller: Caller, items: int) -> None:
        bucket = self._buckets.get(caller)
        if bucket is not None:
            with self._changed:
                bucket.give_back(items)

    def _enter(self, caller: Caller, patience_s: float | None) -> None:
        most_s = self._policy.max_wait_s
        patience_s = most_s if patience_s is None else max(0.0, min(most_s, patience_s))
        with self._changed:
            if self._free:  # then nobody waits: who leaves hands the slot on
                self._free -= 1
                return
            line = self._lines[caller]
            if len(line) >= self._policy.waiting:
                raise BusyError(f"{len(line)} calls of {caller} wait already: come again later", REJECTED_RETRY_S)
            ticket = _Ticket()
            line.append(ticket)
            self._changed.wait_for(lambda: ticket.granted, patience_s)
            if not ticket.granted:
                line.remove(ticket)
                raise BusyError(f"no slot for {caller} got free in {patience_s:.3f} s", REJECTED_RETRY_S)

    def _leave(self) -> None:
        with self._changed:
            for line in self._lines.values():  # in the order of the classes
                if line:
                    line.popleft().granted = True
                    self._changed.notify_all()
                    return
            self._free += 1
