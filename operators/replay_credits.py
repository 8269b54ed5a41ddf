"""How many replays may be ahead of storage. Pure.

Live images and replays share one order. So at most `LIMITS` requests of each lane are in the order and not applied yet:
a live image waits for one batch of them at most. The lanes have limits of their own, so a request of somebody who waits
never stands behind a whole selection.

A selection also gives way when live images are late. Its window grows by `STEP` with each round through the order that
finds them in time, and is halved by one that finds them late: additive increase, multiplicative decrease, as in TCP.
One request may always go, so a selection ends even if live images are always late. Late is what takes `LATE` times as
long as usual. What is usual is the least delay seen, which is forgotten slowly (LEDBAT, RFC 6817, takes the least of
some minutes).

After a restart nobody knows how many were admitted before. All that lie between the last one applied and the first one
that waits count, but never so many that nothing may go: a record among them may have been none. So a restart lets at
most one more go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from core.replay_requests import Lane

__all__ = ["LATE", "LIMITS", "STEP", "ReplayCredits"]

LIMITS: Mapping[Lane, int] = {Lane.NAMED: 16, Lane.BULK: 48}
"""The most requests of a lane that are admitted and not applied: 64 in all."""

LATE = 2
"""How many times as long as usual live images may wait for their verdict, from the arrival of the second half on."""

_FORGOTTEN = 1.01
"""By what the least delay grows with each round: twice as much after 70 rounds of some tenths of a second."""

_AT_LEAST_MS = 100.0
"""No delay below this one is the least: so short a wait is always in time."""

STEP = 4
"""By how many requests a window grows."""


class ReplayCredits:
    """The credits of one lane. Offsets are those of its partition."""

    def __init__(self, limit: int, gives_way: bool = False) -> None:
        """Begins without knowing anything.

        Args:
            limit: The most that are ahead.
            gives_way: Whether fewer go while live images are late. Then the window begins with `STEP`.
        """
        self._limit = limit
        self._gives_way = gives_way
        self._window = min(STEP, limit) if gives_way else limit
        self._round_ends = -1
        self._least_ms = float("inf")
        self._ahead: deque[int] = deque()
        self._knows = False

    @property
    def ahead(self) -> int:
        """How many are admitted and not applied yet, as far as is known."""
        return len(self._ahead)

    def room(self, applied: int, first: int, live_delay_ms: int = 0) -> int:
        """How many of the waiting requests may go now.

        Args:
            applied: The last offset that storage has applied; -1: none.
            first: The offset of the first request that waits.
            live_delay_ms: How late live images are.
        """
        if self._gives_way and applied >= self._round_ends:
            self._window = self._next_window(live_delay_ms)
            # The next round ends when what goes now is applied, and tells what this window did.
            self._round_ends = first
        if not self._knows:
            self._ahead.extend(range(max(applied + 1, first - (self._window - 1)), first))
            self._knows = True
        while self._ahead and self._ahead[0] <= applied:
            self._ahead.popleft()
        return max(0, self._window - len(self._ahead))

    def _next_window(self, live_delay_ms: int) -> int:
        if live_delay_ms > 0:
            self._least_ms = max(_AT_LEAST_MS, min(live_delay_ms, self._least_ms * _FORGOTTEN))
        if live_delay_ms > LATE * self._least_ms:
            return max(1, self._window // 2)
        return min(self._limit, self._window + STEP)

    def admitted(self, offsets: Iterable[int]) -> None:
        """These requests are in the order now; ascending, and behind all earlier ones."""
        self._ahead.extend(offsets)
