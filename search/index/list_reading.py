"""Finds the posting list of a term and unpacks it. The format is described in `search.index.posting_lists`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from search.index.compiled import borrowing, inlined, load64, prefetch, whole
from search.index.posting_lists import BLOCK, LONG, PARTIAL

__all__ = [
    "Lists",
    "list_of",
    "list_size",
    "narrow",
    "place_of",
    "prefetch_place",
    "read_block",
    "read_list",
    "read_numbers",
    "start_list",
]

_LINE = 64
_AHEAD = 4
"""How many cache lines of a list are prefetched; the processor itself prefetches those after them."""


class Lists(NamedTuple):
    """The lists of all groups, for compiled code."""

    directory: NDArray[np.uint32]
    """(groups, 2^directory_bits + 1) offsets from the group's base."""
    bases: NDArray[np.int64]
    """(groups,) offsets into `data`."""
    data: NDArray[np.uint8]
    rest_bits: int
    """Bits of a term that the directory does not cover."""
    rest_bytes: int
    """Bytes before each list that hold these bits."""
    number_bytes: int


@inlined
def place_of(lists: Lists, group: int, term: int) -> tuple[int, int]:
    """Where the lists in a term's directory slot start and end."""
    place = term >> lists.rest_bits
    base = lists.bases[group]
    return base + whole(lists.directory[group, place]), base + whole(lists.directory[group, place + 1])


@borrowing
def _find(data: NDArray[np.uint8], start: int, end: int, rest: int, rest_bytes: int) -> tuple[int, int]:
    """Where the list with the remaining bits `rest` starts and ends within a directory slot; (0, 0): there is none."""
    at = start
    while at < end:
        word = whole(load64(data, at) & np.uint64((1 << (8 * (rest_bytes + 1))) - 1))
        found = word & ((1 << (8 * rest_bytes)) - 1)
        length = word >> (8 * rest_bytes)
        at += rest_bytes + 1
        if length == LONG:
            length = whole(load64(data, at) & np.uint64(0xFFFFFFFF))
            at += 4
        if found == rest:
            return at, at + length
        if found > rest:
            return 0, 0
        at += length
    return 0, 0


@borrowing
def narrow(lists: Lists, start: int, end: int, term: int) -> tuple[int, int]:
    """Where a term's list starts and ends within its directory slot; both are equal if there is none."""
    if lists.rest_bits > 0 and end > start:
        return _find(lists.data, start, end, term & ((1 << lists.rest_bits) - 1), lists.rest_bytes)
    return start, end


@borrowing
def list_of(lists: Lists, group: int, term: int) -> tuple[int, int]:
    """Where a term's list starts and ends; both are equal if there is none."""
    start, end = place_of(lists, group, term)
    return narrow(lists, start, end, term)


@inlined
def prefetch_place(data: NDArray[np.uint8], start: int, end: int) -> None:
    """Prefetches the beginning of the lists in a directory slot."""
    for line in range(_AHEAD):
        if start + line * _LINE < end:
            prefetch(data, start + line * _LINE)


@inlined
def start_list(data: NDArray[np.uint8], start: int, size: int) -> tuple[int, int, bool]:
    """The first number of a list, where the next one starts, and whether the list consists of a few plain numbers."""
    flag = np.uint64(1) << np.uint64(8 * size - 1)
    word = load64(data, start)
    return whole(word & (flag - np.uint64(1))), start + size, (word & flag) != 0


@inlined
def read_block(
    data: NDArray[np.uint8], at: int, number: int, few: bool, size: int, out: NDArray[np.int32], filled: int
) -> tuple[int, int]:
    """Appends the block after a number, up to 32 numbers; returns where the next block starts, and the new fill."""
    if few:
        out[filled] = whole(load64(data, at) & ((np.uint64(1) << np.uint64(8 * size - 1)) - np.uint64(1)))
        return at + size, filled + 1
    head = whole(data[at])
    at += 1
    gaps = BLOCK
    if head & PARTIAL:
        gaps = whole(data[at])
        at += 1
    width = head & (PARTIAL - 1)
    mask = (np.uint64(1) << np.uint64(width)) - np.uint64(1)
    bit = whole(0)
    block = out[filled : filled + gaps]
    for index in range(gaps):
        number += whole((load64(data, at + (bit >> 3)) >> np.uint64(bit & 7)) & mask) + 1
        bit += width
        block[index] = number
    return at + ((bit + 7) >> 3), filled + gaps


@borrowing
def list_size(data: NDArray[np.uint8], start: int, end: int, size: int, most: int) -> int:
    """How many postings a list has, from the headers of its blocks alone, up to the block that passes `most`."""
    _, at, few = start_list(data, start, size)
    if few:
        return (end - start) // size
    count = 1
    while at < end and count <= most:
        head = whole(data[at])
        at += 1
        gaps = BLOCK
        if head & PARTIAL:
            gaps = whole(data[at])
            at += 1
        at += (gaps * (head & (PARTIAL - 1)) + 7) >> 3
        count += gaps
    return count


@inlined
def read_list(
    data: NDArray[np.uint8], start: int, end: int, size: int, bound: int, out: NDArray[np.int32], filled: int
) -> int:
    """Appends a list to `out`, up to the block that reaches the bound; returns the new fill, or -1 without room."""
    room = out.shape[0] - BLOCK
    if filled > room:
        return -1
    number, at, few = start_list(data, start, size)
    out[filled] = number
    filled += 1
    while at < end and number < bound:
        if filled > room:
            return -1
        at, filled = read_block(data, at, number, few, size, out, filled)
        number = whole(out[filled - 1])
    return filled


@borrowing
def read_numbers(
    data: NDArray[np.uint8], start: int, end: int, size: int, bound: int, most: int, out: NDArray[np.int32]
) -> int:
    """Unpacks the first numbers of a list that are below a bound, at most `most`; returns how many.

    `out` has room for `most` numbers and one block.
    """
    number, at, few = start_list(data, start, size)
    out[0] = number
    filled = 1
    while at < end and number < bound and filled < most:
        at, filled = read_block(data, at, number, few, size, out, filled)
        number = whole(out[filled - 1])
    filled = min(filled, most)
    while filled > 0 and out[filled - 1] >= bound:
        filled -= 1
    return filled
