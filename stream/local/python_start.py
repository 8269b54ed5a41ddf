"""Ends a task manager that can start no Python any more; its supervisor starts another.

PyFlink starts Python once for each JVM. If the task that does so is cancelled meanwhile, PyFlink takes the interruption
for the result: every later start in this JVM fails with that error. Flink restarts the tasks for ever, and none begins.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from core.errors import NeardupError

__all__ = ["PythonStart"]

log = logging.getLogger(__name__)

_SIGN = "PythonInterpreter$MainInterpreter.initialize"
"""In the stack trace of a task: Python could not be started."""


class PythonStart:
    """Looks at the failures of a job that does not run."""

    def __init__(
        self, end_task_manager: Callable[[], object], now_ms: Callable[[], int] = lambda: time.time_ns() // 10**6
    ) -> None:
        """Takes what it needs.

        Args:
            end_task_manager: Kills the task manager, of which there is one.
            now_ms: Milliseconds since the epoch, by the clock of the failures.
        """
        self._end_task_manager = end_task_manager
        self._now_ms = now_ms
        self._ended_ms = now_ms()

    def look(self, failures: Sequence[tuple[int, str]]) -> bool:
        """Whether the task manager was ended.

        Args:
            failures: Time (ms) and stack trace of each. Those from before this watch or the last end do not count.
        """
        if not any(time_ms > self._ended_ms and _SIGN in trace for time_ms, trace in failures):
            return False
        self._ended_ms = self._now_ms()
        try:
            self._end_task_manager()
        except NeardupError as error:
            log.error("the task manager can start no Python any more: restart it (%s)", error)
            return False
        log.warning("ended the task manager, which can start no Python any more: another one is started")
        return True
