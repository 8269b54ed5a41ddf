"""Chooses the best entries after counting: from the highest overlap down, oldest first within an overlap.

Only heads were counted. Their followers have the same overlap and are merged in by age.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from search.index.compiled import borrowing, whole
from search.index.counting import TABLE
from search.index.selection import sort_keys
from search.index.sharing import Sharing, Sight, add_followers, is_marked, is_visible

__all__ = ["Best", "below", "by_level", "oldest_singles", "take_level"]


class Best(NamedTuple):
    """One row of an answer: the best entries so far, and how many are wanted."""

    entries: NDArray[np.int64]
    overlaps: NDArray[np.uint16]
    need: int


@borrowing
def by_level(
    met: NDArray[np.int32],
    distinct: int,
    counts: NDArray[np.uint16],
    base: int,
    ends: NDArray[np.int64],
    order: NDArray[np.int32],
) -> None:
    """A stable counting sort by overlap: order[ends[c - 1]:ends[c]] are the numbers of overlap c."""
    ends[:] = 0
    for index in range(distinct):
        ends[counts[met[index]] - base] += 1
    total = 0
    for level in range(ends.shape[0]):
        size = ends[level]
        ends[level] = total
        total += size
    for index in range(distinct):
        level = counts[met[index]] - base
        order[ends[level]] = met[index]
        ends[level] += 1


@borrowing
def take_level(
    numbers: NDArray[np.int32],
    level: int,
    sharing: Sharing,
    sight: Sight,
    best: Best,
    chosen: int,
    followers: NDArray[np.int64],
) -> int:
    """Appends heads (ascending, of one overlap) and their followers to the best, by age; returns how many there are.

    It stops at enough heads, since all further heads and their followers are younger.
    """
    first = chosen
    extra = 0
    for index in range(numbers.shape[0]):
        head = whole(numbers[index])
        if head >= sight.bound or chosen == best.need:
            break
        if is_visible(sharing, sight, head):
            best.entries[chosen] = head
            chosen += 1
        if is_marked(sharing.marks, head):
            extra = add_followers(sharing, sight, head, best.need - first, followers, extra)
    if extra > 0:
        chosen = _merge(best.entries, first, chosen, followers, extra, best.need)
    for index in range(first, chosen):
        best.overlaps[index] = level
    return chosen


@borrowing
def _merge(row: NDArray[np.int64], first: int, last: int, extra: NDArray[np.int64], count: int, need: int) -> int:
    """Merges extra[:count] (in any order) into row[first:last] (ascending), up to `need`; returns the new end."""
    sort_keys(extra, 0, count)
    while last + count > need:
        if count == 0 or (last > first and row[last - 1] > extra[count - 1]):
            last -= 1
        else:
            count -= 1
    end = at = last + count
    while count > 0:
        at -= 1
        if last > first and row[last - 1] > extra[count - 1]:
            last -= 1
            row[at] = row[last]
        else:
            count -= 1
            row[at] = extra[count]
    return end


@borrowing
def below(numbers: NDArray[np.int32], limit: int, picked: NDArray[np.int32]) -> int:
    """Copies the numbers below a limit into `picked`, which has room for one more; returns how many."""
    size = 0
    for index in range(numbers.shape[0]):
        number = numbers[index]
        picked[size] = number
        size += number < limit
    return size


@borrowing
def oldest_singles(
    buffer: NDArray[np.int32],
    edges: NDArray[np.int64],
    table: NDArray[np.uint8],
    sifted: NDArray[np.int32],
    limit: int,
    picked: NDArray[np.int32],
) -> int:
    """Puts the numbers below a limit with an overlap of 1 into `picked`; returns how many.

    These are the sifted numbers that were counted once, and the numbers at the beginnings of the lists
    (buffer[edges[0]:edges[1]] and so on) that are alone in their slots.
    """
    size = below(sifted, limit, picked)
    for group in range(edges.shape[0] - 1):
        for index in range(edges[group], edges[group + 1]):
            number = buffer[index]
            if number >= limit:
                break
            picked[size] = number
            size += table[number & (TABLE - 1)] == 1
    return size
