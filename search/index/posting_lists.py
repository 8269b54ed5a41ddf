"""Compressed posting lists, and how they are made from terms.

A list holds the numbers of the entries with one term, ascending. Its bytes, with numbers of `number_bytes` bytes:

- few postings: each number, little-endian; the first one has its highest bit set;
- else: the first number (highest bit clear), then blocks of up to 32 gaps. A block is one byte with the bits per gap
  (highest bit set: fewer than 32 gaps, their count is the next byte), then the gaps, each less one, packed from the
  lowest bit on.

All gaps of a block have one width, so unpacking has no branches. A plain variable-byte code is a tenth longer and three
times slower to read, since the processor cannot predict the lengths. (The idea is PForDelta without exceptions:
Zukowski et al., "Super-scalar RAM-CPU cache compression", ICDE 2006.)

The lists of one group are sorted by term. The group's directory has 2^directory_bits + 1 offsets; the highest bits of a
term pick a slot. If a term has more bits, several terms share a slot. There, each list is preceded by the remaining
bits (`rest_bytes`) and its length (one byte; 255: four more bytes with the length follow).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.index.compiled import compiled, whole
from search.index.rate_limiter import RateLimiter

__all__ = [
    "BLOCK",
    "LONG",
    "PADDING",
    "PARTIAL",
    "ListShape",
    "PostingLists",
    "invert",
    "number_bytes_for",
    "packed_column",
]

PADDING = 8
"""Bytes after the last list, since lists are read 8 bytes at a time."""

BLOCK = 32
"""Gaps of a full block."""

PARTIAL = 128
"""Flag in the first byte of a block that is not full."""

LONG = 255
"""A length byte with this value means that the length follows in four bytes."""

_FEW = 4
_BUCKET_BITS = 4
"""A directory has about one slot for 2^4 entries, and never more slots than terms."""


@dataclass(frozen=True, slots=True)
class ListShape:
    """The sizes that a reader of lists must know."""

    groups: int
    bits: int
    directory_bits: int
    number_bytes: int

    @property
    def rest_bits(self) -> int:
        """Bits of a term that the directory does not cover."""
        return self.bits - self.directory_bits

    @property
    def rest_bytes(self) -> int:
        """Bytes before each list that hold these bits."""
        return (self.rest_bits + 7) // 8

    @staticmethod
    def of(groups: int, bits: int, entries: int) -> ListShape:
        """The shape for a number of entries."""
        directory_bits = min(bits, max(0, entries.bit_length() - _BUCKET_BITS))
        return ListShape(groups, bits, directory_bits, number_bytes_for(entries))


@dataclass(frozen=True, slots=True, eq=False)
class PostingLists:
    """The lists of all groups."""

    shape: ListShape
    directory: NDArray[np.uint32]
    """(groups, 2^directory_bits + 1) offsets from the group's base."""
    bases: NDArray[np.int64]
    """(groups,) offsets into `data`."""
    data: NDArray[np.uint8]
    postings: int
    lists: int
    squares: float
    """The sum of the squared lengths of the lists: the postings that one search for each entry would touch."""
    longest: int


