"""Stage two of a search: the distances of the codes that stage one found, and the nearest of them.

The codes lie anywhere in mapped columns, so each is prefetched some rows ahead. `search.ranking` has the slow way.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from search.index.compiled import borrowing, inlined, load64, ones, prefetch, whole
from search.index.gathering import AHEAD
from search.index.ranks import rank_at
from search.index.selection import keep_smallest, sort_keys

__all__ = ["CodeColumn", "keep_nearest", "measure"]

_LINE = 64
"""Bytes of a cache line."""

_WORD = 8
"""Bytes that are compared at a time."""


class CodeColumn(NamedTuple):
    """The codes of one source, for compiled code."""

    data: NDArray[np.uint8]
    """(rows * code bytes,)"""
    bitmap: NDArray[np.uint64]
    """Of the entries with a code; the rank of an entry is its row."""
    counts: NDArray[np.uint32]
    """The counts of this bitmap, see `search.index.ranks`."""
    all_have: bool
    """Whether each entry has a row, which then has its number."""

    @staticmethod
    def of_all(codes: NDArray[np.uint8]) -> CodeColumn:
        """Codes (rows, code bytes), one for each entry."""
        return CodeColumn(codes.reshape(-1), np.zeros(1, np.uint64), np.zeros(1, np.uint32), True)


@inlined
def _row_of(column: CodeColumn, entry: int) -> int:
    return entry if column.all_have else rank_at(column.bitmap, column.counts, entry)


@inlined
def _prefetch_code(column: CodeColumn, entry: int, width: int, size: int) -> None:
    start = _row_of(column, entry) * width
    for byte in range(0, size, _LINE):
        prefetch(column.data, start + byte)
    prefetch(column.data, start + size - 1)


@borrowing
def measure(
    references: NDArray[np.int64],
    sizes: NDArray[np.int64],
    number: int,
    column: CodeColumn,
    codes: NDArray[np.uint8],
    size: int,
    distances: NDArray[np.uint16],
) -> None:
    """Measures the distances of one source's entries among rows of references.

    Args:
        references: (n, width) the number of a source in the highest 32 bits, a searchable entry in the lowest.
        sizes: (n,) how much of each row is filled.
        number: The number of the source.
        column: Its codes.
        codes: (n, code bytes) with which each row is compared.
        size: How many leading bytes are compared.
        distances: (n, width) out.
    """
    width = codes.shape[1]
    words = size // _WORD * _WORD
    for row in range(sizes.shape[0]):
        own = codes[row]
        filled = sizes[row]
        for index in range(-AHEAD, filled):
            later = index + AHEAD
            if later < filled and references[row, later] >> 32 == number:
                _prefetch_code(column, references[row, later] & 0xFFFFFFFF, width, size)
            if index < 0 or references[row, index] >> 32 != number:
                continue
            start = _row_of(column, references[row, index] & 0xFFFFFFFF) * width
            distance = whole(0)
            for byte in range(0, words, _WORD):
                distance += whole(ones(load64(column.data, start + byte) ^ load64(own, byte)))
            for byte in range(words, size):
                distance += whole(ones(np.uint64(column.data[start + byte] ^ own[byte])))
            distances[row, index] = distance


@borrowing
def keep_nearest(
    entries: NDArray[np.int64],
    overlaps: NDArray[np.uint16],
    distances: NDArray[np.uint16],
    sizes: NDArray[np.int64],
    wanted: NDArray[np.int64],
    keys: NDArray[np.int64],
    spare: NDArray[np.int64],
) -> None:
    """Moves the nearest of each row to its front, in order of distance; equal ones keep their order. In place.

    Args:
        entries: (n, width)
        overlaps: (n, width)
        distances: (n, width)
        sizes: (n,) how much of each row is filled.
        wanted: (n,) how many of each row are put in order; what follows them has no meaning.
        keys: (width,) scratch.
        spare: (width,) scratch.
    """
    for row in range(sizes.shape[0]):
        size = sizes[row]
        for index in range(size):
            keys[index] = (whole(distances[row, index]) << 32) | index
        kept = keep_smallest(keys, 0, size, wanted[row])
        sort_keys(keys, 0, kept)
        for index in range(kept):
            distances[row, index] = keys[index] >> 32
            spare[index] = entries[row, keys[index] & 0xFFFFFFFF]
            keys[index] = overlaps[row, keys[index] & 0xFFFFFFFF]
        for index in range(kept):
            entries[row, index] = spare[index]
            overlaps[row, index] = keys[index]
