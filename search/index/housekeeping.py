"""The threads that seal full tails and merge segments while calls go on.

There are two, so that a merge of an hour does not delay sealing. Both are rate-limited and have a lower priority than
the threads that answer calls.
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
"""Seconds until a failed step is tried again; the disk may be full, for example."""


class _Worker:
    """A thread that does one kind of work when it is woken, until there is none left."""

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
                log.warning("%s; trying again in %.0f s", error, _RETRY_S)
                self._stopped.wait(_RETRY_S)
                self._woken.set()
            except Exception:  # the edge of the thread: any error of the work ends it
                # The index works without it until a restart: the writer waits for full tails, searches slow down.
                log.exception("%s has stopped", self._thread.name)
                return


class Housekeeping:
    """Seals and merges in a segment store."""

    def __init__(self, store: SegmentStore, background: bool, bytes_per_s: float) -> None:
        """Starts the threads, if wanted.

        Args:
            store: The store to seal and merge in.
            background: Whether threads do the work; without them the caller of `step` does.
            bytes_per_s: The most bytes of segments that each thread makes in a second; 0 sets no limit.
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
        """Makes the threads look for work."""
        for worker in self._workers:
            worker.wake()

    def step(self) -> bool:
        """Does one piece of work, in the calling thread and without a rate limit; says whether there was any.

        Raises:
            UnavailableError: It could not be written; nothing changed.
        """
        return _attempt(self._store.seal) or _attempt(self._store.merge)

    def make_room(self) -> None:
        """Waits until the writer may fill one more tail. Must not be called under the writer's lock.

        Raises:
            UnavailableError: Full tails cannot be sealed.
        """
        if self._workers:
            self._store.wait_for_room()
            return
        while self._store.is_full:
            self.step()

    def stop(self) -> None:
        """Stops the work in progress and the threads."""
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
