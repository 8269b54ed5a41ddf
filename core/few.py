"""A limit on how many calls do one thing at the same time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import BusyError

__all__ = ["one_of_few"]


@contextmanager
def one_of_few(places: threading.Lock | threading.Semaphore, busy: str, retry_after_s: float) -> Iterator[None]:
    """Holds a place for the block, and never waits for one.

    Args:
        places: As many as there may be; a lock is one.
        busy: What the error says if all are taken.
        retry_after_s: When the caller may come again, in seconds.

    Raises:
        BusyError: All places are taken.
    """
    if not places.acquire(blocking=False):
        raise BusyError(busy, retry_after_s)
    try:
        yield
    finally:
        places.release()
