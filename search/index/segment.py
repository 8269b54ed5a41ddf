"""A sealed segment: an immutable file of entries that follow each other in age, mapped into memory.

Sections of the file (see `search.index.section_file`), for n entries, s of them searchable, d distinct term sets:

    places i64[n], versions u64[n], kinds u8[n]
    id_offsets u32[n + 1], ids u8[...], id_buckets u32, id_tags u32[n], id_entries u32[n]
    searchable u64 bitmap, searchable_counts u32       rank of an entry = its row among the codes
    codes u8[s, code bytes]
    heads u64 bitmap, heads_counts u32                 rank of a head = its row among the terms (search.index.sharing)
    terms u8[d, row bytes]                             packed (search.index.packing)
    directory u32[groups, 2^b + 1], bases i64[groups], postings u8[...]    (search.index.posting_lists)
    shares u64 bitmap                                  heads that share their postings
    shared_starts u32, shared_entries u32              their followers, head by head
    follower_entries u32, follower_heads u32           the head of each follower, by entry
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.pseudonyms import is_pseudonym
from core.types import ImageId
from search.index.bounded import Room, best_counted, count_oldest, count_postings, weigh_lists
from search.index.choosing import Best
from search.index.columns import Columns, Kind
from search.index.counting import fresh_base
from search.index.errors import IndexDamagedError
from search.index.gathering import take_rows
from search.index.id_table import Bounds, IdColumn, IdTable, build_id_table, last_entries, open_id_table
from search.index.list_reading import Lists
from search.index.nearest import CodeColumn
from search.index.packing import first_equal_rows, unpack_rows
from search.index.planning import RecordShape
from search.index.posting_lists import BLOCK, ListShape, PostingLists, invert
from search.index.ranks import bitmap_of, counts_of, rank_of, word_counts_of
from search.index.rate_limiter import RateLimiter
from search.index.section_file import SectionFile, write_sections
from search.index.segment_search import Hits, QueryBatch, search_segment
from search.index.sharing import Sharing, Sight
from search.index.source import Scratch, Source

__all__ = ["MAX_SEGMENT_ENTRIES", "Segment", "write_segment"]

MAX_SEGMENT_ENTRIES = 2**31 - 1
"""Entry numbers have 32 bits, the highest of which stays free."""


_BUCKETS = 4096
"""Counters for the selection of the oldest entries of a list."""


def write_segment(
    path: Path, columns: Columns, shape: RecordShape, sync: bool = True, limiter: RateLimiter | None = None
) -> None:
    """Writes a segment of at least one entry, at the rate of the limiter.

    Raises:
        OSError: It could not be written.
        WorkStopped: The limiter was stopped.
    """
    n = len(columns)
    entries = np.flatnonzero(columns.searchable).astype(np.uint32)
    firsts = first_equal_rows(columns.rows)
    is_head = firsts == np.arange(len(firsts), dtype=np.uint32)
    heads = np.zeros(n, np.bool_)
    heads[entries[is_head]] = True
    head_rows = columns.rows if is_head.all() else columns.rows[is_head]
    lists = invert(head_rows, entries[is_head], ListShape.of(shape.groups, shape.bits_per_group, n), limiter)
    searchable, head_bits = bitmap_of(columns.searchable), bitmap_of(heads)
    table = build_id_table(columns.ids)
    sections: dict[str, Sequence[NDArray[Any]]] = {
        "places": [columns.places],
        "versions": [columns.versions],
        "kinds": [columns.kinds],
        "id_offsets": [columns.ids.offsets],
        "ids": [columns.ids.data],
        "id_buckets": [table.buckets],
        "id_tags": [table.tags],
        "id_entries": [table.entries],
        "searchable": [searchable],
        "searchable_counts": [counts_of(searchable)],
        "codes": [np.empty((0, shape.code_bytes), np.uint8), *columns.codes],
        "heads": [head_bits],
        "heads_counts": [counts_of(head_bits)],
        "terms": [head_rows],
        "directory": [lists.directory],
        "bases": [lists.bases],
        "postings": [lists.data],
        **_sharing(entries, firsts, is_head, n),
    }
    write_sections(path, _facts(columns, shape, lists, int(is_head.sum())), sections, sync, limiter)


def _facts(columns: Columns, shape: RecordShape, lists: PostingLists, term_sets: int) -> dict[str, Any]:
    return {
        "entries": len(columns),
        "searchable": int(columns.searchable.sum()),
        "term_sets": term_sets,
        "first_place": int(columns.places[0]),
        "last_place": int(columns.places[-1]),
        "groups": shape.groups,
        "bits_per_group": shape.bits_per_group,
        "code_bytes": shape.code_bytes,
        "directory_bits": lists.shape.directory_bits,
        "number_bytes": lists.shape.number_bytes,
        "postings": lists.postings,
        "lists": lists.lists,
        "squares": lists.squares,
        "longest": lists.longest,
    }


def _sharing(
    entries: NDArray[np.uint32], firsts: NDArray[np.uint32], is_head: NDArray[np.bool_], n: int
) -> dict[str, Sequence[NDArray[Any]]]:
    """The sections that say which entries share postings."""
    followers = entries[~is_head]
    leaders = entries[firsts[~is_head]]
    order = np.argsort(leaders, kind="stable")
    shared_heads, sizes = np.unique(leaders, return_counts=True)
    shares = np.zeros(n, np.bool_)
    shares[shared_heads] = True
    starts = np.concatenate((np.zeros(1, np.uint32), np.cumsum(sizes, dtype=np.uint32)))
    return {
        "shares": [bitmap_of(shares)],
        "shared_starts": [starts],
        "shared_entries": [followers[order]],
        "follower_entries": [followers],
        "follower_heads": [leaders],
    }


class Segment(Source):
    """An open segment."""

    def __init__(self, path: Path, shape: RecordShape) -> None:
        """Maps and checks the file.

        Raises:
            IndexDamagedError: It is missing, damaged, or was written for other sizes.
        """
        self._file = SectionFile(path)
        facts = self._file.facts
        sizes = (facts["groups"], facts["bits_per_group"], facts["code_bytes"])
        if sizes != (shape.groups, shape.bits_per_group, shape.code_bytes):
            raise IndexDamagedError(
                f"the segment {path} has groups, bits and code bytes {sizes}, the index "
                f"{(shape.groups, shape.bits_per_group, shape.code_bytes)}: it is from another index"
            )
        self._shape = ListShape(sizes[0], sizes[1], facts["directory_bits"], facts["number_bytes"])
        part = self._file
        self._places, self._versions, self._kinds = part["places"], part["versions"], part["kinds"]
        self._ids = IdColumn(part["id_offsets"], part["ids"])
        self._id_table = open_id_table(part["id_buckets"], part["id_tags"], part["id_entries"], self._ids)
        self._searchable, self._searchable_counts = part["searchable"], part["searchable_counts"]
        self._heads, self._heads_counts = part["heads"], part["heads_counts"]
        self._codes, self._terms = part["codes"], part["terms"]
        self._follower_entries, self._follower_heads = part["follower_entries"], part["follower_heads"]
        self.hidden = np.zeros(len(self._places), np.int64)
        self._lists = Lists(
            part["directory"], part["bases"], part["postings"],
            self._shape.rest_bits, self._shape.rest_bytes, self._shape.number_bytes,
        )  # fmt: skip
        self._sharing = Sharing(
            part["shares"].copy(), part["shares"], word_counts_of(part["shares"]),
            part["shared_starts"], part["shared_entries"], self.hidden,
        )  # fmt: skip
        self.hides: dict[int, int] = {}
        self.hide_order: list[int] = []
        self.forgets = tuple(self._forgets())
        """The deletes that forget an image and still have its id, with their places."""

    def _forgets(self) -> Iterator[tuple[ImageId, int]]:
        entries = np.flatnonzero(self._kinds == Kind.FORGOTTEN)
        for image_id, place in zip(self.ids_of(entries), self._places[entries].tolist(), strict=True):
            if not is_pseudonym(image_id):
                yield image_id, place

    @property
    def path(self) -> Path:
        """The segment's file."""
        return self._file.path

    @property
    def facts(self) -> Mapping[str, Any]:
        """The facts in the header."""
        return self._file.facts

    @property
    def section_bytes(self) -> Mapping[str, int]:
        """The size of each section."""
        return self._file.bytes

    @property
    def ids(self) -> IdColumn:
        """The ids of all entries."""
        return self._ids

    @property
    def id_table(self) -> IdTable:
        """The table that finds entries by id."""
        return self._id_table

    def __len__(self) -> int:
        """How many entries."""
        return len(self._places)

    @property
    def places(self) -> NDArray[np.int64]:
        """See `Source`."""
        return self._places

    @property
    def versions(self) -> NDArray[np.uint64]:
        """See `Source`."""
        return self._versions

    @property
    def kinds(self) -> NDArray[np.uint8]:
        """See `Source`."""
        return self._kinds

    def find_last(self, asked: Sequence[ImageId], column: IdColumn, bounds: Bounds) -> list[int]:
        """See `Source`."""
        found: list[int] = last_entries(self._id_table, self._ids, self._versions, column, bounds).tolist()
        return found

    def terms_of(self, entries: NDArray[np.int64]) -> NDArray[np.uint32]:
        """See `Source`."""
        rows = rank_of(self._heads, self._heads_counts, self._heads_of(entries))
        return unpack_rows(self._terms[rows], self._shape.groups, self._shape.bits)

    def codes_of(self, entries: NDArray[np.int64]) -> NDArray[np.uint8]:
        """See `Source`."""
        rows = entries
        if len(self._codes) != len(self._places):
            rows = rank_of(self._searchable, self._searchable_counts, entries)
        return take_rows(self._codes, rows)

    def code_column(self) -> CodeColumn:
        """See `Source`."""
        if len(self._codes) == len(self._places):
            return CodeColumn.of_all(self._codes)
        return CodeColumn(self._codes.reshape(-1), self._searchable, self._searchable_counts, False)

    def ids_of(self, entries: NDArray[np.int64]) -> list[ImageId]:
        """See `Source`."""
        return self._ids.many(entries)

    def search(self, batch: QueryBatch, scratch: Scratch) -> Hits:
        """See `Source`."""
        width = int(batch.wanted.max(initial=1))
        hits = Hits.empty(len(batch.terms), width)
        work = scratch.fit(len(self), width, self._shape.groups)
        try:
            scratch.base = search_segment(
                batch, self._bounds(batch.as_of), self._lists, self._sharing, work, scratch.base, hits
            )
        except BaseException:  # also an interrupt must not leave half-used counters to the next search
            scratch.reset()
            raise
        return hits

    def count(self, terms: NDArray[np.uint32], most: int, counts: NDArray[np.int64]) -> None:
        """Adds to `counts` (n, groups) how many postings each term has, exact up to `most`, else more than that."""
        count_postings(terms, self._lists, most, counts)

    def weigh(self, terms: NDArray[np.uint32], most: int, weights: NDArray[np.int64]) -> None:
        """See `Source`."""
        most = min(most + 1, self.facts["longest"])
        weigh_lists(terms, self._lists, self._sharing, most, np.empty(most + BLOCK, np.int32), weights)

    def oldest(self, batch: QueryBatch, remaining: NDArray[np.int64], scratch: Scratch) -> Hits:
        """See `Source`."""
        groups, wanted = len(remaining), int(batch.wanted[0])
        hits = Hits.empty(1, wanted)
        there = min(len(self), int(remaining.max()))
        if there < 0:
            return hits
        work = scratch.fit(len(self), wanted, groups)
        # Enough of these heads are visible, even if all hidden entries are among them.
        heads = min(self.facts["longest"], there + 1 + len(self.hides))
        room = Room(
            np.empty(heads + BLOCK, np.int32),
            np.empty(2 * there + 64, np.int64),
            np.empty(min(len(self), there * groups) + 1, np.int32),
            np.empty(_BUCKETS, np.int64),
            len(self.hides) == 0,
        )
        sight = Sight(int(self._bounds(batch.as_of)[0]), int(batch.as_of[0]), -1)
        best = Best(hits.entries[0], hits.overlaps[0], wanted)
        capped = np.minimum(remaining, there)
        spare = remaining - capped
        try:
            base = fresh_base(work.counts, scratch.base, groups)
            distinct, read = count_oldest(
                batch.terms[0], sight, self._lists, self._sharing, capped, room, work.counts, base
            )
            hits.sizes[0] = best_counted(
                room.met, distinct, work.counts, base, int(batch.excluded[0]), int(batch.least[0]), best, work.pool,
                work.levels,
            )  # fmt: skip
            scratch.base = base + groups
        except BaseException:  # also an interrupt must not leave half-used counters to the next search
            scratch.reset()
            raise
        hits.touched[0] = read
        remaining[:] = np.where(capped < 0, -1, capped + spare)
        return hits

    def hide(self, entry: int, hidden_from: int) -> bool:
        """See `Source`."""
        found = super().hide(entry, hidden_from)
        self._sharing.marks[entry >> 6] |= np.uint64(1 << (entry & 63))
        return found

    def columns(self) -> Columns:
        """All entries, as they were written."""
        entries = np.flatnonzero(self._kinds == Kind.SEARCHABLE)
        rows = self._terms
        if len(rows) != len(entries):
            rows = rows[rank_of(self._heads, self._heads_counts, self._heads_of(entries))]
        return Columns(self._places, self._versions, self._kinds, self._ids, rows, [self._codes])

    def _bounds(self, as_of: NDArray[np.int64]) -> NDArray[np.int64]:
        bounds = np.full(len(as_of), len(self), np.int64)
        inside = as_of <= self._places[-1]
        if inside.any():
            bounds[inside] = np.searchsorted(self._places, as_of[inside])
        return bounds

    def _heads_of(self, entries: NDArray[np.int64]) -> NDArray[np.int64]:
        if len(self._follower_entries) == 0:
            return entries
        rows = np.searchsorted(self._follower_entries, entries)
        rows[rows == len(self._follower_entries)] = 0
        follows = self._follower_entries[rows] == entries
        return np.where(follows, self._follower_heads[rows], entries).astype(np.int64)
