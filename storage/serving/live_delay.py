"""How late the images of the stream are that storage wrote last. Replays and rows of manifests give way to them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median_low

from core.types import Decision, Outcome

__all__ = ["FRESH_MS", "LiveDelay"]

FRESH_MS = 2000
"""What was measured longer ago says nothing of now: no image came since."""


class LiveDelay:
    """The time from the arrival of an image's second half in Kafka to its synced verdict. Replays and rows of
    manifests do not count.
    """

    def __init__(self) -> None:
        """Begins without an image."""
        self._delay_ms = 0
        self._at_ms = -FRESH_MS

    def written(self, decisions: Sequence[Decision], now_ms: int) -> None:
        """These were written and synced at `now_ms`, in ms since the epoch."""
        delays = [
            now_ms - one.arrived_at_ms
            for one in decisions
            if one.outcome is Outcome.DECIDED and one.member is None and one.arrived_at_ms > 0
        ]
        if delays:
            self._delay_ms, self._at_ms = max(0, median_low(delays)), now_ms

    def now(self) -> int:
        """As `at`, of the present."""
        return self.at(time.time_ns() // 10**6)

    def at(self, now_ms: int) -> int:
        """The median of the last write that had images, in ms; 0: there was none in the last two seconds."""
        return self._delay_ms if now_ms - self._at_ms < FRESH_MS else 0
