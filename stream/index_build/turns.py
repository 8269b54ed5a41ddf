"""Storage lets one caller at a time read all embeddings: a build waits for its turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from core.errors import BusyError

__all__ = ["in_turn"]

T = TypeVar("T")

_PATIENCE_S = 600.0
"""How long a build waits. The server ends a reading that stalls much earlier."""


def in_turn(
    read: Callable[[], T],
    tell: Callable[[str], None],
    patience_s: float = _PATIENCE_S,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """What `read` gives, once no other caller reads.

    Args:
        read: Begins to read the embeddings.
        tell: Told once why it waits.
        patience_s: How long it waits at most.
        sleep: Waits; takes seconds.

    Raises:
        BusyError: Others read for so long.
        UnavailableError: The server is down, or the call failed.
    """
    waited_s = 0.0
    while True:
        try:
            return read()
        except BusyError as error:
            wait_s = error.retry_after_s or 1.0
            if waited_s >= patience_s:
                raise
            if not waited_s:
                tell(f"waiting for at most {patience_s:.0f} s: {error}")
            sleep(wait_s)
            waited_s += wait_s
