"""The tail: the youngest entries, in memory. Each query is compared with each of them.

Terms are stored group by group, so that one comparison instruction covers many entries. One thread adds while any
number search: growth replaces columns by longer copies, and what is added or hidden later only affects later places.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from core.types import ImageId
from search.index.bounded import best_counted
from search.index.choosing import Best
from search.index.columns import Columns, Kind
from search.index.compiled import borrowing, compiled, whole
from search.index.id_table import Bounds, IdColumn
from search.index.nearest import CodeColumn
from search.index.packing import pack_rows
from search.index.planning import RecordShape
from search.index.segment_search import Hits, QueryBatch
from search.index.selection import keep_smallest, key_of, sort_keys
from search.index.source import Scratch, Source

__all__ = ["Tail"]

_FIRST_CAPACITY = 256
_Number = TypeVar("_Number", bound=np.generic)


@dataclass(frozen=True, slots=True, eq=False)
class _Room:
    """One row per entry; rows after the last entry are unused."""

    places: NDArray[np.int64]
    versions: NDArray[np.uint64]
    kinds: NDArray[np.uint8]
    hidden: NDArray[np.int64]
    codes: NDArray[np.uint8]
    terms: NDArray[Any]
    """(groups, entries), in the shortest type that holds them"""

    @staticmethod
    def of(shape: RecordShape, capacity: int) -> _Room:
        return _Room(
            np.empty(capacity, np.int64),
            np.empty(capacity, np.uint64),
            np.zeros(capacity, np.uint8),
            np.zeros(capacity, np.int64),
            np.zeros((capacity, shape.code_bytes), np.uint8),
            np.zeros((shape.groups, capacity), np.uint16 if shape.bits_per_group <= 16 else np.uint32),
        )

    def copy_into(self, other: _Room, size: int) -> None:
        for name in ("places", "versions", "kinds", "hidden", "codes"):
            getattr(other, name)[:size] = getattr(self, name)[:size]
        other.terms[:, :size] = self.terms[:, :size]


class Tail(Source):
    """Entries that are not sealed yet."""

    def __init__(self, shape: RecordShape) -> None:
        """Starts empty."""
        self._shape = shape
        self._room = _Room.of(shape, _FIRST_CAPACITY)
        self._size = 0
        self._ids: list[ImageId] = []
        self._entries_of: dict[ImageId, list[int]] = {}
        self.hides: dict[int, int] = {}
        self.hide_order: list[int] = []
        self.forgets: list[int] = []
        """The places of deletes that forget an image."""

    @property
    def hidden(self) -> NDArray[np.int64]:  # type: ignore[override] # grows with the entries
        """See `Source`."""
        return self._room.hidden

    @property
    def places(self) -> NDArray[np.int64]:
        """See `Source`."""
        size = self._size  # before the columns: they are only ever replaced by longer ones
        return self._room.places[:size]

    @property
    def versions(self) -> NDArray[np.uint64]:
        """See `Source`."""
        return self._room.versions

    @property
    def kinds(self) -> NDArray[np.uint8]:
        """See `Source`."""
        return self._room.kinds

    def __len__(self) -> int:
        """How many entries."""
        return self._size

    def reserve(self, entries: int) -> None:
        """Makes room for so many more entries, so that adding them needs almost no memory."""
        capacity = len(self._room.places)
        while capacity < self._size + entries:
            capacity *= 2
        if capacity > len(self._room.places):
            longer = _Room.of(self._shape, capacity)
            self._room.copy_into(longer, self._size)
            self._room = longer

    def add(
        self,
        places: NDArray[np.int64],
        versions: NDArray[np.uint64],
        kinds: NDArray[np.uint8],
        image_ids: Sequence[ImageId],
        terms: NDArray[np.uint32],
        codes: NDArray[np.uint8],
    ) -> None:
        """Appends entries.

        Args:
            places: (n,) ascending.
            versions: (n,)
            kinds: (n,)
            image_ids: n of them.
            terms: (searchable entries, groups)
            codes: (searchable entries, code bytes)
        """
        first, last = self._size, self._size + len(places)
        self.reserve(len(places))
        room = self._room
        rows = first + np.flatnonzero(kinds == Kind.SEARCHABLE)
        room.places[first:last], room.versions[first:last], room.kinds[first:last] = places, versions, kinds
        room.terms[:, rows] = terms.T
        room.codes[rows] = codes
        self._ids += image_ids
        self.forgets += places[kinds == Kind.FORGOTTEN].tolist()
        # Searches see the entries from here on; look-ups by id see them after the loop below.
        self._size = last
        for row, image_id in enumerate(image_ids):
            self._entries_of.setdefault(image_id, []).append(first + row)

    def find_last(self, asked: Sequence[ImageId], column: IdColumn, bounds: Bounds) -> list[int]:
        """See `Source`."""
        rows = zip(asked, bounds.below.tolist(), bounds.versions.tolist(), strict=True)
        return [self._last(image_id, below, version) for image_id, below, version in rows]

    def _last(self, image_id: ImageId, below: int, version: int) -> int:
        entries = self._entries_of.get(image_id)
        if not entries:
            return -1
        versions = self._room.versions
        count = min(
            bisect_left(entries, below),
            bisect_right(entries, version, key=lambda entry: int(versions[entry])),
        )
        return entries[count - 1] if count else -1

    def terms_of(self, entries: NDArray[np.int64]) -> NDArray[np.uint32]:
        """See `Source`."""
        return np.ascontiguousarray(self._room.terms[:, entries].T).astype(np.uint32)

    def codes_of(self, entries: NDArray[np.int64]) -> NDArray[np.uint8]:
        """See `Source`."""
        return self._room.codes[entries]

    def code_column(self) -> CodeColumn:
        """See `Source`."""
        return CodeColumn.of_all(self._room.codes)

    def ids_of(self, entries: NDArray[np.int64]) -> list[ImageId]:
        """See `Source`."""
        return [self._ids[entry] for entry in entries.tolist()]

    def search(self, batch: QueryBatch, scratch: Scratch) -> Hits:
        """See `Source`."""
        size, room = self._size, self._room
        width = int(batch.wanted.max(initial=1))
        hits = Hits.empty(len(batch.terms), width)
        work = scratch.fit(0, width, batch.terms.shape[1])
        bounds = np.searchsorted(room.places[:size], batch.as_of)
        _scan(
            batch.terms.astype(room.terms.dtype), bounds, batch.as_of, batch.excluded, batch.least, batch.wanted,
            room.terms, room.kinds, room.hidden, np.empty(size, np.uint16), work.pool,
            hits.entries, hits.overlaps, hits.sizes, hits.touched,
        )  # fmt: skip
        return hits

    def weigh(self, terms: NDArray[np.uint32], most: int, weights: NDArray[np.int64]) -> None:
        """See `Source`."""
        size, room = self._size, self._room
        for row, query in enumerate(terms):
            weights[row] += (room.terms[:, :size] == query[:, np.newaxis]).sum(axis=1)

    def oldest(self, batch: QueryBatch, remaining: NDArray[np.int64], scratch: Scratch) -> Hits:
        """See `Source`."""
        size, room, wanted = self._size, self._room, int(batch.wanted[0])
        hits = Hits.empty(1, wanted)
        as_of = int(batch.as_of[0])
        bound = int(np.searchsorted(room.places[:size], as_of))
        hidden = room.hidden[:bound]
        visible = (room.kinds[:bound] == Kind.SEARCHABLE) & ((hidden == 0) | (as_of < hidden))
        entries = np.flatnonzero(visible).astype(np.int32)
        counts = np.zeros(bound, np.uint16)
        hits.touched[0] = _count_oldest(batch.terms[0].astype(room.terms.dtype), room.terms, entries, remaining, counts)
        work = scratch.fit(0, wanted, len(remaining))
        best = Best(hits.entries[0], hits.overlaps[0], wanted)
        hits.sizes[0] = best_counted(
            entries, len(entries), counts, 0, int(batch.excluded[0]), int(batch.least[0]), best, work.pool, work.levels
        )
        return hits

    def columns(self) -> Columns:
        """All entries."""
        size, room = self._size, self._room
        kinds = room.kinds[:size]
        searchable = np.flatnonzero(kinds == Kind.SEARCHABLE)
        return Columns(
            room.places[:size],
            room.versions[:size],
            kinds,
            IdColumn.of(self._ids[:size]),
            pack_rows(self.terms_of(searchable), self._shape.bits_per_group),
            [room.codes[searchable]],
        )


@compiled
def _scan(  # noqa: PLR0913 - compiled code takes arrays one by one
    queries: NDArray[_Number],
    bounds: NDArray[np.int64],
    as_of: NDArray[np.int64],
    excluded: NDArray[np.int64],
    least: NDArray[np.int64],
    wanted: NDArray[np.int64],
    terms: NDArray[_Number],
    kinds: NDArray[np.uint8],
    hidden: NDArray[np.int64],
    counts: NDArray[np.uint16],
    keys: NDArray[np.int64],
    entries: NDArray[np.int64],
    overlaps: NDArray[np.uint16],
    sizes: NDArray[np.int64],
    touched: NDArray[np.int64],
) -> None:
    """Compares each query with each entry below its bound; see `search.index.segment_search.search_segment`."""
    groups = queries.shape[1]
    for query in range(queries.shape[0]):
        bound = bounds[query]
        counts[:bound] = 0
        for group in range(groups):
            term = queries[query, group]
            for entry in range(bound):
                counts[entry] += np.uint16(terms[group, entry] == term)
        filled = 0
        total = 0
        for entry in range(bound):
            overlap = whole(counts[entry])
            total += overlap
            if (
                overlap >= least[query]
                and kinds[entry] == 1
                and entry != excluded[query]
                and (hidden[entry] == 0 or as_of[query] < hidden[entry])
            ):
                if filled == keys.shape[0]:
                    filled = keep_smallest(keys, 0, filled, wanted[query])
                keys[filled] = key_of(groups, overlap, entry)
                filled += 1
        filled = keep_smallest(keys, 0, filled, wanted[query])
        sort_keys(keys, 0, filled)
        for index in range(filled):
            entries[query, index] = keys[index] & 0xFFFFFFFF
            overlaps[query, index] = groups - (keys[index] >> 32)
        sizes[query] = filled
        touched[query] += total


@borrowing
def _count_oldest(
    query: NDArray[_Number],
    terms: NDArray[_Number],
    visible: NDArray[np.int32],
    remaining: NDArray[np.int64],
    counts: NDArray[np.uint16],
) -> int:
    """Counts for each of the visible entries (ascending) its terms that are the query's; see `Source.oldest`."""
    read = 0
    for group in range(query.shape[0]):
        left = remaining[group]
        if left < 0:
            continue
        term = query[group]
        for index in range(visible.shape[0]):
            entry = visible[index]
            if terms[group, entry] == term:
                left -= 1
                if left < 0:
                    break
                counts[entry] += np.uint16(1)
                read += 1
        remaining[group] = left
    return read
