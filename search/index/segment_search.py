"""The compiled search of one sealed segment: which entries share the most terms with each query of a batch.

The lists of a query are prefetched while the query before it is answered. Then the query goes through these steps:

1. *Read*: the lists are unpacked into a buffer (`search.index.list_reading`).
2. *Count* (`search.index.counting`): numbers that may reach an overlap threshold are sifted out and counted exactly.
3. *Choose* (`search.index.choosing`): from the highest overlap down, until there are enough visible entries. If there
   are too few, the threshold is lowered, down to 2.
4. Entries of overlap 1 are taken from the buffer by age, those below a limit first, since lists begin with their oldest
   entries.

A query whose lists do not fit into the buffer is counted exactly from the start.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from search.index.choosing import Best, below, by_level, oldest_singles, take_level
from search.index.compiled import borrowing, compiled, inlined, prefetch, whole
from search.index.counting import (
    TABLE,
    count_each,
    count_lists,
    fresh_base,
    level_sizes,
    of_overlap,
    of_overlap_one,
    sift,
    table_levels,
    tally,
)
from search.index.list_reading import Lists, narrow, place_of, prefetch_place, read_list
from search.index.selection import sort_numbers
from search.index.sharing import Sharing, Sight

__all__ = ["Hits", "QueryBatch", "Workspace", "search_segment"]

_STRIDE = 16
"""The threshold is estimated from a sample of the table: one of so many slots."""

_FEW = TABLE // 8
"""Up to so many postings, few share a slot by chance, so the threshold is not estimated."""


class QueryBatch(NamedTuple):
    """Queries for one source, row by row."""

    terms: NDArray[np.uint32]
    """(n, groups)"""
    as_of: NDArray[np.int64]
    """(n,) an entry must lie before this place and be visible from it."""
    excluded: NDArray[np.int64]
    """(n,) an entry of this source that must not be found, or -1."""
    least: NDArray[np.int64]
    """(n,) the lowest overlap wanted, at least 1."""
    wanted: NDArray[np.int64]
    """(n,) how many entries at most."""


class Hits(NamedTuple):
    """What one source found; each row by overlap, then age, filled up to `sizes`."""

    entries: NDArray[np.int64]
    """(n, k)"""
    overlaps: NDArray[np.uint16]
    """(n, k)"""
    sizes: NDArray[np.int64]
    """(n,)"""
    touched: NDArray[np.int64]
    """(n,) how many postings were read."""

    @staticmethod
    def empty(queries: int, k: int) -> Hits:
        """Nothing found yet."""
        return Hits(
            np.empty((queries, k), np.int64),
            np.empty((queries, k), np.uint16),
            np.zeros(queries, np.int64),
            np.zeros(queries, np.int64),
        )


class Workspace(NamedTuple):
    """Working memory of one thread."""

    table: NDArray[np.uint8]
    """(TABLE,) zero before and after a search."""
    buffer: NDArray[np.int32]
    """(BUFFER,)"""
    met: NDArray[np.int32]
    """(BUFFER + 1,)"""
    order: NDArray[np.int32]
    """(3 * BUFFER + 3,)"""
    counts: NDArray[np.uint16]
    """(entries,) no counter is above where counting starts."""
    pool: NDArray[np.int64]
    """(more than twice the largest `wanted`,)"""
    ranges: NDArray[np.int64]
    """(4, groups) where the lists of two queries start and end."""
    edges: NDArray[np.int64]
    """(groups + 1,) where the lists start and end in `buffer`."""
    levels: NDArray[np.int64]
    """(groups + 1,) where the overlaps start and end in `order`."""


@inlined
def _locate(
    lists: Lists, terms: NDArray[np.uint32], turn: int, starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> None:
    """Finds the directory slots of a query's lists; prefetches these lists, and the slots of the next query."""
    groups = terms.shape[1]
    for group in range(groups):
        start, end = place_of(lists, group, whole(terms[turn, group]))
        starts[group] = start
        ends[group] = end
        prefetch_place(lists.data, start, end)
    if turn + 1 < terms.shape[0]:
        for group in range(groups):
            prefetch(lists.directory[group], whole(terms[turn + 1, group]) >> lists.rest_bits)


