"""From an image id to its entries: a hash table that is built once and read from a mapped file.

The highest bits of a 64-bit hash of the id's bytes (FNV-1a, then the finalizer of MurmurHash3) pick a bucket. A bucket
holds `tags` (the lowest 32 bits) and `entries`, sorted by tag, then by entry. A hit is confirmed by comparing the id.
So the entries of one id lie beside each other, by age.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from core.types import ImageId
from search.index.compiled import compiled, prefetch, whole
from search.index.gathering import AHEAD

__all__ = ["Bounds", "IdColumn", "IdTable", "build_id_table", "last_entries", "open_id_table", "repeated_entries"]

_PER_BUCKET_BITS = 2


@dataclass(frozen=True, slots=True, eq=False)
class IdColumn:
    """The ids of entries in UTF-8, concatenated."""

    offsets: NDArray[np.uint32]
    """(n + 1,)"""
    data: NDArray[np.uint8]

    def __len__(self) -> int:
        """How many ids."""
        return len(self.offsets) - 1

    def __getitem__(self, entry: int) -> ImageId:
        """One id."""
        return ImageId(self.data[self.offsets[entry] : self.offsets[entry + 1]].tobytes().decode())

    @staticmethod
    def of(ids: Sequence[ImageId]) -> IdColumn:
        """The column of some ids."""
        return IdColumn.of_bytes([one.encode() for one in ids])

    @staticmethod
    def of_bytes(ids: Sequence[bytes]) -> IdColumn:
        """The column of some ids in UTF-8."""
        offsets = np.zeros(len(ids) + 1, np.uint32)
        np.cumsum(np.fromiter(map(len, ids), np.uint32, len(ids)), out=offsets[1:])
        return IdColumn(offsets, np.frombuffer(b"".join(ids), np.uint8))

    def renamed(self, names: Mapping[int, ImageId]) -> IdColumn:
        """The same column with other ids for some entries."""
        lengths = np.diff(self.offsets)
        parts, at = [], 0
        for entry, image_id in sorted(names.items()):
            encoded = np.frombuffer(image_id.encode(), np.uint8)
            parts += [self.data[at : self.offsets[entry]], encoded]
            lengths[entry] = len(encoded)
            at = int(self.offsets[entry + 1])
        offsets = np.zeros(len(self.offsets), np.uint32)
        np.cumsum(lengths, out=offsets[1:])
        return IdColumn(offsets, np.concatenate([*parts, self.data[at:]]))

    def many(self, entries: NDArray[np.int64]) -> list[ImageId]:
        """The ids of some entries."""
        edges = np.zeros(len(entries) + 1, np.int64)
        gathered = _gather(self.offsets, self.data, entries, edges).tobytes()
        text = gathered.decode()
        cuts = pairwise(edges.tolist())
        if len(text) == len(gathered):  # all ASCII: slicing one string is faster than decoding each id
            return cast("list[ImageId]", [text[start:end] for start, end in cuts])
        return cast("list[ImageId]", [gathered[start:end].decode() for start, end in cuts])


@dataclass(frozen=True, slots=True, eq=False)
class IdTable:
    """Buckets of tags and entries."""

    buckets: NDArray[np.uint32]
    """(buckets + 1,) where each bucket starts."""
    tags: NDArray[np.uint32]
    entries: NDArray[np.uint32]
    mixed: bool = False
    """Entries of different ids have one tag in one bucket. Then they are looked through one by one."""


class Bounds(NamedTuple):
    """Which entries of an id are asked for; row i belongs to id i. Versions never descend with the entries of an id."""

    below: NDArray[np.int64]
    """(n,) entries below these."""
    versions: NDArray[np.uint64]
    """(n,) entries of at most these versions."""


def open_id_table(
    buckets: NDArray[np.uint32], tags: NDArray[np.uint32], entries: NDArray[np.uint32], column: IdColumn
) -> IdTable:
    """A table that was built before, for a column of ids."""
    return IdTable(buckets, tags, entries, bool(_is_mixed(buckets, tags, entries, column.offsets, column.data)))


def build_id_table(ids: IdColumn) -> IdTable:
    """The table of a column of ids."""
    n = len(ids)
    bits = max(1, n.bit_length() - _PER_BUCKET_BITS)
    hashes = np.empty(n, np.uint64)
    _hash_ids(ids.offsets, ids.data, hashes)
    buckets = np.zeros(2**bits + 1, np.uint32)
    tags, entries = np.empty(n, np.uint32), np.empty(n, np.uint32)
    _fill_buckets(hashes, bits, buckets, tags, entries)
    return open_id_table(buckets, tags, entries, ids)


def last_entries(
    table: IdTable, column: IdColumn, versions: NDArray[np.uint64], asked: IdColumn, bounds: Bounds
) -> NDArray[np.int64]:
    """For each id its last entry within the bounds, or -1: (asked,).

    An id may have millions of entries: the time grows with the logarithm of their number.

    Args:
        table: The table.
        column: The ids of all entries.
        versions: (entries,) never descending among the entries of an id.
        asked: The ids to look for.
        bounds: For each of them.
    """
    hashes = np.empty(len(asked), np.uint64)
    _hash_ids(asked.offsets, asked.data, hashes)
    found = np.full(len(asked), -1, np.int64)
    _find_last(
        hashes, asked.offsets, asked.data, bounds.below, bounds.versions,
        table.buckets, table.tags, table.entries, table.mixed, column.offsets, column.data, versions, found,
    )  # fmt: skip
    return found


def repeated_entries(table: IdTable, column: IdColumn) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs of consecutive entries with the same id: the older ones and the younger ones."""
    older, newer = np.empty(len(column), np.int64), np.empty(len(column), np.int64)
    count = _repeated(table.buckets, table.tags, table.entries, column.offsets, column.data, older, newer)
    return older[:count], newer[:count]


