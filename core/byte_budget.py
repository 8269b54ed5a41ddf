"""A budget of memory that the calls of a server share. Each takes its part before it makes anything of that size."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import BusyError

__all__ = ["ByteBudget"]

_RETRY_AFTER_S = 0.1


class ByteBudget:
    """Counts bytes that are held. Thread-safe."""

    def __init__(self, most: int) -> None:
        """Starts with nothing held; `most` bytes may be held at once."""
        self._most = most
        self._held = 0
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Holds some bytes while the block runs. A call larger than the budget gets in when it is alone.

        Raises:
            BusyError: Other calls hold too much; the error says when to try again.
        """
        with self._lock:
            if self._held and self._held + size > self._most:
                raise BusyError(
                    f"other calls hold {self._held} bytes, {size} more would exceed {self._most}: try again later",
                    _RETRY_AFTER_S,
                )
            self._held += size
        try:
            yield
        finally:
            with self._lock:
                self._held -= size
