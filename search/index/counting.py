"""Counting: in how many of a query's lists each number occurs.

There are two ways. A small table counts numbers by their lowest bits. It fits into the processor's nearest caches for
any size of segment. Its counts are never too low, so the few numbers with high counts are sifted out and then counted
exactly. Queries with very many postings count every number exactly.

Exact counters are never cleared. Each search counts from a higher base, and values at or below the base mean zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.index.compiled import borrowing, whole
from search.index.list_reading import Lists, read_block, start_list
from search.index.posting_lists import BLOCK

__all__ = [
    "BUFFER",
    "TABLE",
    "count_each",
    "count_lists",
    "fresh_base",
    "level_sizes",
    "of_overlap",
    "of_overlap_one",
    "sift",
    "table_levels",
    "tally",
]

TABLE = 1 << 16
"""Counters of the small table, one byte each."""

BUFFER = 1 << 17
"""The most postings of a query that is counted with the small table."""

_FULL = 255
"""The largest count of the table; counters stop there."""

_TOP = 65535
"""The largest value of an exact counter."""


@borrowing
def tally(numbers: NDArray[np.int32], size: int, table: NDArray[np.uint8]) -> None:
    """Counts numbers[:size] in the small table."""
    for index in range(size):
        slot = numbers[index] & (TABLE - 1)
        count = table[slot]
        table[slot] = count + np.uint8(count != _FULL)


@borrowing
def table_levels(table: NDArray[np.uint8], stride: int, levels: NDArray[np.int64]) -> None:
    """How many slots of a sample of the table hold 0, 1, 2, ...; the last level counts all higher ones."""
    levels[:] = 0
    top = levels.shape[0] - 1
    for slot in range(0, TABLE, stride):
        levels[min(whole(table[slot]), top)] += 1


@borrowing
def sift(numbers: NDArray[np.int32], size: int, table: NDArray[np.uint8], least: int, kept: NDArray[np.int32]) -> int:
    """Copies those of numbers[:size] that may have an overlap of `least`, repeats included; returns how many."""
    count = 0
    limit = np.uint8(min(least, _FULL))
    for index in range(size):
        number = numbers[index]
        kept[count] = number
        count += table[number & (TABLE - 1)] >= limit
    return count


@borrowing
def fresh_base(counts: NDArray[np.uint16], base: int, groups: int) -> int:
    """The base for a search of so many groups; clears the counters when they would overflow."""
    if base + groups > _TOP:
        counts[:] = 0
        return 0
    return base


@borrowing
def count_each(
    numbers: NDArray[np.signedinteger[Any]],
    size: int,
    counts: NDArray[np.uint16],
    base: int,
    met: NDArray[np.int32],
    distinct: int,
) -> int:
    """Counts numbers[:size] exactly and collects the distinct ones in `met` (which may be `numbers`); returns their
    number so far."""
    for index in range(size):
        number = numbers[index]
        count = counts[number]
        met[distinct] = number
        distinct += count <= base
        counts[number] = max(count, np.uint16(base)) + np.uint16(1)
    return distinct


@borrowing
def count_lists(  # noqa: PLR0913 - compiled code takes arrays one by one
    lists: Lists,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    bound: int,
    buffer: NDArray[np.int32],
    counts: NDArray[np.uint16],
    base: int,
    met: NDArray[np.int32],
) -> tuple[int, int]:
    """Counts lists of any length exactly; returns how many distinct numbers `met` has, and the postings read."""
    distinct = 0
    read = 0
    filled = 0
    for group in range(starts.shape[0]):
        if ends[group] <= starts[group]:
            continue
        number, at, few = start_list(lists.data, starts[group], lists.number_bytes)
        buffer[filled] = number
        filled += 1
        while True:
            if filled + BLOCK > buffer.shape[0]:
                distinct = count_each(buffer, filled, counts, base, met, distinct)
                read += filled
                filled = 0
            if at >= ends[group] or number >= bound:
                break
            at, filled = read_block(lists.data, at, number, few, lists.number_bytes, buffer, filled)
            number = whole(buffer[filled - 1])
    return count_each(buffer, filled, counts, base, met, distinct), read + filled


@borrowing
def of_overlap(
    met: NDArray[np.int32], distinct: int, counts: NDArray[np.uint16], base: int, least: int, kept: NDArray[np.int32]
) -> int:
    """Copies those of met[:distinct] with an overlap of `least` or more into `kept` (which may be `met`); returns how
    many."""
    count = 0
    for index in range(distinct):
        number = met[index]
        kept[count] = number
        count += whole(counts[number]) - base >= least
    return count


@borrowing
def of_overlap_one(
    met: NDArray[np.int32], distinct: int, counts: NDArray[np.uint16], base: int, kept: NDArray[np.int32]
) -> int:
    """Copies those of met[:distinct] with an overlap of 1 into `kept`; returns how many."""
    count = 0
    for index in range(distinct):
        number = met[index]
        kept[count] = number
        count += whole(counts[number]) - base == 1
    return count


@borrowing
def level_sizes(
    met: NDArray[np.int32], distinct: int, counts: NDArray[np.uint16], base: int, levels: NDArray[np.int64]
) -> None:
    """How many of met[:distinct] have each overlap."""
    levels[:] = 0
    for index in range(distinct):
        levels[whole(counts[met[index]]) - base] += 1
