"""How much of what came last is the same: the sign of a dead network, flat pictures or a spam wave."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable
from threading import Lock

__all__ = ["LEAST", "WINDOW", "RecentShare"]

WINDOW = 1_000
"""How many keys are looked at."""

LEAST = 100
"""With fewer keys there is no share yet."""


class RecentShare:
    """The share of the commonest key among the last `WINDOW` keys. Safe to use from several threads."""

    def __init__(self, window: int = WINDOW, least: int = LEAST) -> None:
        """Starts without keys.

        Args:
            window: How many keys are looked at; older ones are forgotten.
            least: With fewer keys the share is 0.
        """
        self._window = window
        self._least = least
        self._keys: deque[Hashable] = deque()
        self._counts: Counter[Hashable] = Counter()
        self._lock = Lock()

    def add(self, key: Hashable) -> None:
        """Takes the next key."""
        with self._lock:
            self._keys.append(key)
            self._counts[key] += 1
            if len(self._keys) > self._window:
                oldest = self._keys.popleft()
                self._counts[oldest] -= 1
                if not self._counts[oldest]:
                    del self._counts[oldest]

    def share(self) -> float:
        """From 0 to 1; 0 while there are few keys."""
        with self._lock:
            if len(self._keys) < max(1, self._least):
                return 0.0
            return max(self._counts.values()) / len(self._keys)
