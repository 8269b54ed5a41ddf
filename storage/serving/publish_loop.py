"""A thread that publishes what a store holds, and tries again until it succeeds.

It warns once when publishing begins to fail, and says once that it goes on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from core.errors import NeardupError

__all__ = ["LoopTimes", "PublishLoop"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoopTimes:
    """When a loop looks again. Seconds."""

    backoff_first_s: float
    """The pause after a failure; it doubles with each further one."""
    backoff_max_s: float
    pause_s: float = 0.0
    """The least time between two looks."""
    idle_s: float = 1.0
    """The longest time between two looks."""


class PublishLoop:
    """Calls `publish` whenever it is woken, and now and then, until it says that nothing is left."""

    def __init__(
        self,
        name: str,
        publish: Callable[[], object],
        failed: Callable[[], None],
        waits: Callable[[], str],
        ended: Callable[[], None],
        times: LoopTimes,
        doing: str = "publishing",
    ) -> None:
        """Prepares the thread.

        Args:
            name: Of the thread, and of what is published in messages.
            publish: Publishes some of what there is; falsy when nothing was left.
            failed: Told of each failure.
            waits: Says what waits while publishing fails.
            ended: Called at the end of the thread.
            times: When it looks again.
            doing: What `publish` does, in messages: a loop may do other things with what a store holds.
        """
        self.name = name
        self._doing = doing
        self._publish = publish
        self._failed = failed
        self._waits = waits
        self._ended = ended
        self._times = times
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Ends the thread after the current call of `publish`, or after `timeout_s` seconds."""
        self._stopped.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped.is_set()

    def wake(self) -> None:
        """There is something to publish."""
        self._woken.set()

    def _run(self) -> None:
        times = self._times
        backoff_s = times.backoff_first_s
        while not self._stopped.is_set():
            self._woken.clear()
            try:
                while not self._stopped.is_set() and self._publish():
                    backoff_s = times.backoff_first_s
                    self._recovered()
            except Exception as error:  # noqa: BLE001 - the edge of the thread: publishing must continue
                if not self._stopped.is_set():
                    self._report(error)
                    self._stopped.wait(backoff_s)
                    backoff_s = min(2 * backoff_s, times.backoff_max_s)
                continue
            self._recovered()
            self._stopped.wait(times.pause_s)
            self._woken.wait(times.idle_s)
        self._ended()

    def _report(self, error: Exception) -> None:
        self._failed()
        if not self._failing:
            self._failing = True
            known = isinstance(error, NeardupError)
            log.warning("%s %s: %s", self._doing, self._waits(), error, exc_info=None if known else error)

    def _recovered(self) -> None:
        if self._failing:
            self._failing = False
            log.info("%s of %s resumed", self._doing, self.name)
