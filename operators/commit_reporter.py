"""Reports to the index how far storage has come. The index may then drop what only earlier searches can see."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from core.errors import NeardupError

__all__ = ["CommitReporter", "ReleaseTarget"]

log = logging.getLogger(__name__)

EVERY_S = 10.0
"""Between two reports. Nothing waits for a report."""

DEADLINE_S = 0.5
"""Of one report: a server that does not answer delays the step by no more."""


class ReleaseTarget(Protocol):
    """What receives the reports: a client of the search server."""

    def release(self, log_id: str, offset: int, deadline_s: float | None = None) -> None:
        """Storage has committed up to an offset."""
        ...


class CommitReporter:
    """Reports at most every ten seconds. A failed report is logged; the next one replaces it."""

    def __init__(self, index: ReleaseTarget, log_id: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Takes the target, the topic id of `joined`, and a clock in seconds."""
        self._index = index
        self._log_id = log_id
        self._clock = clock
        self._due = clock() + EVERY_S

    def committed(self, offset: int) -> None:
        """Storage has committed the order up to an offset."""
        now = self._clock()
        if now < self._due:
            return
        self._due = now + EVERY_S
        try:
            self._index.release(self._log_id, offset, DEADLINE_S)
        except NeardupError as error:
            log.info("the index was not told that storage has offset %d: %s", offset, error)
