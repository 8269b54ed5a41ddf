"""Notices that another generation of the index serves, so that the server can be restarted on it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from core.errors import NeardupError
from search.index.folder import Identity
from search.index.generations import Generation, IndexGenerations

__all__ = ["GenerationWatch"]

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
"""A switch is noticed within this time."""


class GenerationWatch:
    """Looks at the pointer to the serving generation every few seconds; use it as a context manager."""

    def __init__(
        self, generations: IndexGenerations, opened: Generation, identity: Identity, switched: Callable[[], None]
    ) -> None:
        """Reads nothing yet.

        Args:
            generations: The folder of the index.
            opened: The generation that this process has open.
            identity: The settings that this process serves.
            switched: Called once, when another generation for the same settings serves.
        """
        self._generations = generations
        self._seen = opened
        self._identity = identity
        self._switched = switched
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="generation-watch", daemon=True)

    def __enter__(self) -> GenerationWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def look(self) -> bool:
        """Whether another generation for the same settings serves; then `switched` was called."""
        try:
            current = self._generations.current()
        except NeardupError as error:
            log.warning("cannot read which generation of the index serves: %s", error)
            return False
        if current is None or current == self._seen:
            return False
        self._seen = current
        if not current.fits(self._identity):
            log.warning(
                "generation %s of the index was made for other settings than this server has: run `neardup up` to "
                "restart the server with the new settings",
                current.name,
            )
            return False
        log.info("generation %s of the index serves now", current.name)
        self._switched()
        return True

    def _run(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            if self.look():
                return
