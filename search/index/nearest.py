"""Stage two of a search: the distances of the codes that stage one found, and the nearest of them.

The codes lie anywhere in mapped columns, so each is prefetched some rows ahead. `search.ranking` has the slow way.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search.index.compiled import borrowing, load64, ones, prefetch, whole
from search.index.gathering import AHEAD
from search.index.selection import keep_smallest, sort_keys

__all__ = ["distances_of", "keep_nearest"]

_LINE = 64
"""Bytes of a cache line."""

_WORD = 8
"""Bytes that are compared at a time."""


def distances_of(
    column: NDArray[np.uint8], rows: NDArray[np.int64], codes: NDArray[np.uint8], asked: NDArray[np.int64], bits: int
) -> NDArray[np.uint16]:
    """The distances (n,) of codes from the codes of the searches that found them.

    Args:
        column: (m, code bytes) contiguous in memory.
        rows: (n,) of the column.
        codes: (searches, code bytes) contiguous in memory.
        asked: (n,) for each row its search.
        bits: How many leading bits are compared; a multiple of 8.
    """
    distances = np.empty(len(rows), np.uint16)
    if len(rows):
        _measure(column.reshape(-1), rows, codes, asked, bits // 8, distances)
    return distances


@borrowing
def _measure(
    data: NDArray[np.uint8],
    rows: NDArray[np.int64],
    codes: NDArray[np.uint8],
    asked: NDArray[np.int64],
    size: int,
    distances: NDArray[np.uint16],
) -> None:
    width = codes.shape[1]
    words = size // _WORD * _WORD
    count = rows.shape[0]
    for row in range(min(AHEAD, count)):
        for byte in range(0, size, _LINE):
            prefetch(data, rows[row] * width + byte)
    for row in range(count):
        if row + AHEAD < count:
            later = rows[row + AHEAD] * width
            for byte in range(0, size, _LINE):
                prefetch(data, later + byte)
            prefetch(data, later + size - 1)
        start = rows[row] * width
        own = codes[asked[row]]
        distance = whole(0)
        for byte in range(0, words, _WORD):
            distance += whole(ones(load64(data, start + byte) ^ load64(own, byte)))
        for byte in range(words, size):
            distance += whole(ones(np.uint64(data[start + byte] ^ own[byte])))
        distances[row] = distance


@borrowing
def keep_nearest(  # noqa: PLR0913 - compiled code takes arrays one by one
    entries: NDArray[np.int64],
    overlaps: NDArray[np.uint16],
    distances: NDArray[np.uint16],
    sizes: NDArray[np.int64],
    wanted: NDArray[np.int64],
    keys: NDArray[np.int64],
    spare_entries: NDArray[np.int64],
    spare_overlaps: NDArray[np.uint16],
) -> None:
    """Moves the nearest of each row to its front, in order of distance; equal ones keep their order. In place.

    Args:
        entries: (n, width)
        overlaps: (n, width)
        distances: (n, width)
        sizes: (n,) how much of each row is filled.
        wanted: (n,) how many of each row are put in order; what follows them has no meaning.
        keys: (at least width,) scratch.
        spare_entries: (width,) scratch.
        spare_overlaps: (width,) scratch.
    """
    for row in range(sizes.shape[0]):
        size = sizes[row]
        for index in range(size):
            keys[index] = (whole(distances[row, index]) << 32) | index
            spare_entries[index] = entries[row, index]
            spare_overlaps[index] = overlaps[row, index]
        kept = keep_smallest(keys, 0, size, wanted[row])
        sort_keys(keys, 0, kept)
        for index in range(kept):
            at = keys[index] & 0xFFFFFFFF
            entries[row, index] = spare_entries[at]
            overlaps[row, index] = spare_overlaps[at]
            distances[row, index] = keys[index] >> 32
