"""Which entries a number in a posting list stands for, and which of them are visible.

Entries with equal terms share the postings of the first of them, their head; the others are its followers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from search.index.compiled import borrowing, inlined, whole
from search.index.ranks import word_rank_at
from search.index.selection import keep_smallest

__all__ = ["Sharing", "Sight", "add_followers", "followers_of", "is_marked", "is_visible"]


class Sharing(NamedTuple):
    """The heads, followers and hidden entries of a segment, for compiled code."""

    marks: NDArray[np.uint64]
    """Bitmap of the entries that are hidden or have followers; for all others one look suffices."""
    shares: NDArray[np.uint64]
    """Bitmap of the heads with followers."""
    counts: NDArray[np.uint32]
    """The counts of each word of this bitmap, see `search.index.ranks`."""
    starts: NDArray[np.uint32]
    """(heads with followers + 1,) where the followers of each start."""
    followers: NDArray[np.uint32]
    """Ascending for each head."""
    hidden: NDArray[np.int64]
    """(entries,) 0, or one more than the last place that sees the entry."""


class Sight(NamedTuple):
    """Which entries a query may find."""

    bound: int
    """Only entries below this number."""
    as_of: int
    """The place from which an entry must be visible."""
    excluded: int
    """An entry that must not be found, or -1."""


@inlined
def is_marked(bitmap: NDArray[np.uint64], entry: int) -> bool:
    """Whether an entry's bit is set."""
    return bool((bitmap[entry >> 6] >> np.uint64(entry & 63)) & np.uint64(1))


@inlined
def is_visible(sharing: Sharing, sight: Sight, entry: int) -> bool:
    """Whether a query may find an entry that lies below its bound."""
    if entry == sight.excluded:
        return False
    if not is_marked(sharing.marks, entry):
        return True
    hidden = sharing.hidden[entry]
    return bool(hidden == 0 or sight.as_of < hidden)


@inlined
def followers_of(sharing: Sharing, head: int) -> tuple[int, int]:
    """Where the followers of a head start and end; both are equal if it has none."""
    if not is_marked(sharing.shares, head):
        return 0, 0
    row = word_rank_at(sharing.shares, sharing.counts, head)
    return whole(sharing.starts[row]), whole(sharing.starts[row + 1])


@borrowing
def add_followers(sharing: Sharing, sight: Sight, head: int, wanted: int, found: NDArray[np.int64], filled: int) -> int:
    """Appends a head's visible followers to `found`, which has more room than `wanted`; returns the new fill.

    If `found` is full, the smallest `wanted` are kept.
    """
    first, last = followers_of(sharing, head)
    taken = 0
    for index in range(first, last):
        entry = whole(sharing.followers[index])
        if entry >= sight.bound or taken == wanted:
            break
        if is_visible(sharing, sight, entry):
            if filled == found.shape[0]:
                filled = keep_smallest(found, 0, filled, wanted)
            found[filled] = entry
            filled += 1
            taken += 1
    return filled
