"""A store in which a bad model decided for an hour: for tests of the doors of rollbacks.

10:00  a founds, b joins it, c founds    changes 1 to 3, model m1, positions 0 to 2
11:00  c joins a, d joins a              changes 4 and 5, model bad, positions 3 and 4
"""

from __future__ import annotations

from core.types import Versions
from storage.memory import MemoryStore
from storage.testing.decisions import A, B, C, D, founds, joins, put
from storage.testing.overrides import JOB

__all__ = ["AT_10_30_MS", "AT_11_30_MS", "bad_hour_store"]

HOUR_MS = 3_600_000

TEN_MS = 1_764_324_000_000
"""2025-11-28T10:00:00Z."""

AT_10_30_MS = TEN_MS + HOUR_MS // 2
"""Between the two models."""

AT_11_30_MS = AT_10_30_MS + HOUR_MS
"""After all of it."""


def bad_hour_store() -> MemoryStore:
    """A new one. What is written later is written at noon."""
    times = iter([TEN_MS, TEN_MS + HOUR_MS])
    store = MemoryStore(now_ms=lambda: next(times, TEN_MS + 2 * HOUR_MS))
    bad = Versions("bad", "i1")
    put(store, founds(0, A), joins(1, B, A), founds(2, C), kinds=JOB)
    put(store, joins(3, C, A, old=C, version=2, versions=bad), joins(4, D, A, versions=bad), kinds=JOB)
    return store
