"""Truncated searches: of each posting list that is too long, only the oldest images count.

One list may contribute `max_postings` divided by the number of groups. The images that are visible from the place of
the search are counted, including those that share a posting. So the result does not depend on how the index is split
into segments, and a repeated search gives the same answer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search.index.compiled import compiled, whole
from search.index.list_reading import Lists, list_of, read_numbers
from search.index.posting_lists import BLOCK
from search.index.selection import keep_smallest
from search.index.sharing import Sharing, Sight, add_followers, followers_of, is_visible

__all__ = ["best_of", "oldest_entries", "weigh_lists"]


@compiled
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


@compiled
def _oldest_of_list(
    numbers: NDArray[np.int32], most: int, sharing: Sharing, sight: Sight, room: NDArray[np.int64]
) -> int:
    """Puts the visible entries of a list into `room`, at least the oldest `most`; returns how many.

    `numbers` holds the heads of the list, ascending.
    """
    taken = 0
    heads = 0
    for index in range(numbers.shape[0]):
        if heads == most:
            break
        head = whole(numbers[index])
        if is_visible(sharing, sight, head):
            if taken == room.shape[0]:
                taken = keep_smallest(room, 0, taken, most)
            room[taken] = head
            taken += 1
            heads += 1
        taken = add_followers(sharing, sight, head, most, room, taken)
    return taken


@compiled
def oldest_entries(  # noqa: PLR0913 - compiled code takes arrays one by one
    terms: NDArray[np.uint32],
    sight: Sight,
    lists: Lists,
    sharing: Sharing,
    numbers: NDArray[np.int32],
    room: NDArray[np.int64],
    remaining: NDArray[np.int64],
    found: NDArray[np.int64],
) -> int:
    """The oldest visible entries of each list of one query, at most `remaining` of each group.

    Args:
        terms: (groups,) of the query.
        sight: Which entries it may find.
        lists: Of the segment.
        sharing: Of the segment.
        numbers: Scratch: room for one more head than a list may contribute, all hidden ones, and one block.
        room: Scratch: twice the largest of `remaining`, and 64 more.
        remaining: (groups,) in: how many entries each list may contribute; out: how many it still may, -1 if it had
            more.
        found: Out: the entries, list by list.

    Returns:
        How much of `found` is filled.
    """
    filled = 0
    for group in range(terms.shape[0]):
        most = remaining[group]
        start, end = list_of(lists, group, whole(terms[group]))
        if end <= start or most < 0:
            continue
        count = read_numbers(lists.data, start, end, lists.number_bytes, sight.bound, numbers.shape[0] - BLOCK, numbers)
        # One entry more than allowed shows whether the list had more.
        taken = _oldest_of_list(numbers[:count], most + 1, sharing, sight, room)
        kept = keep_smallest(room, 0, taken, most) if most > 0 else 0
        for index in range(kept):
            found[filled] = room[index]
            filled += 1
        remaining[group] = -1 if taken > most else most - kept
    return filled


def best_of(
    found: NDArray[np.int64], excluded: int, least: int, wanted: int
) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
    """The entries that were found most often, then the oldest first, and how often each was found."""
    entries, counts = np.unique(found, return_counts=True)
    rows = np.flatnonzero((counts >= least) & (entries != excluded))
    rows = rows[np.argsort(-counts[rows], kind="stable")][:wanted]
    return entries[rows], counts[rows].astype(np.uint16)
