"""How often and how long: queries a second, and percentiles."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

__all__ = ["in_batches", "percentiles_ms", "rate"]

_Batch = TypeVar("_Batch")


def in_batches(rows: Sequence[int] | np.ndarray, size: int) -> list[np.ndarray]:
    """Whole batches of a size; what is left over is dropped."""
    whole = np.asarray(rows)
    return [whole[first : first + size] for first in range(0, len(whole) - size + 1, size)]


def rate(batches: Sequence[_Batch], size: int, search: Callable[[_Batch], object], seconds: float = 3.0) -> float:
    """Queries a second: the best of three passes over different batches, each about a third of the time.

    The best, not the mean: whatever else the machine does only ever slows a pass down.
    """
    search(batches[0])
    share = seconds / 3
    at, best = 0, 0.0
    for _ in range(3):
        done, started, passed = 0, time.perf_counter(), 0.0
        while passed < share:
            search(batches[at % len(batches)])
            at, done = at + 1, done + size
            passed = time.perf_counter() - started
        best = max(best, done / passed)
    return best


def percentiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p99 and the longest, in milliseconds."""
    values = np.asarray(seconds) * 1000
    p50, p99 = np.percentile(values, [50, 99])
    return {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3), "max_ms": round(float(values.max()), 3)}
