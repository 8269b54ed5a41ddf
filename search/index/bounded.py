"""Truncated searches: of each posting list that is too long, only the oldest images count.

One list may contribute `max_postings` divided by the number of groups. The images that are visible from the place of
the search are counted, including those that share a posting. So the result does not depend on how the index is split
into segments, and a repeated search gives the same answer.

Whether a query has such a list is first decided by the number of postings, from the headers of the blocks. The lists
are read only if the images that share postings could make a difference.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from search.index.choosing import Best
from search.index.compiled import borrowing, prefetch, whole
from search.index.counting import count_each
from search.index.list_reading import Lists, list_of, list_size, narrow, place_of, prefetch_place, read_numbers
from search.index.posting_lists import BLOCK
from search.index.selection import keep_lowest, keep_smallest, key_of, sort_keys
from search.index.sharing import Sharing, Sight, add_followers, followers_of, is_marked, is_visible

__all__ = ["Room", "best_counted", "count_oldest", "count_postings", "weigh_lists"]


_FEW = 512
"""Up to so many followers are sorted, more are selected by buckets."""


class Room(NamedTuple):
    """Working memory for the oldest entries of one list after another."""

    numbers: NDArray[np.int32]
    """One more head than a list may contribute, all hidden ones, and one block."""
    oldest: NDArray[np.int64]
    """Twice the most entries that a list may contribute, and 64 more."""
    met: NDArray[np.int32]
    """Out: the distinct entries; one more than there can be."""
    buckets: NDArray[np.int64]
    """Counters for the selection of the oldest."""
    all_visible: bool
    """Whether no entry of the segment is hidden."""


@borrowing
def count_postings(terms: NDArray[np.uint32], lists: Lists, most: int, counts: NDArray[np.int64]) -> None:
    """Adds to `counts` (n, groups) how many postings each list of a segment has, up to the block that passes `most`."""
    groups = terms.shape[1]
    for query in range(terms.shape[0]):
        for group in range(groups):
            prefetch(lists.directory[group], whole(terms[query, group]) >> lists.rest_bits)
        for group in range(groups):
            start, end = place_of(lists, group, whole(terms[query, group]))
            prefetch_place(lists.data, start, end)
        for group in range(groups):
            term = whole(terms[query, group])
            start, end = place_of(lists, group, term)
            start, end = narrow(lists, start, end, term)
            if end > start:
                counts[query, group] += list_size(lists.data, start, end, lists.number_bytes, most)


@borrowing
def weigh_lists(
    terms: NDArray[np.uint32],
    lists: Lists,
    sharing: Sharing,
    most: int,
    numbers: NDArray[np.int32],
    weights: NDArray[np.int64],
) -> None:
    """Adds to `weights` (n, groups) how many entries each list of a segment has, up to the first `most` heads.

    `numbers` is scratch with room for `most` numbers and one block.
    """
    for query in range(terms.shape[0]):
        for group in range(terms.shape[1]):
            start, end = list_of(lists, group, whole(terms[query, group]))
            if end <= start:
                continue
            count = read_numbers(lists.data, start, end, lists.number_bytes, 1 << 62, most, numbers)
            weight = count
            for index in range(count):
                first, last = followers_of(sharing, whole(numbers[index]))
                weight += last - first
            weights[query, group] += weight


@borrowing
def _oldest_of_list(count: int, most: int, sharing: Sharing, sight: Sight, room: Room) -> int:
    """Puts the oldest `most` visible entries of a list first into `room.oldest`; returns more than `most` if there are.

    `room.numbers[:count]` holds the heads of the list, ascending, and is changed.
    """
    heads = 0
    bound = sight.bound
    shared = 0
    for index in range(count):
        head = whole(room.numbers[index])
        # Without branches, since the processor cannot predict which heads have followers.
        room.numbers[shared] = head
        shared += is_marked(sharing.marks, head)
        room.oldest[heads] = head
        heads += room.all_visible or is_visible(sharing, sight, head)
        if heads > most:
            # All others are younger than these heads.
            bound = head + 1
            break
    taken = heads
    near = Sight(bound, sight.as_of, sight.excluded)
    for index in range(shared):
        head = whole(room.numbers[index])
        first, last = followers_of(sharing, head)
        if first < last and sharing.followers[first] < bound:  # the call itself costs more than most followers
            taken = add_followers(sharing, near, head, most + 1, room.oldest, taken)
    if taken > max(heads, most):
        if taken - heads <= _FEW:
            _drop_youngest(room.oldest, heads, taken, most)
        else:
            keep_lowest(room.oldest, taken, most, bound, room.buckets)
    return taken


@borrowing
def _drop_youngest(entries: NDArray[np.int64], heads: int, taken: int, most: int) -> None:
    """Moves the smallest `most` of entries[:taken] to the front, where entries[:heads] ascend and few follow."""
    sort_keys(entries, heads, taken)
    last = heads
    end = taken
    for _ in range(taken - most):
        if end == heads or (last > 0 and entries[last - 1] > entries[end - 1]):
            last -= 1
        else:
            end -= 1
    for index in range(heads, end):
        entries[last + index - heads] = entries[index]


@borrowing
def count_oldest(  # noqa: PLR0913 - compiled code takes arrays one by one
    terms: NDArray[np.uint32],
    sight: Sight,
    lists: Lists,
    sharing: Sharing,
    remaining: NDArray[np.int64],
    room: Room,
    counts: NDArray[np.uint16],
    base: int,
) -> tuple[int, int]:
    """Counts the oldest visible entries of each list of one query, at most `remaining` of each group.

    Args:
        terms: (groups,) of the query.
        sight: Which entries it may find.
        lists: Of the segment.
        sharing: Of the segment.
        remaining: (groups,) in: how many entries each list may contribute; out: how many it still may, -1 if it had
            more.
        room: Scratch; out: the distinct entries.
        counts: (entries,) out: the overlap of each, above `base`.
        base: The base of counting.

    Returns:
        How many distinct entries there are, and how many were counted.
    """
    distinct = 0
    read = 0
    for group in range(terms.shape[0]):
        most = remaining[group]
        start, end = list_of(lists, group, whole(terms[group]))
        if end <= start or most < 0:
            continue
        space = room.numbers.shape[0] - BLOCK
        count = read_numbers(lists.data, start, end, lists.number_bytes, sight.bound, space, room.numbers)
        taken = _oldest_of_list(count, most, sharing, sight, room)
        kept = min(taken, most)
        distinct = count_each(room.oldest, kept, counts, base, room.met, distinct)
        read += kept
        remaining[group] = -1 if taken > most else most - kept
    return distinct, read


@borrowing
def best_counted(  # noqa: PLR0913 - compiled code takes arrays one by one
    met: NDArray[np.int32],
    distinct: int,
    counts: NDArray[np.uint16],
    base: int,
    excluded: int,
    least: int,
    best: Best,
    keys: NDArray[np.int64],
    levels: NDArray[np.int64],
) -> int:
    """Chooses among counted entries those of the highest overlap, then the oldest; returns how many.

    Args:
        met: The distinct entries, in any order.
        distinct: How many they are.
        counts: Their overlaps above `base`.
        base: The base of counting.
        excluded: An entry that is not chosen, or -1.
        least: The lowest overlap.
        best: Out.
        keys: Scratch, more than twice the wanted entries.
        levels: Scratch (groups + 1,).
    """
    groups = levels.shape[0] - 1
    levels[:] = 0
    for index in range(distinct):
        levels[whole(counts[met[index]]) - base] += 1
    lowest = groups
    above = levels[groups]
    while lowest > least and above <= best.need:  # one of them may be the excluded one
        lowest -= 1
        above += levels[lowest]
    filled = 0
    for index in range(distinct):
        entry = whole(met[index])
        overlap = whole(counts[entry]) - base
        if overlap >= lowest and overlap >= least and entry != excluded:
            if filled == keys.shape[0]:
                filled = keep_smallest(keys, 0, filled, best.need)
            keys[filled] = key_of(groups, overlap, entry)
            filled += 1
    filled = keep_smallest(keys, 0, filled, best.need)
    sort_keys(keys, 0, filled)
    for index in range(filled):
        best.entries[index] = keys[index] & 0xFFFFFFFF
        best.overlaps[index] = groups - (keys[index] >> 32)
    return filled
