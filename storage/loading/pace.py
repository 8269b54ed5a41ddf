"""How long a load waits, so that it makes no more rows a second than it may."""

from __future__ import annotations

from collections import deque

__all__ = ["Pace", "Rate"]

_WINDOW_S = 60.0
"""Over so much time a rate is told."""


class Pace:
    """At most so many rows a second, from the first call on."""

    def __init__(self, rows_per_s: float) -> None:
        """Takes the limit; 0: none."""
        self._per_s = rows_per_s
        self._since: float | None = None
        self._rows = 0

    def pause_s(self, rows: int, now_s: float) -> float:
        """How long to wait, in seconds, after these further rows."""
        if not self._per_s:
            return 0.0
        if self._since is None:
            self._since = now_s
        self._rows += rows
        return max(0.0, self._since + self._rows / self._per_s - now_s)


class Rate:
    """Rows a second, of the last minute."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def saw(self, rows: int, now_s: float) -> None:
        """Notes how many rows there are in all."""
        self._seen.append((now_s, rows))
        while self._seen[0][0] < now_s - _WINDOW_S:
            self._seen.popleft()

    @property
    def last(self) -> int:
        """How many rows there were at the last look."""
        return self._seen[-1][1] if self._seen else 0

    def per_s(self) -> float:
        """0 before the second look."""
        (start_s, before), (end_s, after) = (self._seen[0], self._seen[-1]) if self._seen else ((0.0, 0), (0.0, 0))
        return (after - before) / (end_s - start_s) if end_s > start_s else 0.0
