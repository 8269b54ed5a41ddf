"""The entries of the index in memory: columns that grow by doubling, and the chains of postings through them.

An entry is a placed image version; entries are numbered in the order of their places. Of an entry that cannot be
searched the columns are kept too, but no chain leads to it.

One thread adds; any number search meanwhile. A search uses the columns as they were when it began: growth replaces
them by longer copies, and what is added or hidden later concerns later places alone.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from search.index.kernels import NEVER, link, search
from search.index.planning import RecordShape

__all__ = ["Hits", "Postings", "warm_up"]

_FIRST_CAPACITY = 1024
"""Entries for which there is room at first."""


@dataclass(frozen=True, slots=True, eq=False)
class _Columns:
    """One row per entry; rows behind the last entry hold nothing."""

    previous: NDArray[np.int32]
    terms: NDArray[np.uint32]
    images: NDArray[np.int32]
    places: NDArray[np.int64]
    hidden_from: NDArray[np.int64]
    codes: NDArray[np.uint8]

    def grown(self, capacity: int) -> _Columns:
        return _Columns(
            previous=_grown(self.previous, capacity),
            terms=_grown(self.terms, capacity),
            images=_grown(self.images, capacity),
            places=_grown(self.places, capacity),
            hidden_from=_grown(self.hidden_from, capacity),
            codes=_grown(self.codes, capacity),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """What a search for one entry found: columns of equal length, best first."""

    images: NDArray[np.int32]
    places: NDArray[np.int64]
    overlaps: NDArray[np.uint16]
    codes: NDArray[np.uint8]
    exhausted: bool
    postings: int


class _Scratch(threading.local):
    """Per thread: counters that are zero between searches, and room for the entries touched."""

    def __init__(self) -> None:
        self._counts = np.zeros(0, np.uint16)
        self._touched = np.empty(0, np.int32)

    def reset(self) -> None:
        """Forgets the counters: a search that broke off may have left them other than zero."""
        self._counts = np.zeros(0, np.uint16)

    def get(self, capacity: int) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
        if len(self._counts) < capacity:
            self._counts = np.zeros(capacity, np.uint16)
            self._touched = np.empty(capacity, np.int32)
        return self._counts, self._touched


class Postings:
    """Entries and their posting lists."""

    def __init__(self, shape: RecordShape, max_chains: int) -> None:
        """An empty set of postings of at most `max_chains` chains (but two per group)."""
        groups, bucket_bits = shape.groups, shape.bits_per_group
        while bucket_bits > 1 and groups << bucket_bits > max_chains:
            bucket_bits -= 1
        self._shared_chains = bucket_bits < shape.bits_per_group
        self._bucket_mask = 2**bucket_bits - 1
        self._heads = np.full((groups, 2**bucket_bits), -1, np.int32)
        self._size = 0
        self._columns = _Columns(
            previous=np.empty((_FIRST_CAPACITY, groups), np.int32),
            terms=np.zeros((_FIRST_CAPACITY, groups), np.uint32),
            images=np.empty(_FIRST_CAPACITY, np.int32),
            places=np.empty(_FIRST_CAPACITY, np.int64),
            hidden_from=np.empty(_FIRST_CAPACITY, np.int64),
            codes=np.empty((_FIRST_CAPACITY, shape.code_bytes), np.uint8),
        )
        self._scratch = _Scratch()

    def __len__(self) -> int:
        """How many entries there are."""
        return self._size

    def reserve(self, entries: int) -> None:
        """Makes room for so many more entries; adding them then needs no memory worth mentioning."""
        capacity = len(self._columns.places)
        while capacity < self._size + entries:
            capacity *= 2
        if capacity > len(self._columns.places):
            self._columns = self._columns.grown(capacity)

    def add(
        self,
        images: NDArray[np.int32],
        places: NDArray[np.int64],
        searchable: NDArray[np.bool_],
        terms: NDArray[np.uint32],
        codes: NDArray[np.uint8],
    ) -> None:
        """Appends entries whose places ascend and lie behind all others.

        Args:
            images: (n,) the number of each entry's image.
            places: (n,)
            searchable: (n,) which of them get terms and a code.
            terms: (searchable ones, groups)
            codes: (searchable ones, code bytes)
        """
        first, last = self._size, self._size + len(images)
        self.reserve(last - first)
        columns = self._columns
        rows = first + np.flatnonzero(searchable)
        columns.images[first:last] = images
        columns.places[first:last] = places
        columns.hidden_from[first:last] = np.where(searchable, NEVER, -1)
        columns.previous[first:last] = -1
        columns.codes[first:last] = 0
        columns.codes[rows] = codes
        columns.terms[rows] = terms
        # Chains lead from one searchable entry to the next; runs of them are linked at once.
        for run in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) != 1) + 1):
            if len(run):
                link(terms[run[0] : run[-1] + 1], int(rows[run[0]]), self._bucket_mask, self._heads, columns.previous)
        self._size = last

    def hide(self, entry: int, hidden_from: int) -> bool:
        """Hides an entry from all places after `hidden_from`; says whether it was in sight before."""
        column = self._columns.hidden_from
        was_visible = bool(column[entry] == NEVER)
        column[entry] = min(int(column[entry]), hidden_from)
        return was_visible

    def hidden_from(self, entry: int) -> int:
        """The last place that sees an entry; -1 when it was never searchable."""
        return int(self._columns.hidden_from[entry])

    def terms(self, entry: int) -> NDArray[np.uint32]:
        """The terms of a searchable entry: (groups,)"""
        terms: NDArray[np.uint32] = self._columns.terms[entry].copy()
        return terms

    def code(self, entry: int) -> bytes:
        """The score code of an entry."""
        return bytes(self._columns.codes[entry])

    def entry_at(self, place: int) -> int | None:
        """The entry with a place; None when there is none."""
        places = self._columns.places[: self._size]
        entry = int(np.searchsorted(places, place))
        return entry if entry < len(places) and int(places[entry]) == place else None

    def overlaps(
        self, terms: NDArray[np.uint32], as_of: int, least: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """By comparing with everything: the entries visible from a place that share enough terms, with overlaps."""
        columns, size = self._columns, self._size
        overlaps = (columns.terms[:size] == terms).sum(axis=1)
        visible = (columns.places[:size] < as_of) & (columns.hidden_from[:size] >= as_of)
        entries = np.flatnonzero(visible & (overlaps >= least))
        entries = entries[np.argsort(-overlaps[entries], kind="stable")]
        return entries, overlaps[entries]

    def hits(self, entries: NDArray[np.int64], overlaps: NDArray[np.int64], exhausted: bool) -> Hits:
        """These entries in columns."""
        columns = self._columns
        return Hits(
            images=columns.images[entries],
            places=columns.places[entries],
            overlaps=overlaps.astype(np.uint16),
            codes=columns.codes[entries],
            exhausted=exhausted,
            postings=self._size,
        )

    def search(self, entries: Sequence[int], afters: Sequence[int], limit: int, min_overlap: int) -> list[Hits]:
        """Searches for the terms of entries, each as of its place.

        Args:
            entries: Searchable ones.
            afters: Per entry, how many candidates to pass over.
            limit: k, how many to return.
            min_overlap: The fewest shared terms of a candidate, at least 1.
        """
        columns = self._columns
        n = len(entries)
        counts, touched = self._scratch.get(len(columns.places))
        found, overlaps = np.empty((n, limit), np.int32), np.empty((n, limit), np.uint16)
        sizes, totals, postings = (np.empty(n, np.int64) for _ in range(3))
        # No search passes over more than there is; the cap keeps sums within range.
        ahead = np.minimum(np.array(afters, dtype=np.int64), self._size)
        try:
            search(
                np.array(entries, dtype=np.int64),
                ahead,
                min_overlap,
                self._shared_chains,
                columns.previous,
                columns.terms,
                columns.images,
                columns.places,
                columns.hidden_from,
                counts,
                touched,
                found,
                overlaps,
                sizes,
                totals,
                postings,
            )
        except BaseException:
            self._scratch.reset()
            raise
        hits = []
        for row, size in enumerate(sizes.tolist()):
            rows = found[row, :size]
            hits.append(
                Hits(
                    images=columns.images[rows],
                    places=columns.places[rows],
                    overlaps=overlaps[row, :size],
                    codes=columns.codes[rows],
                    exhausted=bool(ahead[row] + size >= totals[row]),
                    postings=int(postings[row]),
                )
            )
        return hits


_Number = TypeVar("_Number", bound=np.generic)


def warm_up() -> None:
    """Compiles the kernels, or loads them, by searching a set of two entries."""
    postings = Postings(RecordShape(groups=1, bits_per_group=1, code_bytes=1), max_chains=2)
    terms, codes = np.zeros((2, 1), np.uint32), np.zeros((2, 1), np.uint8)
    postings.add(np.arange(2, dtype=np.int32), np.arange(2, dtype=np.int64), np.ones(2, np.bool_), terms, codes)
    postings.search([1], [0], limit=1, min_overlap=1)


def _grown(column: NDArray[_Number], capacity: int) -> NDArray[_Number]:
    if len(column) == 0:
        return column
    longer = np.empty((capacity, *column.shape[1:]), column.dtype)
    longer[: len(column)] = column
    return longer
