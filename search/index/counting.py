"""The compiled search of one sealed segment: which entries share the most terms with each of a batch of queries.

The numbers in posting lists are entries; entries with equal terms share the postings of the first of them (the head),
and are listed under it in age order. So counting counts heads, and choosing expands them.

A query goes through four steps, each query's lists being asked for from memory while the one before it is counted:

1. *Read*: the lists are unpacked into a buffer, and each number is counted in a small table by its lowest bits. The
   table fits into the cache nearest the processor, whatever the size of the segment; counters of all entries do not
   (at a million entries that alone took longer than unpacking the lists).
2. *Sift*: numbers whose small counter reached 2 may have an overlap of 2 or more. They are few, and are counted
   exactly. All others have an overlap of 1.
3. *Choose*, from the highest overlap down, until enough visible entries were met. Entries of overlap 1 are taken by age
   from the buffer, those below a threshold first: lists begin with their oldest entries.
4. *Order* what was chosen, overlap by overlap, by age.

A query whose lists do not fit into the buffer is counted with one counter per entry instead. These counters are never
cleared: each search counts from a higher base, and what is below the base counts as zero.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search.index.compiled import compiled, load64, prefetch, whole
from search.index.posting_lists import find_list
from search.index.selection import keep_smallest, key_of, settle, sort_numbers

__all__ = ["BUFFER", "SMALL", "search_segment"]

SMALL = 1 << 16
"""Counters of the small table, two bytes each: it stays in the second cache."""

BUFFER = 1 << 15
"""Postings of a query that is counted through the small table."""

_BLOCK = 32


@compiled
def _read_list(
    data: NDArray[np.uint8],
    start: int,
    end: int,
    size: int,
    bound: int,
    small: NDArray[np.uint16],
    buffer: NDArray[np.int32],
    filled: int,
) -> int:
    """Unpacks a list behind what fills the buffer and counts it in the small table; the new fill, -1: no room."""
    room = buffer.shape[0]
    flag = np.uint64(1) << np.uint64(8 * size - 1)
    word = load64(data, start)
    number = whole(word & (flag - np.uint64(1)))
    at = start + size
    if filled + 8 > room:
        return -1
    if word & flag:
        while True:
            buffer[filled] = number
            filled += 1
            slot = number & (SMALL - 1)
            small[slot] += np.uint16(1)
            if at >= end:
                return filled
            number = whole(load64(data, at) & (flag - np.uint64(1)))
            at += size
    buffer[filled] = number
    filled += 1
    slot = number & (SMALL - 1)
    small[slot] += np.uint16(1)
    while at < end and number < bound:
        head = whole(data[at])
        at += 1
        gaps = _BLOCK
        if head & 128:
            gaps = whole(data[at])
            at += 1
        if filled + gaps > room:
            return -1
        width = head & 127
        mask = (np.uint64(1) << np.uint64(width)) - np.uint64(1)
        bit = whole(0)
        for index in range(gaps):
            gap = (load64(data, at + (bit >> 3)) >> np.uint64(bit & 7)) & mask
            bit += width
            number += whole(gap) + 1
            buffer[filled + index] = number
            slot = number & (SMALL - 1)
            small[slot] += np.uint16(1)
        filled += gaps
        at += (bit + 7) >> 3
    return filled


@compiled
def _sift(
    small: NDArray[np.uint16],
    buffer: NDArray[np.int32],
    filled: int,
    counts: NDArray[np.uint16],
    base: int,
    met: NDArray[np.int32],
) -> tuple[int, int]:
    """Counts exactly what may have an overlap of 2; `met` gets the distinct numbers: how many of them, and of
    the postings how many are left."""
    kept = 0
    for index in range(filled):
        number = buffer[index]
        met[kept] = number
        kept += small[number & (SMALL - 1)] >= 2
    distinct = 0
    for index in range(kept):
        number = met[index]
        count = counts[number]
        met[distinct] = number
        distinct += count <= base
        counts[number] = max(count, np.uint16(base)) + np.uint16(1)
    return distinct, filled - kept


@compiled
def _count_buffer(
    buffer: NDArray[np.int32], filled: int, counts: NDArray[np.uint16], base: int, met: NDArray[np.int32], distinct: int
) -> int:
    """Counts what the buffer holds with a counter per entry; how many distinct numbers were met so far."""
    for index in range(filled):
        number = buffer[index]
        count = counts[number]
        met[distinct] = number
        distinct += count <= base
        counts[number] = max(count, np.uint16(base)) + np.uint16(1)
    return distinct


@compiled
def _count_list(
    data: NDArray[np.uint8],
    start: int,
    end: int,
    size: int,
    bound: int,
    buffer: NDArray[np.int32],
    counts: NDArray[np.uint16],
    base: int,
    met: NDArray[np.int32],
    distinct: int,
) -> tuple[int, int]:
    """Counts a list of any length with a counter per entry; the distinct numbers met so far, and its postings read."""
    flag = np.uint64(1) << np.uint64(8 * size - 1)
    word = load64(data, start)
    few = (word & flag) != 0
    number = whole(word & (flag - np.uint64(1)))
    at = start + size
    buffer[0] = number
    filled = 1
    length = 0
    while at < end and number < bound:
        if few:
            number = whole(load64(data, at) & (flag - np.uint64(1)))
            at += size
            buffer[filled] = number
            filled += 1
            continue
        head = whole(data[at])
        at += 1
        gaps = _BLOCK
        if head & 128:
            gaps = whole(data[at])
            at += 1
        if filled + gaps > buffer.shape[0]:
            distinct = _count_buffer(buffer, filled, counts, base, met, distinct)
            length += filled
            filled = 0
        width = head & 127
        mask = (np.uint64(1) << np.uint64(width)) - np.uint64(1)
        bit = 0
        for index in range(gaps):
            number += whole((load64(data, at + (bit >> 3)) >> np.uint64(bit & 7)) & mask) + 1
            bit += width
            buffer[filled + index] = number
        filled += gaps
        at += (bit + 7) >> 3
    return _count_buffer(buffer, filled, counts, base, met, distinct), length + filled


@compiled
def _set_singles_aside(
    met: NDArray[np.int32], distinct: int, counts: NDArray[np.uint16], base: int, singles: NDArray[np.int32]
) -> tuple[int, int]:
    """Leaves in `met` what has an overlap of 2 or more, and puts the rest into `singles`; how many of both."""
    kept = 0
    alone = 0
    for index in range(distinct):
        number = met[index]
        single = counts[number] - base == 1
        met[kept] = number
        singles[alone] = number
        kept += not single
        alone += single
    return kept, alone


@compiled
def _below(numbers: NDArray[np.int32], size: int, limit: int, picked: NDArray[np.int32]) -> int:
    """Those of some numbers that are below a limit; how many."""
    count = 0
    for index in range(size):
        picked[count] = numbers[index]
        count += numbers[index] < limit
    return count


@compiled
def _expand(
    head: int,
    level_key: int,
    bound: int,
    as_of: int,
    excluded: int,
    wanted: int,
    shares: NDArray[np.uint64],
    shared_heads: NDArray[np.uint32],
    shared_starts: NDArray[np.uint32],
    shared_entries: NDArray[np.uint32],
    hidden: NDArray[np.int64],
    keys: NDArray[np.int64],
    first: int,
    filled: int,
) -> int:
    """Adds the visible entries of a head to the keys from `first` on, of which the smallest `wanted` are kept."""
    if head < bound and head != excluded and (hidden[head] == 0 or as_of < hidden[head]):
        if filled == keys.shape[0]:
            filled = keep_smallest(keys, first, filled, wanted)
        keys[filled] = level_key | head
        filled += 1
    if (shares[head >> 6] >> np.uint64(head & 63)) & np.uint64(1):
        row = np.searchsorted(shared_heads, np.uint32(head))
        taken = 0
        for index in range(shared_starts[row], shared_starts[row + 1]):
            entry = whole(shared_entries[index])
            if entry >= bound or taken == wanted:
                break
            if entry != excluded and (hidden[entry] == 0 or as_of < hidden[entry]):
                if filled == keys.shape[0]:
                    filled = keep_smallest(keys, first, filled, wanted)
                keys[filled] = level_key | entry
                filled += 1
                taken += 1
    return filled


@compiled
def _by_level(
    met: NDArray[np.int32],
    overlaps: NDArray[np.uint16],
    distinct: int,
    ends: NDArray[np.int64],
    order: NDArray[np.int32],
) -> None:
    """A stable counting sort by overlap: the numbers of overlap c end up in order[ends[c - 1]:ends[c]]."""
    ends[:] = 0
    for index in range(distinct):
        ends[overlaps[index]] += 1
    total = 0
    for level in range(ends.shape[0]):
        size = ends[level]
        ends[level] = total
        total += size
    for index in range(distinct):
        level = overlaps[index]
        order[ends[level]] = met[index]
        ends[level] += 1


@compiled
def _take_overlaps(
    met: NDArray[np.int32], distinct: int, counts: NDArray[np.uint16], base: int, overlaps: NDArray[np.uint16]
) -> None:
    for index in range(distinct):
        overlaps[index] = counts[met[index]] - base


@compiled
def _oldest_singles(
    small: NDArray[np.uint16],
    buffer: NDArray[np.int32],
    edges: NDArray[np.int64],
    order: NDArray[np.int32],
    distinct_singles: int,
    limit: int,
    picked: NDArray[np.int32],
) -> int:
    """The numbers below a limit that have an overlap of 1: those sifted for nothing, and the lists' beginnings."""
    size = 0
    index = 0
    while index < distinct_singles and order[index] < limit:
        picked[size] = order[index]
        size += 1
        index += 1
    for group in range(edges.shape[0] - 1):
        index = edges[group]
        while index < edges[group + 1] and buffer[index] < limit:
            number = buffer[index]
            picked[size] = number
            size += small[number & (SMALL - 1)] == 1
            index += 1
    return size