@inlined
def _read(
    lists: Lists,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    bound: int,
    work: Workspace,
) -> int:
    """Unpacks all lists of a query; returns the number of postings, or -1 if they do not fit."""
    filled = 0
    for group in range(starts.shape[0]):
        if ends[group] > starts[group]:
            filled = read_list(lists.data, starts[group], ends[group], lists.number_bytes, bound, work.buffer, filled)
            if filled < 0:
                return -1
        work.edges[group + 1] = filled
    return filled


@inlined
def _threshold(levels: NDArray[np.int64], enough: int) -> int:
    """The highest level at which enough slots have that level or a higher one; at least 1."""
    level: int = levels.shape[0] - 1
    found = levels[level]
    while level > 1 and found < enough:
        level -= 1
        found += levels[level]
    return level


@inlined
def _age_limit(size: int, missing: int, bound: int) -> int:
    """Below this number lie about enough of `size` numbers, of which the lowest `missing` are needed."""
    return bound if size <= 4 * missing else max(64, bound * 5 * missing // (4 * size))


@inlined
def _are_oldest(last: int, limit: int, sight: Sight, best: Best) -> bool:
    """Whether the best up to `last`, taken from the numbers below a limit, are what all numbers would give."""
    # A head at or above the limit has no followers below it.
    return limit >= sight.bound or (last == best.need and best.entries[last - 1] < limit)


@borrowing
def _take_oldest(  # noqa: PLR0913 - compiled code takes arrays one by one
    numbers: NDArray[np.int32],
    level: int,
    sharing: Sharing,
    sight: Sight,
    best: Best,
    chosen: int,
    pool: NDArray[np.int64],
    picked: NDArray[np.int32],
    spare: NDArray[np.int32],
) -> int:
    """Appends the oldest entries of one overlap, given by their heads in any order; returns how many are chosen."""
    limit = _age_limit(numbers.shape[0], best.need - chosen, sight.bound)
    while True:
        limit = min(limit, sight.bound)
        size = below(numbers, limit, picked)
        sort_numbers(picked, size, limit, spare)
        last = take_level(picked[:size], level, sharing, sight, best, chosen, pool)
        if _are_oldest(last, limit, sight, best):
            return last
        limit *= 4


@borrowing
def _take_levels(  # noqa: PLR0913 - compiled code takes arrays one by one
    met: NDArray[np.int32],
    distinct: int,
    base: int,
    lowest: int,
    sharing: Sharing,
    sight: Sight,
    best: Best,
    work: Workspace,
    order: NDArray[np.int32],
) -> int:
    """Chooses among exactly counted numbers (in any order), from the highest overlap down; returns how many."""
    level_sizes(met, distinct, work.counts, base, work.levels)
    least = max(lowest, _threshold(work.levels, best.need))
    while True:
        kept = of_overlap(met, distinct, work.counts, base, least, order)
        leveled, spare = order[kept : 2 * kept], order[2 * kept :]
        by_level(order, kept, work.counts, base, work.levels, leveled)
        chosen = 0
        level = work.levels.shape[0] - 1
        while level >= least and chosen < best.need:
            numbers = leveled[work.levels[level - 1] : work.levels[level]]
            if numbers.shape[0] > 0:
                chosen = _take_oldest(numbers, level, sharing, sight, best, chosen, work.pool, order, spare)
            level -= 1
        if chosen == best.need or least == lowest:
            return chosen
        least = lowest  # some of the highest are not visible


@borrowing
def _take_singles(
    alone: int,
    sifted: int,
    sharing: Sharing,
    sight: Sight,
    best: Best,
    chosen: int,
    work: Workspace,
) -> int:
    """Appends the oldest entries of overlap 1; returns how many are chosen. The first `sifted` of `order` are among
    those to choose from."""
    limit = _age_limit(alone, best.need - chosen, sight.bound)
    while True:
        limit = min(limit, sight.bound)
        picked = oldest_singles(work.buffer, work.edges, work.table, work.order[:sifted], limit, work.met)
        sort_numbers(work.met, picked, limit, work.order[sifted:])
        last = take_level(work.met[:picked], 1, sharing, sight, best, chosen, work.pool)
        if _are_oldest(last, limit, sight, best):
            return last
        limit *= 4


@borrowing
def _search_buffer(
    filled: int,
    least: int,
    sharing: Sharing,
    sight: Sight,
    best: Best,
    work: Workspace,
    base: int,
) -> tuple[int, int]:
    """Answers from unpacked lists; returns how many entries were chosen, and the next base of counting."""
    groups = work.levels.shape[0] - 1
    floor = max(least, 2)
    tally(work.buffer, filled, work.table)
    threshold = floor
    if filled > _FEW:
        table_levels(work.table, _STRIDE, work.levels)
        threshold = max(floor, _threshold(work.levels, best.need // _STRIDE + 1) - 1)
    step = 1
    while True:
        kept = sift(work.buffer, filled, work.table, threshold, work.met)
        base = fresh_base(work.counts, base, groups)
        distinct = count_each(work.met, kept, work.counts, base, work.met, 0)
        chosen = _take_levels(work.met, distinct, base, threshold, sharing, sight, best, work, work.order)
        if chosen == best.need or threshold == floor:
            break
        base += groups
        threshold = max(floor, threshold - step)
        step *= 2
    if least <= 1 and chosen < best.need:
        sifted = of_overlap_one(work.met, distinct, work.counts, base, work.order)
        chosen = _take_singles(filled - kept + sifted, sifted, sharing, sight, best, chosen, work)
    work.table[:] = 0
    return chosen, base + groups


@compiled
def _search_lists(  # noqa: PLR0913 - compiled code takes arrays one by one
    lists: Lists,
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
    least: int,
    sharing: Sharing,
    sight: Sight,
    best: Best,
    work: Workspace,
    base: int,
) -> tuple[int, int, int]:
    """Answers from lists of any length; returns how many entries were chosen, the next base, and the postings read."""
    groups = work.levels.shape[0] - 1
    entries = sharing.hidden.shape[0]
    base = fresh_base(work.counts, base, groups)
    met = np.empty(entries + 1, np.int32)
    order = np.empty(3 * entries + 3, np.int32)
    distinct, read = count_lists(lists, starts, stops, sight.bound, work.buffer, work.counts, base, met)
    return _take_levels(met, distinct, base, least, sharing, sight, best, work, order), base + groups, read


@borrowing
def search_segment(
    batch: QueryBatch,
    bounds: NDArray[np.int64],
    lists: Lists,
    sharing: Sharing,
    work: Workspace,
    base: int,
    hits: Hits,
) -> int:
    """Finds for each query the best entries of the segment, by overlap, then age.

    Args:
        batch: The queries.
        bounds: (n,) only entries below these are searched.
        lists: The segment's.
        sharing: The segment's.
        work: Scratch, large enough for the segment and the batch.
        base: The base of counting.
        hits: Out; as wide as the largest `wanted`.

    Returns:
        The base of counting for the next search.
    """
    queries, groups = batch.terms.shape
    work.edges[0] = 0
    for turn in range(queries + 1):
        if turn < queries:
            _locate(lists, batch.terms, turn, work.ranges[turn & 1], work.ranges[2 + (turn & 1)])
        if turn == 0:
            continue
        row = turn - 1
        hits.sizes[row] = 0
        if bounds[row] <= 0 or batch.wanted[row] <= 0 or batch.least[row] > groups:
            continue
        starts, stops = work.ranges[row & 1], work.ranges[2 + (row & 1)]
        if lists.rest_bits > 0:
            for group in range(groups):
                starts[group], stops[group] = narrow(lists, starts[group], stops[group], whole(batch.terms[row, group]))
        sight = Sight(bounds[row], batch.as_of[row], batch.excluded[row])
        best = Best(hits.entries[row], hits.overlaps[row], batch.wanted[row])
        least = batch.least[row]
        read = _read(lists, starts, stops, sight.bound, work)
        if read >= 0:
            hits.sizes[row], base = _search_buffer(read, least, sharing, sight, best, work, base)
        else:
            hits.sizes[row], base, read = _search_lists(lists, starts, stops, least, sharing, sight, best, work, base)
        hits.touched[row] += read
    return base
