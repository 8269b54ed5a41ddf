"""Bitmaps with rank: how many bits are set before a given one.

The rank of an entry's bit is its row in a column that only some entries have. Beside the bitmap (words of 64 bits)
there is one running count for each 8 words (Jacobson's rank, "Space-efficient static trees and graphs", FOCS 1989, with
one level of counts).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search.index.compiled import compiled, inlined, ones, whole

__all__ = ["bitmap_of", "counts_of", "rank_at", "rank_of", "word_counts_of", "word_rank_at"]

_WORDS = 8


def bitmap_of(flags: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Flags as words, the first flag in the lowest bit; at least one word."""
    packed = np.packbits(flags, bitorder="little")
    padded = np.zeros((max(len(flags), 1) + 63) // 64 * 8, np.uint8)
    padded[: len(packed)] = packed
    return padded.view("<u8").astype(np.uint64)


def counts_of(bitmap: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """The bits set before each 8 words."""
    return word_counts_of(bitmap)[::_WORDS].astype(np.uint32)


def word_counts_of(bitmap: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """The bits set before each word: eight times the memory, for ranks at a third of the time."""
    ones = np.bitwise_count(bitmap)
    return np.concatenate((np.zeros(1, np.uint32), np.cumsum(ones, dtype=np.uint32)))[:-1]


def rank_of(bitmap: NDArray[np.uint64], counts: NDArray[np.uint32], entries: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many bits are set before each of some entries; -1 where the entry's own bit is not set."""
    ranks = np.empty(len(entries), np.int64)
    _rank(bitmap, counts, entries, ranks)
    return ranks


@inlined
def word_rank_at(bitmap: NDArray[np.uint64], counts: NDArray[np.uint32], entry: int) -> int:
    """How many bits are set before an entry's own, from the counts of each word; for compiled code."""
    word = entry >> 6
    return whole(counts[word]) + whole(ones(bitmap[word] & ((np.uint64(1) << np.uint64(entry & 63)) - np.uint64(1))))


@inlined
def rank_at(bitmap: NDArray[np.uint64], counts: NDArray[np.uint32], entry: int) -> int:
    """How many bits are set before an entry's own; for compiled code."""
    word = entry >> 6
    rank = whole(counts[word // _WORDS])
    for index in range(word // _WORDS * _WORDS, word):
        rank += whole(ones(bitmap[index]))
    return rank + whole(ones(bitmap[word] & ((np.uint64(1) << np.uint64(entry & 63)) - np.uint64(1))))


@compiled
def _rank(
    bitmap: NDArray[np.uint64], counts: NDArray[np.uint32], entries: NDArray[np.int64], ranks: NDArray[np.int64]
) -> None:
    for row in range(entries.shape[0]):
        entry = entries[row]
        if (bitmap[entry >> 6] >> np.uint64(entry & 63)) & np.uint64(1):
            ranks[row] = rank_at(bitmap, counts, entry)
        else:
            ranks[row] = -1