@compiled
def _repeated(
    buckets: NDArray[np.uint32],
    tags: NDArray[np.uint32],
    entries: NDArray[np.uint32],
    offsets: NDArray[np.uint32],
    data: NDArray[np.uint8],
    older: NDArray[np.int64],
    newer: NDArray[np.int64],
) -> int:
    count = 0
    for bucket in range(buckets.shape[0] - 1):
        for at in range(whole(buckets[bucket]) + 1, whole(buckets[bucket + 1])):
            mine = whole(entries[at])
            # Among equal tags the nearest entry before it with the same id.
            other = at - 1
            while other >= whole(buckets[bucket]) and tags[other] == tags[at]:
                theirs = whole(entries[other])
                if _same_id(offsets, data, mine, theirs):
                    older[count] = theirs
                    newer[count] = mine
                    count += 1
                    break
                other -= 1
    return count


@compiled
def _same_id(offsets: NDArray[np.uint32], data: NDArray[np.uint8], one: int, other: int) -> bool:
    length = whole(offsets[one + 1]) - whole(offsets[one])
    if whole(offsets[other + 1]) - whole(offsets[other]) != length:
        return False
    byte = 0
    while byte < length and data[whole(offsets[one]) + byte] == data[whole(offsets[other]) + byte]:
        byte += 1
    return byte == length


@compiled
def _gather(
    offsets: NDArray[np.uint32], data: NDArray[np.uint8], entries: NDArray[np.int64], edges: NDArray[np.int64]
) -> NDArray[np.uint8]:
    size = entries.shape[0]
    for row in range(size):
        if row + AHEAD < size:
            prefetch(offsets, entries[row + AHEAD])
        length = whole(offsets[entries[row] + 1]) - whole(offsets[entries[row]])
        edges[row + 1] = edges[row] + length
    gathered = np.empty(edges[size], np.uint8)
    for row in range(size):
        if row + AHEAD < size:
            prefetch(data, whole(offsets[entries[row + AHEAD]]))
        first = whole(offsets[entries[row]])
        for byte in range(edges[row + 1] - edges[row]):
            gathered[edges[row] + byte] = data[first + byte]
    return gathered


@compiled
def _hash_ids(offsets: NDArray[np.uint32], data: NDArray[np.uint8], out: NDArray[np.uint64]) -> None:
    for row in range(out.shape[0]):
        code = np.uint64(14695981039346656037)
        for at in range(offsets[row], offsets[row + 1]):
            code = (code ^ np.uint64(data[at])) * np.uint64(1099511628211)
        code ^= code >> np.uint64(33)
        code *= np.uint64(0xFF51AFD7ED558CCD)
        code ^= code >> np.uint64(33)
        code *= np.uint64(0xC4CEB9FE1A85EC53)
        out[row] = code ^ (code >> np.uint64(33))


