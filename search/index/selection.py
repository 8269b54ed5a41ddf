"""Compiled selection and sorting. The best entries have the smallest keys."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search.index.compiled import borrowing, compiled, inlined, whole

__all__ = ["fill_places", "keep_lowest", "keep_smallest", "key_of", "merge_ranks", "sort_keys", "sort_numbers"]

_BUCKETS = 4096
_CROWDED = 24


@inlined
def key_of(groups: int, overlap: int, entry: int) -> int:
    """A key that is small for a high overlap and, among equal overlaps, for an old entry."""
    return ((groups - overlap) << 32) | entry


@borrowing
def keep_smallest(keys: NDArray[np.int64], first: int, last: int, wanted: int) -> int:
    """Moves the smallest `wanted` of keys[first:last] (all different) to the front; returns where they end.

    Hoare's selection. `np.partition` does the same, but takes 6 s to compile.
    """
    if last - first <= wanted:
        return last
    low_end = first
    high_end = last - 1
    target = first + wanted - 1
    while low_end < high_end:
        pivot = keys[(low_end + high_end) // 2]
        low = low_end
        high = high_end
        while low <= high:
            while keys[low] < pivot:
                low += 1
            while keys[high] > pivot:
                high -= 1
            if low <= high:
                keys[low], keys[high] = keys[high], keys[low]
                low += 1
                high -= 1
        if target <= high:
            high_end = high
        elif target >= low:
            low_end = low
        else:
            break
    return first + wanted


@borrowing
def keep_lowest(numbers: NDArray[np.int64], size: int, wanted: int, bound: int, sizes: NDArray[np.int64]) -> None:
    """Moves the lowest `wanted` of numbers[:size] (all different, from 0 to below `bound`) to the front.

    By buckets of equal width, whose counters are `sizes`. With many numbers this is several times faster than
    `keep_smallest`, whose branches the processor cannot predict.
    """
    if size <= wanted:
        return
    shift = 0
    while bound >> shift >= sizes.shape[0]:
        shift += 1
    sizes[:] = 0
    for index in range(size):
        sizes[numbers[index] >> shift] += 1
    bucket = 0
    below = whole(0)
    while below + sizes[bucket] < wanted:
        below += sizes[bucket]
        bucket += 1
    end = (bucket + 1) << shift
    kept = 0
    for index in range(size):
        number = numbers[index]
        numbers[kept] = number
        kept += number < end
    start = bucket << shift
    low = 0
    for index in range(kept):
        number = numbers[index]
        numbers[index] = numbers[low]
        numbers[low] = number
        low += number < start
    keep_smallest(numbers, below, kept, wanted - below)


@compiled
def sort_keys(keys: NDArray[np.int64], first: int, last: int) -> None:
    """Sorts keys[first:last], which are often in order already."""
    for index in range(first + 1, last):
        if keys[index] < keys[index - 1]:
            keys[first:last].sort()
            return


@compiled
def sort_numbers(numbers: NDArray[np.int32], size: int, bound: int, spare: NDArray[np.int32]) -> None:
    """Sorts numbers[:size], each from 0 to below `bound`: into buckets of equal width, then by insertion.

    The numbers are usually spread evenly; if not, a radix sort is used.
    """
    if size < 2:
        return
    buckets = 64
    while buckets < _BUCKETS and buckets < size:
        buckets *= 2
    shift = 0
    while bound >> shift > buckets:
        shift += 1
    starts = np.zeros(buckets + 2, np.int32)
    for index in range(size):
        starts[(numbers[index] >> shift) + 1] += 1
    work = 0
    for bucket in range(1, buckets + 2):
        work += starts[bucket] * starts[bucket]
        starts[bucket] += starts[bucket - 1]
    if work > _CROWDED * size:
        _radix_sort(numbers, size, bound, spare)
        return
    for index in range(size):
        number = numbers[index]
        bucket = number >> shift
        spare[starts[bucket]] = number
        starts[bucket] += 1
    for index in range(size):
        number = spare[index]
        at = index
        while at > 0 and numbers[at - 1] > number:
            numbers[at] = numbers[at - 1]
            at -= 1
        numbers[at] = number


@compiled
def _radix_sort(numbers: NDArray[np.int32], size: int, bound: int, spare: NDArray[np.int32]) -> None:
    """Least significant digit first, 8 bits a digit, two digits a turn."""
    shift = 0
    while bound >> shift > 0:
        for half in range(2):
            source = spare if half else numbers
            target = numbers if half else spare
            starts = np.zeros(257, np.int32)
            for index in range(size):
                starts[((source[index] >> shift) & 255) + 1] += 1
            for digit in range(256):
                starts[digit + 1] += starts[digit]
            for index in range(size):
                number = source[index]
                digit = (number >> shift) & 255
                target[starts[digit]] = number
                starts[digit] += 1
            shift += 8


@compiled
def merge_ranks(  # noqa: PLR0913 - compiled code takes arrays one by one
    places: NDArray[np.int64],
    overlaps: NDArray[np.uint16],
    sizes: NDArray[np.int64],
    more_places: NDArray[np.int64],
    more_overlaps: NDArray[np.uint16],
    more_sizes: NDArray[np.int64],
    wanted: NDArray[np.int64],
    spare_places: NDArray[np.int64],
    spare_overlaps: NDArray[np.uint16],
) -> None:
    """Merges the hits of younger entries into those of older ones, row by row: by overlap, then age; in place.

    Args:
        places: (n, k) of the older entries, and the result.
        overlaps: (n, k)
        sizes: (n,) how much of each row is filled.
        more_places: (n, k) of the younger entries.
        more_overlaps: (n, k)
        more_sizes: (n,)
        wanted: (n,) the most that are kept.
        spare_places: (k,) scratch.
        spare_overlaps: (k,) scratch.
    """
    for row in range(sizes.shape[0]):
        if more_sizes[row] == 0:
            continue
        mine = 0
        other = 0
        filled = 0
        while filled < wanted[row] and (mine < sizes[row] or other < more_sizes[row]):
            # Among equal overlaps, older entries come first.
            if other >= more_sizes[row] or (mine < sizes[row] and overlaps[row, mine] >= more_overlaps[row, other]):
                spare_places[filled] = places[row, mine]
                spare_overlaps[filled] = overlaps[row, mine]
                mine += 1
            else:
                spare_places[filled] = more_places[row, other]
                spare_overlaps[filled] = more_overlaps[row, other]
                other += 1
            filled += 1
        for index in range(filled):
            places[row, index] = spare_places[index]
            overlaps[row, index] = spare_overlaps[index]
        sizes[row] = filled


@compiled
def fill_places(
    references: NDArray[np.int64],
    sizes: NDArray[np.int64],
    number: int,
    column: NDArray[np.int64],
    places: NDArray[np.int64],
) -> None:
    """Looks up the places of one source's entries among references (n, k), row by row.

    Args:
        references: (n, at least k) the number of a source in the highest 32 bits, an entry in the lowest.
        sizes: (n,) how much of each row is filled.
        number: The number of the source.
        column: (entries,) its places.
        places: (n, k) out.
    """
    for row in range(places.shape[0]):
        for index in range(min(sizes[row], places.shape[1])):
            reference = references[row, index]
            if reference >> 32 == number:
                places[row, index] = column[reference & 0xFFFFFFFF]