@compiled
def search_segment(
    terms: NDArray[np.uint32],
    bounds: NDArray[np.int64],
    as_of: NDArray[np.int64],
    excluded: NDArray[np.int64],
    least: NDArray[np.int64],
    wanted: NDArray[np.int64],
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
    small: NDArray[np.uint16],
    buffer: NDArray[np.int32],
    counts: NDArray[np.uint16],
    base: int,
    met: NDArray[np.int32],
    order: NDArray[np.int32],
    singles: NDArray[np.int32],
    met_overlaps: NDArray[np.uint16],
    keys: NDArray[np.int64],
    entries: NDArray[np.int64],
    overlaps: NDArray[np.uint16],
    sizes: NDArray[np.int64],
    touched: NDArray[np.int64],
) -> int:
    """For each query the best entries of the segment, by overlap, then age.

    Args:
        terms: (n, groups)
        bounds: (n,) only entries below are searched.
        as_of: (n,) the place that an entry must be visible from.
        excluded: (n,) an entry that is not to be found, or -1.
        least: (n,) the lowest overlap wanted, at least 1.
        wanted: (n,) how many entries at most.
        directory: See `search.index.posting_lists`, as the next five.
        bases: (groups,)
        data: The lists.
        rest_bits: Of a term.
        rest_bytes: Before each list.
        size: Bytes per number.
        shares: Bitmap of the heads that share their postings.
        shared_heads: (shared,) these heads, ascending.
        shared_starts: (shared + 1,) where the further entries of each start.
        shared_entries: The further entries, ascending for each head.
        hidden: (entries,) 0, or one more than the last place that sees the entry.
        small: (SMALL,) scratch, zero before and after.
        buffer: (BUFFER,) scratch.
        counts: (entries,) scratch: no counter is above `base`.
        base: Where counting starts.
        met: (entries + 1,) scratch.
        order: (entries + 1,) scratch, at least BUFFER of it, like the two around it.
        singles: (entries + 1,) scratch.
        met_overlaps: (entries + 1,) scratch.
        keys: (at least 2 k,) scratch.
        entries: (n, k) out.
        overlaps: (n, k) out.
        sizes: (n,) out: how many were found.
        touched: (n,) out: increased by the postings read.

    Returns:
        Where counting starts next time.
    """
    queries, groups = terms.shape
    starts = np.empty((2, groups), np.int64)
    stops = np.empty((2, groups), np.int64)
    ends = np.empty(groups + 1, np.int64)
    edges = np.zeros(groups + 1, np.int64)
    rest_mask = (1 << rest_bits) - 1
    for turn in range(queries + 1):
        if turn < queries:
            half = turn & 1
            for group in range(groups):
                place = whole(terms[turn, group]) >> rest_bits
                start = bases[group] + whole(directory[group, place])
                stop = bases[group] + whole(directory[group, place + 1])
                starts[half, group] = start
                stops[half, group] = stop
                if stop > start:
                    prefetch(data, start)
                    if stop > start + 64:
                        prefetch(data, start + 64)
                    if stop > start + 128:
                        prefetch(data, start + 128)
                    if stop > start + 192:
                        prefetch(data, start + 192)
            if turn + 1 < queries:
                for group in range(groups):
                    prefetch(directory[group], whole(terms[turn + 1, group]) >> rest_bits)
        if turn == 0:
            continue
        query = turn - 1
        half = query & 1
        sizes[query] = 0
        bound = bounds[query]
        if bound <= 0 or wanted[query] <= 0 or least[query] > groups:
            continue
        # 1. and 2. Read, count, sift.
        filled = 0
        for group in range(groups):
            start = starts[half, group]
            stop = stops[half, group]
            if rest_bits > 0 and stop > start:
                rest = whole(terms[query, group]) & rest_mask
                start, stop = find_list(data, start, stop, rest, rest_bytes)
                starts[half, group] = start
                stops[half, group] = stop
            if stop > start and filled >= 0:
                filled = _read_list(data, start, stop, size, bound, small, buffer, filled)
            edges[group + 1] = filled
        light = filled >= 0
        distinct = 0
        alone = 0
        filled = max(filled, 0)
        if base + groups > 65535:
            counts[:] = 0
            base = 0
        if light:
            distinct, alone = _sift(small, buffer, filled, counts, base, met)
            touched[query] += filled
        else:
            for group in range(groups):
                if stops[half, group] > starts[half, group]:
                    distinct, length = _count_list(
                        data, starts[half, group], stops[half, group], size, bound, buffer, counts, base, met, distinct
                    )
                    touched[query] += length
            distinct, alone = _set_singles_aside(met, distinct, counts, base, singles)
        sort_numbers(met, distinct, counts.shape[0], order)
        _take_overlaps(met, distinct, counts, base, met_overlaps)
        base += groups
        # 3. Choose.
        _by_level(met, met_overlaps, distinct, ends, order)
        need = wanted[query]
        chosen = 0
        level = groups
        lowest = max(least[query], 2)
        while level >= lowest and chosen < need:
            first = chosen
            level_key = key_of(groups, level, 0)
            for index in range(ends[level - 1], ends[level]):
                chosen = _expand(
                    whole(order[index]), level_key, bound, as_of[query], excluded[query], need - first,
                    shares, shared_heads, shared_starts, shared_entries, hidden, keys, first, chosen,
                )  # fmt: skip
            chosen = settle(keys, first, chosen, need - first)
            level -= 1
        if least[query] <= 1 and chosen < need:
            first = chosen
            level_key = key_of(groups, 1, 0)
            missing = need - first
            limit = bound
            if alone > 4 * missing:
                limit = max(64, bound * 5 * missing // (4 * alone))
            while True:
                chosen = first
                limit = min(limit, bound)
                if light:
                    picked = _oldest_singles(small, buffer, edges, order, ends[1], limit, met)
                else:
                    picked = _below(singles, alone, limit, met)
                sort_numbers(met, picked, limit, order[ends[1] :])
                for index in range(picked):
                    chosen = _expand(
                        met[index], level_key, bound, as_of[query], excluded[query], missing,
                        shares, shared_heads, shared_starts, shared_entries, hidden, keys, first, chosen,
                    )  # fmt: skip
                chosen = settle(keys, first, chosen, missing)
                # Heads at or above the limit have no entry below it.
                if limit >= bound or (chosen == need and keys[chosen - 1] < (level_key | limit)):
                    break
                limit *= 4
        small[:] = 0
        # 4. Hand over.
        for index in range(chosen):
            entries[query, index] = keys[index] & 0xFFFFFFFF
            overlaps[query, index] = groups - (keys[index] >> 32)
        sizes[query] = chosen
    return base
