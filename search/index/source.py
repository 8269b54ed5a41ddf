"""The interface of the parts of an index, segments and tails, and the working memory of their searches."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.types import ImageId
from search.index.counting import BUFFER, TABLE
from search.index.id_table import Bounds, IdColumn
from search.index.nearest import CodeColumn
from search.index.segment_search import Hits, QueryBatch, Workspace

__all__ = ["Scratch", "Source"]


class Scratch(threading.local):
    """Working memory of one thread, for searches of any source."""

    def __init__(self) -> None:
        self.base = 0
        """The base of counting: every counter is at or below it."""
        self._work: Workspace | None = None

    def fit(self, entries: int, wanted: int, groups: int) -> Workspace:
        """Working memory for a source of `entries` and queries of `groups` terms for `wanted` entries."""
        if self._work is None:
            self._work = _workspace()
        work = self._work
        if len(work.counts) < entries:
            self.base = 0
            work = work._replace(counts=np.zeros(entries, np.uint16))
        if len(work.pool) < 2 * wanted + 64:
            work = work._replace(pool=np.empty(max(4 * wanted, 4096), np.int64))
        if len(work.levels) != groups + 1:
            ranges, edges, levels = (np.zeros(shape, np.int64) for shape in ((4, groups), groups + 1, groups + 1))
            work = work._replace(ranges=ranges, edges=edges, levels=levels)
        self._work = work
        return work

    def reset(self) -> None:
        """Drops everything: an interrupted search may have left wrong counters."""
        self.__init__()  # type: ignore[misc] # threading.local calls it again for each thread anyway


def _workspace() -> Workspace:
    return Workspace(
        table=np.zeros(TABLE, np.uint8),
        buffer=np.empty(BUFFER, np.int32),
        met=np.empty(BUFFER + 1, np.int32),
        order=np.empty(3 * BUFFER + 3, np.int32),
        counts=np.zeros(0, np.uint16),
        pool=np.empty(0, np.int64),
        ranges=np.empty((4, 0), np.int64),
        edges=np.empty(0, np.int64),
        levels=np.empty(0, np.int64),
    )


class Source(ABC):
    """A part of the index: entries that follow each other in age, by ascending place."""

    hidden: NDArray[np.int64]
    """(entries,) 0, or one more than the last place that sees the entry."""
    hides: dict[int, int]
    """The values of `hidden` by entry, without zeros."""
    hide_order: list[int]
    """The entries in the order in which they were hidden, so that a copy can catch up."""

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
    def find_last(self, asked: Sequence[ImageId], column: IdColumn, bounds: Bounds) -> list[int]:
        """The last entry of each image within the bounds, or -1; `column` holds the same ids."""

    @abstractmethod
    def terms_of(self, entries: NDArray[np.int64]) -> NDArray[np.uint32]:
        """(n, groups) of searchable entries."""

    @abstractmethod
    def codes_of(self, entries: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(n, code bytes) of searchable entries."""

    @abstractmethod
    def code_column(self) -> CodeColumn:
        """The codes of all entries that are there now."""

    @abstractmethod
    def ids_of(self, entries: NDArray[np.int64]) -> list[ImageId]:
        """The image ids of entries."""

    @abstractmethod
    def search(self, batch: QueryBatch, scratch: Scratch) -> Hits:
        """The best entries for each query."""

    @abstractmethod
    def weigh(self, terms: NDArray[np.uint32], most: int, weights: NDArray[np.int64]) -> None:
        """Adds to `weights` (n, groups) how many entries have each term; exact up to `most`, else more than that."""

    @abstractmethod
    def oldest(self, batch: QueryBatch, remaining: NDArray[np.int64], scratch: Scratch) -> Hits:
        """The best entries for a batch of one query, where each list counts only its oldest visible entries.

        Args:
            batch: The query.
            remaining: (groups,) in: how many entries of each group may count; out: how many still may, -1 if there
                were more.
            scratch: Working memory.
        """

    def hide(self, entry: int, hidden_from: int) -> bool:
        """Hides an entry from all places after `hidden_from`; says whether it was searchable and not hidden before."""
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
        """The last place that sees an entry; None: it is not hidden."""
        value = self.hides.get(entry)
        return None if value is None else value - 1
