"""How many replays may be ahead of storage. Pure.

Live images and replays share one order. So at most `LIMITS` requests of each lane are in the order and not applied yet:
a live image waits for one batch of them at most. The lanes have limits of their own, so a request of somebody who waits
never stands behind a whole selection.

A selection also gives way when live images are late. Its window grows a little with each round through the order that
finds them in time, less the later they are, and is halved by one that finds them too late: additive increase,
multiplicative decrease, as in TCP. One request may always go, so a selection ends even if live images are always late.
Late is what takes `LATE` times as long as usual. What is usual is the least delay of the last ten minutes (LEDBAT, RFC
6817): the delay while a selection runs is partly its own, and must not become what is usual.

After a restart nobody knows how many were admitted before. All that lie between the last one applied and the first one
that waits count, but never so many that nothing may go: a record among them may have been none. So a restart lets at
most one more go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from core.replay_requests import Lane

__all__ = ["LATE", "LIMITS", "STEP", "ReplayCredits", "UsualDelay"]

LIMITS: Mapping[Lane, int] = {Lane.NAMED: 16, Lane.BULK: 48}
"""The most requests of a lane that are admitted and not applied: 64 in all."""

LATE = 1.5
"""How many times as long as usual live images may wait for their verdict, from the arrival of the second half on."""

STEP = 1.0
"""By how many requests a window grows when live images are not late at all."""

_KEPT_MINUTES = 10

_AT_LEAST_MS = 100
"""No delay below this one is the least: so short a wait is always in time."""


class UsualDelay:
    """The least delay of live images in the last minutes."""

    def __init__(self) -> None:
        """Begins without knowing any."""
        self._minutes: deque[tuple[int, int]] = deque()
        """The least delay of each minute, the oldest first."""

    def add(self, delay_ms: int, now_ms: int) -> int:
        """Takes a delay, at a time in ms since the epoch; returns the usual one in ms."""
        minute = now_ms // 60_000
        least = delay_ms
        if self._minutes and self._minutes[-1][0] >= minute:
            minute, known = self._minutes.pop()
            least = min(least, known)
        self._minutes.append((minute, least))
        while self._minutes[0][0] <= minute - _KEPT_MINUTES:
            self._minutes.popleft()
        return max(_AT_LEAST_MS, min(each for _, each in self._minutes))


class ReplayCredits:
    """The credits of one lane. Offsets are those of its partition."""

    def __init__(self, limit: int, gives_way: bool = False) -> None:
        """Begins without knowing anything.

        Args:
            limit: The most that are ahead.
            gives_way: Whether fewer go while live images are late. Then the window begins with one.
        """
        self._limit = limit
        self._usual = UsualDelay() if gives_way else None
        self._window = 1.0 if gives_way else float(limit)
        self._round_ends = -1
        self._ahead: deque[int] = deque()
        self._knows = False

    @property
    def ahead(self) -> int:
        """How many are admitted and not applied yet, as far as is known."""
        return len(self._ahead)

    def room(self, applied: int, first: int, live_delay_ms: int = 0, now_ms: int = 0) -> int:
        """How many of the waiting requests may go now.

        Args:
            applied: The last offset that storage has applied; -1: none.
            first: The offset of the first request that waits.
            live_delay_ms: How late live images are; 0: there are none.
            now_ms: The time, in ms since the epoch.
        """
        if self._usual is not None and applied >= self._round_ends:
            usual_ms = self._usual.add(live_delay_ms, now_ms) if live_delay_ms > 0 else _AT_LEAST_MS
            self._window = self._next_window(live_delay_ms / usual_ms)
            # The next round ends when what goes now is applied, and tells what this window did.
            self._round_ends = first
        window = int(self._window)
        if not self._knows:
            self._ahead.extend(range(max(applied + 1, first - (window - 1)), first))
            self._knows = True
        while self._ahead and self._ahead[0] <= applied:
            self._ahead.popleft()
        return max(0, window - len(self._ahead))

    def _next_window(self, times_usual: float) -> float:
        if times_usual > LATE:
            return max(1.0, self._window / 2)
        in_time = min(1.0, (LATE - times_usual) / (LATE - 1))
        return min(self._limit, self._window + STEP * in_time)

    def admitted(self, offsets: Iterable[int]) -> None:
        """These requests are in the order now; ascending, and behind all earlier ones."""
        self._ahead.extend(offsets)
