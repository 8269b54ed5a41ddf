"""The thread that seals full tails and merges segments beside the calls of an index."""

from __future__ import annotations

import logging
import threading

from search.errors import UnavailableError
from search.index.storehouse import Storehouse

__all__ = ["Housekeeping"]

log = logging.getLogger(__name__)

_RETRY_S = 1.0
"""After a step that failed: the disk is full, say."""


class Housekeeping:
    """Runs the steps of a storehouse."""

    def __init__(self, store: Storehouse, background: bool) -> None:
        """Starts the thread, if there is to be one."""
        self._store = store
        self._woken = threading.Event()
        self._woken.set()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        if background:
            self._thread = threading.Thread(target=self._run, name="index-housekeeping", daemon=True)
            self._thread.start()

    def wake(self) -> None:
        """There may be something to do."""
        self._woken.set()

    def step(self) -> bool:
        """One piece of work, in the calling thread; whether there was any.

        Raises:
            UnavailableError: It could not be written; nothing changed.
        """
        try:
            return self._store.step(self._stopped.is_set)
        except OSError as error:
            raise UnavailableError(f"cannot seal or merge: {error.strerror}", retry_after_s=_RETRY_S) from error

    def make_room(self) -> None:
        """Sees to it that the writer may fill one more tail.

        Raises:
            UnavailableError: Full tails cannot be sealed.
        """
        if self._thread is not None:
            self._store.wait_for_room()
            return
        while self._store.is_full:
            self.step()

    def stop(self) -> None:
        """Waits for the piece of work under way, and does no more."""
        self._stopped.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._woken.wait()
            self._woken.clear()
            try:
                while not self._stopped.is_set() and self.step():
                    pass
            except UnavailableError as error:
                log.warning("%s; tried again in %.0f s", error, _RETRY_S)
                self._stopped.wait(_RETRY_S)
                self._woken.set()
            except Exception:
                # Sealing goes on after a restart; until then the writer is held back by its full tails.
                log.exception("sealing and merging have stopped")
                return
