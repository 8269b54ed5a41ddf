"""Limits the rate of background work, so that calls get processor and disk between its slices.

Sealing and merging report the bytes of each slice to a limiter, and go on when it returns. Foreground work (bulk
building, `tidy`) has no limiter.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from core.apart import WorkStopped

__all__ = ["RateLimiter"]


class RateLimiter:
    """Limits the bytes that one thread makes in a second."""

    def __init__(
        self,
        bytes_per_s: float,
        stopped: threading.Event,
        urgent: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begins the first slice.

        Args:
            bytes_per_s: The rate; 0 sets no limit.
            stopped: Ends every wait, and the work.
            urgent: While it returns true there is no limit, because waiting for the work costs more than the work.
            clock: Gives seconds.
        """
        self._bytes_per_s = bytes_per_s
        self._stopped = stopped
        self._urgent = urgent
        self._clock = clock
        self._began = clock()
        """When the current slice began."""

    def spend(self, amount: int) -> None:
        """Ends a slice of so many bytes: waits until the slice has taken as long as the rate demands.

        Raises:
            WorkStopped: The work must stop.
        """
        if self._bytes_per_s > 0 and not self._urgent():
            self._stopped.wait(max(0.0, self._began + amount / self._bytes_per_s - self._clock()))
        if self._stopped.is_set():
            raise WorkStopped
        self._began = self._clock()
