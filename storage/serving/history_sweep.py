"""Removes history that is older than the settings want, a little at a time.

A loop looks now and then which entries are old enough (`storage.sweeping`), by the clock by which the store notes when
it wrote them. It removes them in small synced writes with pauses between, so that the writes of the stream wait little.
What a kill interrupts goes on at the next start, since the store keeps how far it is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from core.overrides import OverrideKind
from storage.interfaces import ClusterStore
from storage.serving.publish_loop import LoopTimes, PublishLoop
from storage.sweeping import sweepable

__all__ = ["KEPT", "HistorySweep", "SweepListener"]

log = logging.getLogger(__name__)

KEPT = 10_000
"""So many of the newest entries stay, however old. After a crash the job and the index ask for some of them."""

CHUNK = 1_000
"""Entries of one write."""

PAUSE_S = 0.1
"""Between two writes: 10,000 entries a second, many more than the stream writes."""

LOOK_S = 60.0
"""Between two looks when nothing was old enough."""

DAY_MS = 86_400_000


class SweepListener(Protocol):
    """Is told of progress: metrics."""

    def swept(self, entries: int) -> None:
        """So many more entries went."""
        ...

    def sweep_failed(self) -> None:
        """An attempt failed and will be made again."""
        ...


class HistorySweep:
    """The loop, on its own thread between `start` and `stop`."""

    def __init__(
        self,
        store: ClusterStore,
        history_days: float,
        listener: SweepListener,
        keep: int = KEPT,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 10**6,
        pause_s: float = PAUSE_S,
    ) -> None:
        """Prepares the loop.

        Args:
            store: Has the history.
            history_days: Older entries go. Above 0.
            listener: Is told of progress.
            keep: So many of the newest entries stay.
            now_ms: Milliseconds since the epoch, by the clock of the store.
            pause_s: Between two writes.
        """
        self._store = store
        self._kept_ms = int(history_days * DAY_MS)
        self._listener = listener
        self._keep = keep
        self._now_ms = now_ms
        self._settled = 0
        """No override up to this number wants images to be decided again."""
        self._told = False
        """Whether the log says that history is swept."""
        self._loop = PublishLoop(
            "history",
            self._look,
            listener.sweep_failed,
            lambda: f"waits before history entry {store.state().history_first}",
            lambda: None,
            LoopTimes(1.0, LOOK_S, pause_s, LOOK_S),
            doing="sweeping",
        )

    def start(self) -> None:
        """Starts the loop."""
        self._loop.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ends the loop after the current write, or after `timeout_s` seconds."""
        self._loop.stop(timeout_s)

    def sweep(self) -> int:
        """Removes some of the entries that are old enough; returns how many. Fewer than `CHUNK`: these were the last.

        While images are still to be decided again because of an undo or a rollback, all stay: the history says which.

        Raises:
            StorageError: The store cannot be read, or the disk refuses the write. Try again later.
        """
        if self._is_owed():
            return 0
        with self._store.snapshot() as view:
            before = sweepable(view, self._now_ms() - self._kept_ms, self._keep)
        count = self._store.sweep_history(before, CHUNK)
        if count:
            self._listener.swept(count)
        return count

    def _is_owed(self) -> bool:
        """Whether an override waits, or the images of an undo or a rollback were not sent to be decided again yet."""
        state = self._store.state()
        self._settled = max(self._settled, state.requeued)
        while found := self._store.overrides(self._settled, CHUNK):
            for each in found:
                again = each.override.kind in (OverrideKind.UNDO, OverrideKind.ROLLBACK)
                if again or each.override.number > state.overrides:
                    return True
                self._settled = each.override.number
        return False

    def _look(self) -> bool:
        """Sweeps, and makes the loop come back after a pause if more may be left."""
        count = self.sweep()
        if count == CHUNK:
            self._loop.wake()
        if count and not self._told:
            self._told = True
            log.info("old history is swept: it begins at entry %d now", self._store.state().history_first)
        return False
