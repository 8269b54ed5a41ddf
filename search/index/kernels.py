"""The compiled inner loops of the chained postings. They release the GIL.

A posting list is a chain through the entries: `heads[group, bucket]` is its newest entry, and
`previous[entry, group]` the next older entry in the same chain, -1 at its end. A bucket is the low bits of a term's
value: all of them as long as the table stays small, else several terms share a chain and `terms` tells them apart.

A search starts at an entry's own links, so it meets older entries only, whatever was added since. What it reads never
changes afterwards, but for `hidden_from`, whose changes concern later places only: searching needs no lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["NEVER", "link", "search"]

NEVER = np.int64(2**63 - 1)
"""`hidden_from` of an entry that is not hidden: no place lies behind it."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _compiled(function: _Function) -> _Function:
    try:
        return cast(_Function, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # no folder where the machine code could be kept: compile at each start
        return cast(_Function, numba.njit(nogil=True)(function))


@_compiled
def link(
    terms: NDArray[np.uint32],
    first: int,
    bucket_mask: int,
    heads: NDArray[np.int32],
    previous: NDArray[np.int32],
) -> None:
    """Adds entries `first`, `first + 1`, ... with the given terms (n, groups) to the chains."""
    for row in range(terms.shape[0]):
        entry = first + row
        for group in range(terms.shape[1]):
            bucket = terms[row, group] & bucket_mask
            previous[entry, group] = heads[group, bucket]
            heads[group, bucket] = entry


@_compiled
def _select(keys: NDArray[np.int64], wanted: int) -> None:
    """Brings the smallest `wanted` of more keys, all different, to the front: Hoare's selection.

    (`np.partition` does the same, but takes 6 s to compile.)
    """
    first = 0
    last = keys.shape[0] - 1
    while first < last:
        pivot = keys[(first + last) // 2]
        low = first
        high = last
        while low <= high:
            while keys[low] < pivot:
                low += 1
            while keys[high] > pivot:
                high -= 1
            if low <= high:
                keys[low], keys[high] = keys[high], keys[low]
                low += 1
                high -= 1
        if wanted - 1 <= high:
            last = high
        elif wanted - 1 >= low:
            first = low
        else:
            return


@_compiled
def search(
    entries: NDArray[np.int64],
    afters: NDArray[np.int64],
    min_overlap: int,
    check_terms: bool,
    previous: NDArray[np.int32],
    terms: NDArray[np.uint32],
    images: NDArray[np.int32],
    places: NDArray[np.int64],
    hidden_from: NDArray[np.int64],
    counts: NDArray[np.uint16],
    touched: NDArray[np.int32],
    found: NDArray[np.int32],
    overlaps: NDArray[np.uint16],
    sizes: NDArray[np.int64],
    totals: NDArray[np.int64],
    postings: NDArray[np.int64],
) -> None:
    """For each entry the ranks `after` to `after + k` among the older entries that are visible at its place.

    Args:
        entries: (n,) whose terms are searched for, as of their places.
        afters: (n,) how many candidates to pass over.
        min_overlap: The fewest shared terms of a candidate, at least 1.
        check_terms: Chains are shared by terms; `terms` (entries, groups) tells them apart.
        previous: (entries, groups) the chains.
        terms: (entries, groups), or no rows without `check_terms`.
        images: (entries,) the number of each entry's image; an image never finds itself.
        places: (entries,) ascending.
        hidden_from: (entries,) the last place that sees the entry.
        counts: (entries,) scratch, all zero before and after.
        touched: (entries,) scratch.
        found: (n, k) out: entries, by overlap, then age.
        overlaps: (n, k) out.
        sizes: (n,) out: how many of the k were filled.
        totals: (n,) out: how many candidates there are in all.
        postings: (n,) out: how many links were followed.
    """
    groups = previous.shape[1]
    cursor = np.empty(groups, np.int32)
    chain = np.empty(groups, np.int32)
    histogram = np.empty(groups + 1, np.int64)
    for query in range(entries.shape[0]):
        own = entries[query]
        # 1. Count. The chains are walked side by side, one step each in turn, so that their memory accesses overlap.
        live = 0
        for group in range(groups):
            first = previous[own, group]
            if first >= 0:
                cursor[live] = first
                chain[live] = group
                live += 1
        walked = 0
        met = 0
        while live > 0:
            slot = 0
            while slot < live:
                entry = cursor[slot]
                group = chain[slot]
                walked += 1
                if not check_terms or terms[entry, group] == terms[own, group]:
                    if counts[entry] == 0:
                        touched[met] = entry
                        met += 1
                    counts[entry] += np.uint16(1)
                following = previous[entry, group]
                if following >= 0:
                    cursor[slot] = following
                    slot += 1
                else:
                    live -= 1
                    cursor[slot] = cursor[live]
                    chain[slot] = chain[live]
        # 2. Drop what may not be seen, and find the overlap down to which candidates are wanted.
        histogram[:] = 0
        total = 0
        for index in range(met):
            entry = touched[index]
            count = counts[entry]
            if count < min_overlap or images[entry] == images[own] or hidden_from[entry] < places[own]:
                counts[entry] = 0
            else:
                histogram[count] += 1
                total += 1
        wanted = min(total, afters[query] + found.shape[1])
        least = groups
        reached = histogram[groups]
        while reached < wanted:
            least -= 1
            reached += histogram[least]
        # 3. Order these. A key is small when the overlap is high and the entry old.
        keys = np.empty(reached, np.int64)
        filled = 0
        for index in range(met):
            entry = touched[index]
            count = np.int64(counts[entry])
            if count >= least and count > 0:
                keys[filled] = ((groups - count) << 32) | entry
                filled += 1
            counts[entry] = 0
        if 0 < wanted < reached:
            _select(keys, wanted)
        keys = keys[:wanted]
        keys.sort()
        size = 0
        for rank in range(afters[query], wanted):
            found[query, size] = keys[rank] & 0xFFFFFFFF
            overlaps[query, size] = groups - (keys[rank] >> 32)
            size += 1
        sizes[query] = size
        totals[query] = total
        postings[query] = walked
