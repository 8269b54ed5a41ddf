"""The threads that seal full tails and merge segments beside the calls of an index.

Two, so that a merge of an hour holds no tail back. Both keep to a pace and give way to threads that answer.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from core.errors import UnavailableError
from search.index.rate_limiter import RateLimiter, WorkStopped, yield_to_calls
from search.index.segment_store import SegmentStore

__all__ = ["Housekeeping"]

log = logging.getLogger(__name__)

_RETRY_S = 1.0
"""After a step that failed: the disk is full, say."""


class _Worker:
    """A thread that does one kind of work whenever it is woken, until there is no more of it."""

    def __init__(self, name: str, work: Callable[[], bool], stopped: threading.Event) -> None:
        self._work = work
        self._stopped = stopped
        self._woken = threading.Event()
        self._woken.set()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        self._woken.set()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        yield_to_calls()
        while not self._stopped.is_set():
            self._woken.wait()
            self._woken.clear()
            try:
                while not self._stopped.is_set() and self._work():
                    pass
            except WorkStopped:
                return
            except UnavailableError as error:
                log.warning("%s; tried again in %.0f s", error, _RETRY_S)
                self._stopped.wait(_RETRY_S)
                self._woken.set()
            except Exception:
                # It goes on after a restart; until then the writer is held back by full tails, searches by segments.
                log.exception("%s has stopped", self._thread.name)
                return


class Housekeeping:
    """Runs the steps of a segment store."""

    def __init__(self, store: SegmentStore, background: bool, bytes_per_s: float) -> None:
        """Starts the threads, if there are to be any.

        Args:
            store: Where the work is.
            background: Whether threads do it; else whoever calls `step`.
            bytes_per_s: Of segments that each thread makes; 0 sets no limit.
        """
        self._store = store
        self._stopped = threading.Event()
        self._seal_limiter = RateLimiter(bytes_per_s, self._stopped, lambda: store.sealing_is_urgent)
        self._merge_limiter = RateLimiter(bytes_per_s, self._stopped, lambda: store.merging_is_urgent)
        self._workers: list[_Worker] = []
        if background:
            self._workers.append(_Worker("index-merging", self._merge, self._stopped))
            self._workers.append(_Worker("index-sealing", self._seal, self._stopped))

    def wake(self) -> None:
        """There may be something to do."""
        for worker in self._workers:
            worker.wake()

    def step(self) -> bool:
        """One piece of work, in the calling thread and as fast as can be; whether there was any.

        Raises:
            UnavailableError: It could not be written; nothing changed.
        """
        return _attempt(self._store.seal) or _attempt(self._store.merge)

    def make_room(self) -> None:
        """Sees to it that the writer may fill one more tail. Never under the writer's lock.

        Raises:
            UnavailableError: Full tails cannot be sealed.
        """
        if self._workers:
            self._store.wait_for_room()
            return
        while self._store.is_full:
            self.step()

    def stop(self) -> None:
        """Breaks off the work under way, and does no more."""
        self._stopped.set()
        self.wake()
        for worker in self._workers:
            worker.join()

    def _seal(self) -> bool:
        sealed = _attempt(lambda: self._store.seal(self._seal_limiter))
        if sealed:
            self.wake()
        return sealed

    def _merge(self) -> bool:
        return _attempt(lambda: self._store.merge(self._merge_limiter))


def _attempt(work: Callable[[], bool]) -> bool:
    try:
        return work()
    except (OSError, MemoryError) as error:
        reason = error.strerror if isinstance(error, OSError) else "there is not enough memory"
        raise UnavailableError(f"cannot seal or merge: {reason}", retry_after_s=_RETRY_S) from error
