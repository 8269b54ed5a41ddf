"""Searches whose lists are too long: of each list only its oldest images count.

`max_postings` by the number of groups is what one list may contribute. What counts are images that are visible from the
place of the search, also those that share a posting: so the same images count however the index is cut into segments,
and a repeated search is answered as it was.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search.index.compiled import compiled, load64, whole
from search.index.posting_lists import find_list
from search.index.selection import keep_smallest

__all__ = ["best_of", "oldest_entries", "read_numbers", "weigh_lists"]

_BLOCK = 32


@compiled
def read_numbers(data: NDArray[np.uint8], start: int, end: int, size: int, bound: int, out: NDArray[np.int64]) -> int:
    """Unpacks the numbers of a list that are below a bound, as many as `out` takes; how many."""
    flag = np.uint64(1) << np.uint64(8 * size - 1)
    word = load64(data, start)
    few = (word & flag) != 0
    number = whole(word & (flag - np.uint64(1)))
    at = start + size
    filled = 0
    gaps = 0
    width = 0
    bit = 0
    mask = np.uint64(0)
    while number < bound and filled < out.shape[0]:
        out[filled] = number
        filled += 1
        if gaps == 0:
            at += (bit + 7) >> 3
            bit = 0
            if at >= end:
                break
            if few:
                number = whole(load64(data, at) & (flag - np.uint64(1)))
                at += size
                continue
            head = whole(data[at])
            at += 1
            gaps = _BLOCK
            if head & 128:
                gaps = whole(data[at])
                at += 1
            width = head & 127
            mask = (np.uint64(1) << np.uint64(width)) - np.uint64(1)
        gaps -= 1
        number += whole((load64(data, at + (bit >> 3)) >> np.uint64(bit & 7)) & mask) + 1
        bit += width
    return filled


@compiled
def _bounds_of_list(
    term: int,
    group: int,
    directory: NDArray[np.uint32],
    bases: NDArray[np.int64],
    data: NDArray[np.uint8],
    rest_bits: int,
    rest_bytes: int,
) -> tuple[int, int]:
    place = term >> rest_bits
    start = bases[group] + whole(directory[group, place])
    stop = bases[group] + whole(directory[group, place + 1])
    if rest_bits > 0 and stop > start:
        return find_list(data, start, stop, term & ((1 << rest_bits) - 1), rest_bytes)
    return start, stop


@compiled
def weigh_lists(
    terms: NDArray[np.uint32],
    directory: NDArray[np.uint32],
    bases: NDArray[np.int64],
    data: NDArray[np.uint8],
    rest_bits: int,
    rest_bytes: int,
    size: int,
    shares: NDArray[np.uint64],
    shared_heads: NDArray[np.uint32],
    shared_starts: NDArray[np.uint32],
    shared_entries: NDArray[np.uint32],
    numbers: NDArray[np.int64],
    weights: NDArray[np.int64],
) -> None:
    """Adds to `weights` (n, groups) how many entries each list of a segment has, up to the length of `numbers`."""
    for query in range(terms.shape[0]):
        for group in range(terms.shape[1]):
            start, stop = _bounds_of_list(
                whole(terms[query, group]), group, directory, bases, data, rest_bits, rest_bytes
            )
            if stop <= start:
                continue
            count = read_numbers(data, start, stop, size, 1 << 62, numbers)
            weight = count
            for index in range(count):
                head = numbers[index]
                if (shares[head >> 6] >> np.uint64(head & 63)) & np.uint64(1):
                    row = np.searchsorted(shared_heads, np.uint32(head))
                    weight += whole(shared_starts[row + 1]) - whole(shared_starts[row])
            weights[query, group] += weight


@compiled
def oldest_entries(
    terms: NDArray[np.uint32],
    bound: int,
    as_of: int,
    directory: NDArray[np.uint32],
    bases: NDArray[np.int64],
    data: NDArray[np.uint8],
    rest_bits: int,
    rest_bytes: int,
    size: int,
    shares: NDArray[np.uint64],
    shared_heads: NDArray[np.uint32],
    shared_starts: NDArray[np.uint32],
    shared_entries: NDArray[np.uint32],
    hidden: NDArray[np.int64],
    numbers: NDArray[np.int64],
    room: NDArray[np.int64],
    remaining: NDArray[np.int64],
    found: NDArray[np.int64],
    filled: int,
) -> int:
    """Adds to `found` the oldest visible entries of each list of one query, at most `remaining` of each group.

    Args:
        terms: (groups,) of the query; see `search.index.counting.search_segment` for what is not named here.
        numbers: Scratch, as long as the longest list.
        room: Scratch, at least twice as long as the largest of `remaining`, and 64 more.
        remaining: (groups,) what each list may still contribute; less what it did; -1 where it had more.
        found: Out.
        filled: How much of `found` is filled.

    Returns:
        How much of `found` is filled then.
    """
    for group in range(terms.shape[0]):
        most = remaining[group]
        start, stop = _bounds_of_list(whole(terms[group]), group, directory, bases, data, rest_bits, rest_bytes)
        if stop <= start or most < 0:
            continue
        count = read_numbers(data, start, stop, size, bound, numbers)
        taken = 0
        heads = 0
        for index in range(count):
            head = numbers[index]
            if heads > most:
                break
            if hidden[head] == 0 or as_of < hidden[head]:
                if taken == room.shape[0]:
                    taken = keep_smallest(room, 0, taken, most + 1)
                room[taken] = head
                taken += 1
                heads += 1
            if (shares[head >> 6] >> np.uint64(head & 63)) & np.uint64(1):
                row = np.searchsorted(shared_heads, np.uint32(head))
                followers = 0
                for at in range(shared_starts[row], shared_starts[row + 1]):
                    entry = whole(shared_entries[at])
                    if entry >= bound or followers > most:
                        break
                    if hidden[entry] == 0 or as_of < hidden[entry]:
                        if taken == room.shape[0]:
                            taken = keep_smallest(room, 0, taken, most + 1)
                        room[taken] = entry
                        taken += 1
                        followers += 1
        kept = keep_smallest(room, 0, taken, most) if most > 0 else 0
        for index in range(kept):
            found[filled] = room[index]
            filled += 1
        remaining[group] = -1 if taken > most else most - kept
    return filled


def best_of(
    found: NDArray[np.int64], excluded: int, least: int, wanted: int
) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
    """The entries found most often, by that, then by age, and how often."""
    entries, counts = np.unique(found, return_counts=True)
    rows = np.flatnonzero((counts >= least) & (entries != excluded))
    rows = rows[np.argsort(-counts[rows], kind="stable")][:wanted]
    return entries[rows], counts[rows].astype(np.uint16)
