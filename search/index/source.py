"""What the segments and the tail of an index have in common, and the batch of queries that both answer."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.index.counting import BUFFER, SMALL
from search.index.id_table import IdColumn
from search.types import ImageId

__all__ = ["Batch", "Hits", "Scratch", "Source"]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Queries, row by row, as one source sees them."""

    terms: NDArray[np.uint32]
    """(n, groups)"""
    as_of: NDArray[np.int64]
    """(n,) entries must lie before this place and be visible from it."""
    excluded: NDArray[np.int64]
    """(n,) an entry of this source that is not to be found, or -1."""
    least: NDArray[np.int64]
    """(n,) the lowest overlap wanted, at least 1."""
    wanted: NDArray[np.int64]
    """(n,) how many entries at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """What one source found: rows by overlap, then age, filled up to `sizes`."""

    entries: NDArray[np.int64]
    """(n, k)"""
    overlaps: NDArray[np.uint16]
    """(n, k)"""
    sizes: NDArray[np.int64]
    """(n,)"""
    touched: NDArray[np.int64]
    """(n,) postings that were read."""

    @staticmethod
    def empty(queries: int, k: int) -> Hits:
        """Nothing found yet."""
        return Hits(
            np.zeros((queries, k), np.int64),
            np.zeros((queries, k), np.uint16),
            np.zeros(queries, np.int64),
            np.zeros(queries, np.int64),
        )


class Scratch(threading.local):
    """Working memory of one thread, for searches of any source."""

    def __init__(self) -> None:
        self.small = np.zeros(SMALL, np.uint16)
        self.buffer = np.empty(BUFFER, np.int32)
        self.base = 0
        """Every counter is at or below it."""
        self.counts = np.zeros(0, np.uint16)
        self.met = np.empty(0, np.int32)
        self.order = np.empty(0, np.int32)
        self.singles = np.empty(0, np.int32)
        self.overlaps = np.empty(0, np.uint16)
        self.keys = np.empty(0, np.int64)

    def fit(self, entries: int, wanted: int) -> None:
        """Makes room for sources of so many entries and queries for so many of them."""
        if len(self.counts) < entries:
            self.base = 0
            self.counts = np.zeros(entries, np.uint16)
        room = max(entries, BUFFER) + 1
        if len(self.met) < room:
            self.met, self.order = np.empty(room, np.int32), np.empty(2 * room, np.int32)
            self.singles = np.empty(room, np.int32)
            self.overlaps = np.empty(room, np.uint16)
        if len(self.keys) < 2 * wanted + 64:
            self.keys = np.empty(max(4 * wanted, 4096), np.int64)

    def reset(self) -> None:
        """Forgets everything: a search that broke off may have left counters other than promised."""
        self.__init__()  # type: ignore[misc] # threading.local calls it again for each thread anyway


class Source(ABC):
    """Entries by ascending place: some of the index, next to each other in age."""

    hidden: NDArray[np.int64]
    """(entries,) 0, or one more than the last place that sees the entry."""
    hides: dict[int, int]
    """The same by entry, without the zeros."""
    hide_order: list[int]
    """The entries in the order in which they were hidden: so a copy can catch up."""

    @property
    @abstractmethod
    def places(self) -> NDArray[np.int64]:
        """(entries,) ascending."""

    @property
    @abstractmethod
    def versions(self) -> NDArray[np.uint64]:
        """(entries,)"""

    @property
    @abstractmethod
    def kinds(self) -> NDArray[np.uint8]:
        """(entries,) see `search.index.columns.Kind`."""

    @abstractmethod
    def find(self, asked: Sequence[ImageId], column: IdColumn) -> list[list[int]]:
        """For each image its entries, ascending; `column` holds the same ids."""

    @abstractmethod
    def terms_of(self, entries: NDArray[np.int64]) -> NDArray[np.uint32]:
        """(n, groups) of searchable entries."""

    @abstractmethod
    def codes_of(self, entries: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(n, code bytes) of searchable entries."""

    @abstractmethod
    def ids_of(self, entries: NDArray[np.int64]) -> list[ImageId]:
        """The image ids of entries."""

    @abstractmethod
    def search(self, batch: Batch, scratch: Scratch) -> Hits:
        """The best entries for each query."""

    @abstractmethod
    def weigh(self, terms: NDArray[np.uint32], most: int, weights: NDArray[np.int64]) -> None:
        """Adds to `weights` (n, groups) how many entries have each term, at least where these are at most `most`."""

    @abstractmethod
    def oldest(self, terms: NDArray[np.uint32], as_of: int, remaining: NDArray[np.int64]) -> NDArray[np.int64]:
        """The oldest entries visible from a place that have each term of one query, group by group.

        Args:
            terms: (groups,)
            as_of: The place.
            remaining: (groups,) how many of each group at most; less what was found; -1 where there was more.
        """

    def hide(self, entry: int, hidden_from: int) -> bool:
        """Hides an entry from all places after `hidden_from`; says whether a searchable one was in sight before."""
        value = hidden_from + 1
        before = self.hides.get(entry, 0)
        if before == 0 or value < before:
            self.hides[entry] = value
            self.hidden[entry] = value
            self.hide_order.append(entry)
        return before == 0 and self.is_searchable(entry)

    def is_searchable(self, entry: int) -> bool:
        """Whether an entry has terms and a code."""
        return bool(self.kinds[entry] == 1)

    def last_seen_by(self, entry: int) -> int | None:
        """The last place that sees an entry; None: all later ones do."""
        value = self.hides.get(entry)
        return None if value is None else value - 1
