"""Reads rows of a column by number. They lie anywhere in a mapped file, so each is prefetched some rows ahead."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from search.index.compiled import compiled, prefetch, whole

__all__ = ["AHEAD", "take_rows"]

AHEAD = 12
"""How many rows ahead a row is prefetched: about the number of rows read while one access waits for memory."""

_LINE = 64
"""Bytes of a cache line."""

_Number = TypeVar("_Number", bound=np.generic)


def take_rows(column: NDArray[_Number], rows: NDArray[np.int64]) -> NDArray[_Number]:
    """The rows (n, ...) with these numbers, like `column[rows]`; the numbers are not checked.

    Args:
        column: (m, ...) contiguous in memory.
        rows: (n,) each from 0 to m - 1.
    """
    taken: NDArray[Any] = np.empty((len(rows), *column.shape[1:]), column.dtype)
    if len(rows):
        width = taken.nbytes // len(rows)
        _take(column.reshape(-1).view(np.uint8), rows, width, taken.reshape(-1).view(np.uint8))
    return taken


@compiled
def _take(data: NDArray[np.uint8], rows: NDArray[np.int64], width: int, taken: NDArray[np.uint8]) -> None:
    size = rows.shape[0]
    for row in range(min(AHEAD, size)):
        for byte in range(0, width, _LINE):
            prefetch(data, rows[row] * width + byte)
    for row in range(size):
        if row + AHEAD < size:
            later = rows[row + AHEAD] * width
            for byte in range(0, width, _LINE):
                prefetch(data, later + byte)
            prefetch(data, later + width - 1)
        start = whole(rows[row]) * width
        for byte in range(width):
            taken[row * width + byte] = data[start + byte]
