"""The threads that seal full tails and merge segments while calls go on.

There are two, so that a merge of an hour does not delay sealing. Both are rate-limited. The heavy part, making the file
of a segment, has a lower priority than the threads that answer calls: each thread has it done by a process of its own
(`search.index.segment_process`), or does it itself at that priority.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from core.apart import WorkStopped, yield_to_calls
from core.errors import UnavailableError
from search.index.rate_limiter import RateLimiter
from search.index.segment_maker import LocalMaker, SegmentMaker
from search.index.segment_process import ProcessMaker, Supervision
from search.index.segment_store import SegmentStore
from search.index.settings import IndexSettings

__all__ = ["Housekeeping"]

log = logging.getLogger(__name__)

_RETRY_S = 1.0
"""Seconds until a failed step is tried again; the disk may be full, for example."""


class _Worker:
    """A thread that does one kind of work when it is woken, until there is none left."""

    def __init__(self, name: str, work: Callable[[], bool], stopped: threading.Event, low_priority: bool) -> None:
        self._work = work
        self._low_priority = low_priority
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
        if self._low_priority:
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

    def __init__(self, store: SegmentStore, settings: IndexSettings, background: bool, lock: int) -> None:
        """Starts the threads, if wanted.

        Args:
            store: The store to seal and merge in.
            settings: How fast, and whether processes of their own make the segments.
            background: Whether threads do the work; without them the caller of `step` does.
            lock: The open file that holds the lock of the folder.
        """
        self._store = store
        self._stopped = threading.Event()
        self._sealing = _maker(settings, self._stopped, lambda: store.sealing_is_urgent, lock)
        self._merging = _maker(settings, self._stopped, lambda: store.merging_is_urgent, lock)
        self._workers: list[_Worker] = []
        if background:
            low = not settings.background_process
            self._workers.append(_Worker("index-merging", self._merge, self._stopped, low))
            self._workers.append(_Worker("index-sealing", self._seal, self._stopped, low))

    def wake(self) -> None:
        """Makes the threads look for work."""
        for worker in self._workers:
            worker.wake()

    def step(self) -> bool:
        """Does one piece of work, in the calling thread and without a rate limit; says whether there was any.

        Raises:
            UnavailableError: It could not be written; nothing changed.
        """
        return _attempt(self._store.seal) or _attempt(self._store.merge) or _attempt(self._store.erase)

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
        self._sealing.close()
        self._merging.close()

    def _seal(self) -> bool:
        sealed = _attempt(lambda: self._store.seal(self._sealing))
        if sealed:
            self.wake()
        return sealed

    def _merge(self) -> bool:
        return _attempt(lambda: self._store.merge(self._merging)) or _attempt(lambda: self._store.erase(self._merging))


def _maker(settings: IndexSettings, stopped: threading.Event, urgent: Callable[[], bool], lock: int) -> SegmentMaker:
    rate = settings.background_bytes_per_s
    if settings.background_process:
        return ProcessMaker(settings.shape, settings.sync, rate, Supervision(stopped, urgent, lock))
    return LocalMaker(settings.shape, settings.sync, RateLimiter(rate, stopped, urgent))


def _attempt(work: Callable[[], bool]) -> bool:
    try:
        return work()
    except (OSError, MemoryError) as error:
        reason = error.strerror if isinstance(error, OSError) else "there is not enough memory"
        raise UnavailableError(f"cannot seal or merge: {reason}", retry_after_s=_RETRY_S) from error