def number_bytes_for(entries: int) -> int:
    """Bytes per entry number so that the highest bit stays free."""
    return max(1, (max(entries - 1, 0).bit_length() + 8) // 8)


@compiled
def packed_column(rows: NDArray[np.uint8], group: int, bits: int, out: NDArray[np.uint32]) -> None:
    """The values of one group, from packed rows (see `search.index.packing`), into `out` (n,)."""
    first = group * bits
    byte = first >> 3
    shift = first & 7
    last = (first + bits - 1) >> 3
    mask = (1 << bits) - 1
    for row in range(rows.shape[0]):
        value = 0
        for index in range(byte, last + 1):
            value |= whole(rows[row, index]) << (8 * (index - byte))
        out[row] = np.uint32((value >> shift) & mask)


@compiled
def _sort_by_value(values: NDArray[np.uint32], bits: int, order: NDArray[np.uint32], spare: NDArray[np.uint32]) -> None:
    """Writes into `order` the row numbers, sorted by value, then by row: a radix sort with up to 12 bits a pass."""
    n = values.shape[0]
    passes = (bits + 11) // 12
    step = (bits + passes - 1) // passes
    mask = np.uint32((1 << step) - 1)
    starts = np.empty((1 << step) + 1, np.int64)
    for row in range(n):
        order[row] = row
    for turn in range(passes):
        shift = np.uint32(turn * step)
        starts[:] = 0
        for row in range(n):
            starts[((values[row] >> shift) & mask) + 1] += 1
        for digit in range(1 << step):
            starts[digit + 1] += starts[digit]
        for index in range(n):
            row = order[index]
            digit = (values[row] >> shift) & mask
            spare[starts[digit]] = row
            starts[digit] += 1
        for index in range(n):
            order[index] = spare[index]


@compiled
def _write_number(data: NDArray[np.uint8], at: int, number: int, size: int) -> int:
    for byte in range(size):
        data[at + byte] = (number >> (8 * byte)) & 255
    return at + size


@compiled
def _write_block(numbers: NDArray[np.uint32], first: int, count: int, data: NDArray[np.uint8], at: int) -> int:
    """Writes the gaps before `count` numbers, starting at index `first`; returns where the block ends."""
    widest = whole(0)
    for index in range(first, first + count):
        widest |= whole(numbers[index]) - whole(numbers[index - 1]) - 1
    width = 0
    while widest >> width:
        width += 1
    data[at] = width
    at += 1
    if count < BLOCK:
        data[at - 1] |= PARTIAL
        data[at] = count
        at += 1
    word = np.uint64(0)
    filled = 0
    for index in range(first, first + count):
        gap = whole(numbers[index]) - whole(numbers[index - 1]) - 1
        word |= np.uint64(gap) << np.uint64(filled)
        filled += width
        while filled >= 8:
            data[at] = np.uint8(word & np.uint64(255))
            at += 1
            word >>= np.uint64(8)
            filled -= 8
    if filled > 0:
        data[at] = np.uint8(word & np.uint64(255))
        at += 1
    return at


@compiled
def _write_list(numbers: NDArray[np.uint32], size: int, data: NDArray[np.uint8], start: int) -> int:
    """Writes one list; returns where it ends."""
    n = numbers.shape[0]
    at = _write_number(data, start, whole(numbers[0]), size)
    first = 1
    while first < n:
        count = min(BLOCK, n - first)
        at = _write_block(numbers, first, count, data, at)
        first += count
    if n <= _FEW and start + n * size <= at:
        at = start
        for index in range(n):
            at = _write_number(data, at, whole(numbers[index]), size)
        data[start + size - 1] |= 128
    return at


@compiled
def _write_group(  # noqa: PLR0913 - compiled code takes arrays one by one
    values: NDArray[np.uint32],
    order: NDArray[np.uint32],
    numbers: NDArray[np.uint32],
    rest_bits: int,
    rest_bytes: int,
    size: int,
    places: NDArray[np.uint32],
    data: NDArray[np.uint8],
    base: int,
    stats: NDArray[np.float64],
    room: NDArray[np.uint32],
) -> int:
    """Writes the lists of one group and returns where they end. `stats` gets: lists, sum of squares, longest list."""
    n = values.shape[0]
    at = base
    place = 0
    rest_mask = whole((1 << rest_bits) - 1)
    first = 0
    while first < n:
        value = whole(values[order[first]])
        last = first
        while last < n and whole(values[order[last]]) == value:
            room[last - first] = numbers[order[last]]
            last += 1
        while place <= value >> rest_bits:
            places[place] = np.uint32(at - base)
            place += 1
        if rest_bits > 0:
            start = at + rest_bytes + 5
            length = _write_list(room[: last - first], size, data, start) - start
            at = _write_number(data, at, value & rest_mask, rest_bytes)
            at = _write_number(data, at, min(length, LONG), 1)
            if length >= LONG:
                at = _write_number(data, at, length, 4)
            for byte in range(length):
                data[at + byte] = data[start + byte]
            at += length
        else:
            at = _write_list(room[: last - first], size, data, at)
        stats[0] += 1
        stats[1] += float(last - first) ** 2
        stats[2] = max(stats[2], float(last - first))
        first = last
    while place < places.shape[0]:
        places[place] = np.uint32(at - base)
        place += 1
    return at


def invert(
    rows: NDArray[np.uint8], numbers: NDArray[np.uint32], shape: ListShape, limiter: RateLimiter | None = None
) -> PostingLists:
    """The posting lists of entries with the given terms.

    Args:
        rows: (n, bytes) their terms, packed.
        numbers: (n,) the entries' numbers, ascending.
        shape: Of the lists; its `number_bytes` hold the largest number.
        limiter: Limits the rate, in slices of one group; None: no limit.

    Raises:
        WorkStopped: The limiter was stopped.
    """
    n = len(rows)
    directory = np.empty((shape.groups, 2**shape.directory_bits + 1), np.uint32)
    bases = np.empty(shape.groups, np.int64)
    values, order, spare = (np.empty(n, np.uint32) for _ in range(3))
    room = np.empty(n, np.uint32)
    # The worst case of one group: every entry has its own list, with a length before it.
    worst = n * (2 * shape.number_bytes + 2 + shape.rest_bytes + 5) + 64
    stats, parts, base = np.zeros(3), [], 0
    scratch = np.empty(worst, np.uint8)
    for group in range(shape.groups):
        packed_column(rows, group, shape.bits, values)
        _sort_by_value(values, shape.bits, order, spare)
        end = _write_group(
            values, order, numbers, shape.rest_bits, shape.rest_bytes, shape.number_bytes,
            directory[group], scratch, 0, stats, room,
        )  # fmt: skip
        bases[group] = base
        parts.append(scratch[:end].copy())
        base += end
        if limiter is not None:
            limiter.spend(end)
    parts.append(np.zeros(PADDING, np.uint8))
    return PostingLists(
        shape, directory, bases, np.concatenate(parts),
        postings=n * shape.groups, lists=int(stats[0]), squares=float(stats[1]), longest=int(stats[2]),
    )  # fmt: skip
