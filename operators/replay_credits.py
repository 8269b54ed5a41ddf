"""How many replays may be ahead of storage. Pure.

Live images and replays share one order. So at most `LIMITS` requests of each lane are in the order and not applied yet:
a live image waits for one batch of them at most. The lanes have limits of their own, so a request of somebody who waits
never stands behind a whole selection.

After a restart nobody knows how many were admitted before. All that lie between the last one applied and the first one
that waits count, but never so many that nothing may go: a record among them may have been none. So a restart lets at
most one more go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from core.replay_requests import Lane

__all__ = ["LIMITS", "ReplayCredits"]

LIMITS: Mapping[Lane, int] = {Lane.NAMED: 16, Lane.BULK: 48}
"""The most requests of a lane that are admitted and not applied: 64 in all."""


class ReplayCredits:
    """The credits of one lane. Offsets are those of its partition."""

    def __init__(self, limit: int) -> None:
        """Begins without knowing anything."""
        self._limit = limit
        self._ahead: deque[int] = deque()
        self._knows = False

    @property
    def ahead(self) -> int:
        """How many are admitted and not applied yet, as far as is known."""
        return len(self._ahead)

    def room(self, applied: int, first: int) -> int:
        """How many of the waiting requests may go now.

        Args:
            applied: The last offset that storage has applied; -1: none.
            first: The offset of the first request that waits.
        """
        if not self._knows:
            self._ahead.extend(range(max(applied + 1, first - (self._limit - 1)), first))
            self._knows = True
        while self._ahead and self._ahead[0] <= applied:
            self._ahead.popleft()
        return self._limit - len(self._ahead)

    def admitted(self, offsets: Iterable[int]) -> None:
        """These requests are in the order now; ascending, and behind all earlier ones."""
        self._ahead.extend(offsets)