@compiled
def _fill_buckets(
    hashes: NDArray[np.uint64],
    bits: int,
    buckets: NDArray[np.uint32],
    tags: NDArray[np.uint32],
    entries: NDArray[np.uint32],
) -> None:
    shift = np.uint64(64 - bits)
    for row in range(hashes.shape[0]):
        buckets[(hashes[row] >> shift) + np.uint64(1)] += np.uint32(1)
    for bucket in range(buckets.shape[0] - 1):
        buckets[bucket + 1] += buckets[bucket]
    ends = buckets[:-1].copy()
    for row in range(hashes.shape[0]):
        bucket = hashes[row] >> shift
        tag = np.uint32(hashes[row] & np.uint64(0xFFFFFFFF))
        at = whole(ends[bucket])
        ends[bucket] += np.uint32(1)
        first = whole(buckets[bucket])
        while at > first and tags[at - 1] > tag:
            tags[at] = tags[at - 1]
            entries[at] = entries[at - 1]
            at -= 1
        tags[at] = tag
        entries[at] = row


@compiled
def _is_mixed(
    buckets: NDArray[np.uint32],
    tags: NDArray[np.uint32],
    entries: NDArray[np.uint32],
    offsets: NDArray[np.uint32],
    data: NDArray[np.uint8],
) -> bool:
    for bucket in range(buckets.shape[0] - 1):
        for at in range(whole(buckets[bucket]) + 1, whole(buckets[bucket + 1])):
            if tags[at - 1] == tags[at] and not _same_id(offsets, data, whole(entries[at - 1]), whole(entries[at])):
                return True
    return False


@compiled
def _has_id(
    offsets: NDArray[np.uint32], data: NDArray[np.uint8], entry: int, asked: NDArray[np.uint8], first: int, length: int
) -> bool:
    start = whole(offsets[entry])
    if whole(offsets[entry + 1]) - start != length:
        return False
    byte = 0
    while byte < length and data[start + byte] == asked[first + byte]:
        byte += 1
    return byte == length


@compiled
def _find_last(  # noqa: PLR0913 - compiled code takes arrays one by one
    hashes: NDArray[np.uint64],
    asked_offsets: NDArray[np.uint32],
    asked: NDArray[np.uint8],
    below: NDArray[np.int64],
    at_most: NDArray[np.uint64],
    buckets: NDArray[np.uint32],
    tags: NDArray[np.uint32],
    entries: NDArray[np.uint32],
    mixed: bool,
    offsets: NDArray[np.uint32],
    data: NDArray[np.uint8],
    versions: NDArray[np.uint64],
    found: NDArray[np.int64],
) -> None:
    bits = 0
    while (1 << bits) + 1 < buckets.shape[0]:
        bits += 1
    shift = np.uint64(64 - bits)
    for row in range(hashes.shape[0]):
        bucket = hashes[row] >> shift
        tag = np.uint32(hashes[row] & np.uint64(0xFFFFFFFF))
        start, length = whole(asked_offsets[row]), whole(asked_offsets[row + 1]) - whole(asked_offsets[row])
        # The first entry of the bucket with the tag.
        low, end = whole(buckets[bucket]), whole(buckets[bucket + np.uint64(1)])
        high = end
        while low < high:
            middle = (low + high) // 2
            if tags[middle] < tag:
                low = middle + 1
            else:
                high = middle
        if low == end or tags[low] != tag:
            continue
        if not mixed and not _has_id(offsets, data, whole(entries[low]), asked, start, length):
            continue
        # Behind the last entry with the tag that is within the bounds; of one id, if the table is not mixed.
        first, high = low, end
        while low < high:
            middle = (low + high) // 2
            entry = whole(entries[middle])
            inside = tags[middle] == tag and entry < below[row]
            if inside and (mixed or versions[entry] <= at_most[row]):
                low = middle + 1
            else:
                high = middle
        at = low - 1
        while mixed and at >= first:
            entry = whole(entries[at])
            if versions[entry] <= at_most[row] and _has_id(offsets, data, entry, asked, start, length):
                break
            at -= 1
        if at >= first:
            found[row] = entries[at]
