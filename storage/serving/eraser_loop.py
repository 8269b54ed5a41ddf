"""A thread that erases what was forgotten, in small steps between the writes of the stream."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from storage.erasing import Eraser
from storage.interfaces import ClusterStore
from storage.serving.publish_loop import LoopTimes, PublishLoop

__all__ = ["EraserLoop"]

log = logging.getLogger(__name__)

REST_SHARE = 10.0
"""After images were erased, others wait for so many times as long as that took, so that they are erased together."""

MAX_REST_S = 6 * 3600.0
"""They wait no longer than that."""


class EraserLoop:
    """Erases what a store has forgotten."""

    def __init__(
        self,
        store: ClusterStore,
        waits_for_publisher: bool,
        failed: Callable[[], None] = lambda: None,
        unerased: Callable[[int | None], None] = lambda oldest_ms: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        idle_s: float = 10.0,
    ) -> None:
        """Prepares the loop.

        Args:
            store: The store.
            waits_for_publisher: Whether history is published, so that it is only changed after that.
            failed: Told of each step that failed and will be tried again.
            unerased: Told after each step when the image was forgotten that has waited longest; None: none waits.
            clock: Seconds.
            sleep: Waits; takes seconds.
            idle_s: How often it looks whether something was forgotten.
        """
        self._eraser = Eraser(store, waits_for_publisher)
        self._unerased = unerased
        self._clock = clock
        self._sleep = sleep
        self._began: float | None = None
        self._rests_until = clock()
        self._loop = PublishLoop(
            "eraser",
            self.step,
            failed,
            lambda: "waits: images that were forgotten are not erased yet",
            lambda: None,
            LoopTimes(1.0, 60.0, idle_s=idle_s),
            doing="erasing",
        )

    def start(self) -> None:
        """Starts the loop."""
        self._loop.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ends the loop after the current step, or after `timeout_s` seconds."""
        self._loop.stop(timeout_s)

    def step(self) -> bool:
        """Does one step, and leaves the stream as much time as that took; says whether there was any.

        Raises:
            UnavailableError: The store cannot be read or written now. Try again later.
        """
        start = self._clock()
        if self._began is None and start < self._rests_until:
            return False
        try:
            did = self._eraser.step()
        finally:
            self._unerased(self._eraser.oldest_ms)
        now = self._clock()
        if did:
            self._began = start if self._began is None else self._began
            self._sleep(min(1.0, now - start))
        elif self._began is not None:
            took_s, self._began = now - self._began, None
            self._rests_until = now + min(MAX_REST_S, REST_SHARE * took_s)
            log.info("images that were forgotten are erased after %.1f s", took_s)
        return did
