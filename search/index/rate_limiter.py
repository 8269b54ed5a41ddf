"""How fast background work goes: so many bytes a second, in slices, so that calls get processor and disk between them.

Sealing and merging tell a pace after each slice how much they made or wrote, and go on when it lets them. Who works in
the foreground (bulk building, `tidy`) has no pace.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable

__all__ = ["RateLimiter", "WorkStopped", "yield_to_calls"]

log = logging.getLogger(__name__)

_NICE = 10
"""A tenth of an ordinary thread's share when both want the same processor."""


class WorkStopped(Exception):  # noqa: N818 - nothing is wrong: the index is being closed
    """The work under way is given up, and what it left is removed."""


class RateLimiter:
    """Lets one thread do so many bytes a second."""

    def __init__(
        self,
        bytes_per_s: float,
        stopped: threading.Event,
        urgent: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts with nothing done.

        Args:
            bytes_per_s: The rate; 0 sets no limit.
            stopped: Ends every wait, and the work.
            urgent: While it says so there is no limit: what waits for this work costs more than it does.
            clock: In seconds.
        """
        self._bytes_per_s = bytes_per_s
        self._stopped = stopped
        self._urgent = urgent
        self._clock = clock
        self._began = clock()
        """When the slice under way did."""

    def spend(self, amount: int) -> None:
        """Ends a slice in which so many bytes were made: waits until as long has passed as they may take.

        Raises:
            WorkStopped: There is no going on.
        """
        if self._bytes_per_s > 0 and not self._urgent():
            self._stopped.wait(max(0.0, self._began + amount / self._bytes_per_s - self._clock()))
        if self._stopped.is_set():
            raise WorkStopped
        self._began = self._clock()


def yield_to_calls() -> None:
    """Lowers the priority of the calling thread below that of the threads that answer, where the system can."""
    if sys.platform != "linux":  # elsewhere priorities belong to processes
        return
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
    except OSError as error:
        log.warning("background work keeps the priority of calls: %s", error.strerror)
