"""Reports to the index how far storage has come. The index may then drop what only earlier searches can see.

What storage holds as unscored is hidden first, so the offset that the index keeps also says how far that is done.
"""

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
    """Reports at once and then at most every ten seconds. A failed report is logged; the next one replaces it."""

    def __init__(
        self,
        index: ReleaseTarget,
        log_id: str,
        prepare: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Takes what it needs.

        Args:
            index: Receives the reports.
            log_id: The topic id of `joined`.
            prepare: Does what must be done before a report; False: it is not complete, so there is no report yet.
            clock: Seconds.
        """
        self._index = index
        self._log_id = log_id
        self._prepare = prepare
        self._clock = clock
        self._due = clock()

    def committed(self, offset: int, soon: bool = False, *, at_once: bool = False) -> None:
        """Storage has committed the order up to an offset; `soon` makes the next report due, `at_once` this one."""
        now = self._clock()
        if now < self._due and not at_once:
            self._due = now if soon else self._due
            return
        self._due = now if soon else now + EVERY_S
        try:
            if self._prepare():
                self._index.release(self._log_id, offset, DEADLINE_S)
        except NeardupError as error:
            log.info("the index was not told that storage has offset %d: %s", offset, error)
