"""The state of an index at one moment: its sources in order of age, searched as one.

A reference names an entry: the number of its source in the highest 32 bits, its entry number there in the lowest. So
references ascend with age, as places do. A reference is only valid for the state that gave it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from core.pseudonyms import Pseudonyms
from core.types import ImageId
from search.index.columns import Kind
from search.index.gathering import take_rows
from search.index.id_table import Bounds, IdColumn
from search.index.interface import NO_IMAGE
from search.index.nearest import measure
from search.index.placements import ANY_PLACE, ANY_VERSION, Placement
from search.index.segment import Segment
from search.index.segment_search import Hits, QueryBatch
from search.index.selection import fill_places, merge_ranks
from search.index.source import Scratch, Source
from search.index.tail import Tail

__all__ = ["Queries", "State"]

_Number = TypeVar("_Number", bound=np.generic)

_Part = tuple[Source, NDArray[np.int64], NDArray[np.int64] | None]
"""A source, some of its entries, and which of the references name them; None: all of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Queries:
    """Searches, row by row."""

    terms: NDArray[np.uint32]
    """(n, groups)"""
    as_of: NDArray[np.int64]
    """(n,)"""
    excluded: NDArray[np.int64]
    """(n,) a reference that must not be found, or -1."""
    least: NDArray[np.int64]
    """(n,) the lowest overlap wanted, at least 1."""
    wanted: NDArray[np.int64]
    """(n,) how many entries at most, at least 1."""

    def some(self, rows: NDArray[np.int64]) -> Queries:
        """The queries of some rows."""
        return Queries(self.terms[rows], self.as_of[rows], self.excluded[rows], self.least[rows], self.wanted[rows])


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Sealed segments, then tails; only the last tail grows."""

    segments: tuple[Segment, ...]
    tails: tuple[Tail, ...]
    pseudonyms: Pseudonyms | None = None
    """Of forgotten images; None: no entry has one."""
    sources: tuple[Source, ...] = field(init=False)
    """All segments and tails, in order of age."""
    longest: int = field(init=False)
    """The most entries that one term can have in all segments together."""
    unlisted: int = field(init=False)
    """Entries of the segments without postings of their own: followers."""

    def __post_init__(self) -> None:
        """Computes what every search needs."""
        facts = [one.facts for one in self.segments]
        unlisted = sum(one["searchable"] - one["term_sets"] for one in facts)
        longest = sum(one["longest"] for one in facts) + unlisted
        object.__setattr__(self, "sources", (*self.segments, *self.tails))
        object.__setattr__(self, "longest", longest)
        object.__setattr__(self, "unlisted", unlisted)

    @property
    def tail(self) -> Tail:
        """The tail that grows."""
        return self.tails[-1]

    def rank(self, queries: Queries, scratch: Scratch, max_postings: int) -> tuple[Hits, NDArray[np.bool_]]:
        """The best entries of all sources (`entries` are references), and (n,) which searches were truncated."""
        most = max_postings // queries.terms.shape[1]
        over = self.too_long(queries.terms, most)
        truncated = np.zeros(len(over), np.bool_)
        if not over.any():
            return self._rank_all(queries, lambda source, batch: source.search(batch, scratch)), truncated
        best = Hits.empty(len(over), int(queries.wanted.max(initial=1)))
        rows = np.flatnonzero(~over)
        _fill(best, rows, self._rank_all(queries.some(rows), lambda source, batch: source.search(batch, scratch)))
        for row in np.flatnonzero(over):
            rows = np.array([row])
            hits, truncated[row] = self._rank_oldest(queries.some(rows), most, scratch)
            _fill(best, rows, hits)
        return best, truncated

    def _rank_all(self, queries: Queries, search: Callable[[Source, QueryBatch], Hits]) -> Hits:
        best: Hits | None = None
        width = int(queries.wanted.max(initial=1))
        spare = np.empty(width, np.int64), np.empty(width, np.uint16)
        for number, source in enumerate(self.sources):
            if len(source.places) == 0:
                continue
            hits = search(source, self._batch(number, queries, best))
            references = hits.entries
            references |= number << 32
            if best is None:
                best = hits
                continue
            merge_ranks(
                best.entries, best.overlaps, best.sizes, references, hits.overlaps, hits.sizes, queries.wanted, *spare
            )
            best.touched[:] += hits.touched
        return Hits.empty(len(queries.terms), width) if best is None else best

    def too_long(self, terms: NDArray[np.uint32], most: int) -> NDArray[np.bool_]:
        """(n,) which queries (n, groups) may have a list of more than `most` entries."""
        unlisted = self.unlisted + sum(map(len, self.tails))
        if self.longest - self.unlisted + unlisted <= most:
            return np.zeros(len(terms), np.bool_)
        counts = np.zeros(terms.shape, np.int64)
        for segment in self.segments:
            segment.count(terms, most, counts)
        highest = counts.max(axis=1, initial=0)
        over: NDArray[np.bool_] = highest > most
        unsure = np.flatnonzero(~over & (highest + unlisted > most))
        if len(unsure):
            weights = np.zeros((len(unsure), terms.shape[1]), np.int64)
            for source in self.sources:
                source.weigh(terms[unsure], most, weights)
            over[unsure] = weights.max(axis=1, initial=0) > most
        return over

    def _rank_oldest(self, query: Queries, most: int, scratch: Scratch) -> tuple[Hits, bool]:
        """Answers one query from the oldest `most` entries of each of its lists; says whether there were more."""
        remaining = np.full(query.terms.shape[1], most, np.int64)
        hits = self._rank_all(query, lambda source, batch: source.oldest(batch, remaining, scratch))
        return hits, bool((remaining < 0).any())

    def place_of(self, place: int) -> tuple[int, int] | None:
        """The source and the entry at a place; None when there is none."""
        reference = int(self.find(np.array([place]))[0])
        return None if reference < 0 else (reference >> 32, reference & 0xFFFFFFFF)

    def find(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """References to the entries at some places; -1 where there is none."""
        found = np.full(len(places), -1, np.int64)
        for number, source in enumerate(self.sources):
            mine = source.places
            if len(mine) == 0:
                continue
            rows = np.flatnonzero((places >= mine[0]) & (places <= mine[-1]))
            entries = np.searchsorted(mine, places[rows])
            there = mine[entries] == places[rows]
            found[rows[there]] = entries[there] | (number << 32)
        return found

    def newest(self, image_ids: Sequence[ImageId]) -> list[Placement | None]:
        """The placement of the highest version of each image."""
        return self.last(image_ids, [ANY_PLACE] * len(image_ids))

    def last(
        self, image_ids: Sequence[ImageId], before: Sequence[int], versions: Sequence[int] | None = None
    ) -> list[Placement | None]:
        """The last placement of each image before a place, of at most a version (any, if none are given).

        Entries of a forgotten image have its pseudonym, and are older than those of a new life.
        """
        found = self._last(image_ids, before, versions)
        if self.pseudonyms is None:
            return found
        rows = [row for row, placement in enumerate(found) if placement is None and image_ids[row] != NO_IMAGE]
        names = [self.pseudonyms.of(image_ids[row]) for row in rows]
        most = None if versions is None else [versions[row] for row in rows]
        for row, placement in zip(rows, self._last(names, [before[row] for row in rows], most), strict=True):
            found[row] = placement
        return found

    def _last(
        self, image_ids: Sequence[ImageId], before: Sequence[int], versions: Sequence[int] | None = None
    ) -> list[Placement | None]:
        found: list[Placement | None] = [None] * len(image_ids)
        column, places = IdColumn.of(image_ids), np.array(before, np.int64)
        most = np.array([ANY_VERSION] * len(image_ids) if versions is None else versions, np.uint64)
        missing = len(found)
        # From the youngest source on: an older one holds no higher version.
        for number in range(len(self.sources) - 1, -1, -1):
            source = self.sources[number]
            if missing == 0:
                break
            if len(source.places) == 0:
                continue
            below = np.searchsorted(source.places, places)
            for row, entry in enumerate(source.find_last(image_ids, column, Bounds(below, most))):
                if entry >= 0 and found[row] is None:
                    found[row] = _placement(number, source, entry)
                    missing -= 1
        return found

    def last_of(self, image_id: ImageId, before: int, version: int) -> Placement | None:
        """See `search.index.placements.FindLast`."""
        return self.last([image_id], [before], [version])[0]

    def is_visible(self, placement: Placement, as_of: int) -> bool:
        """Whether a search as of a place after it can find a placement."""
        source = self.sources[placement.source]
        last = source.last_seen_by(placement.entry)
        return source.is_searchable(placement.entry) and (last is None or as_of <= last)

    def place_rows(self, references: NDArray[np.int64], sizes: NDArray[np.int64], k: int) -> NDArray[np.int64]:
        """The places (n, k) of rows of references, filled up to `sizes`; zeros after that."""
        places = np.zeros((len(references), k), np.int64)
        for number, source in enumerate(self.sources):
            if len(source.places):
                fill_places(references, sizes, number, source.places, places)
        return places

    def terms(self, references: NDArray[np.int64]) -> NDArray[np.uint32]:
        """The terms (n, groups) of some searchable entries."""
        return self._gathered(self._by_source(references), len(references), _terms_of)

    def codes(self, references: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The codes (n, code bytes) of some searchable entries."""
        return self._gathered(self._by_source(references), len(references), _codes_of)

    def ids(self, references: NDArray[np.int64]) -> list[ImageId]:
        """The image ids of some entries."""
        return _gathered_ids(self._by_source(references), len(references))

    def candidates(self, references: NDArray[np.int64]) -> tuple[list[ImageId], NDArray[np.int64], NDArray[np.uint8]]:
        """Ids, places (n,) and codes (n, code bytes) of some searchable entries."""
        parts, n = list(self._by_source(references)), len(references)
        return _gathered_ids(parts, n), self._gathered(parts, n, _places_of), self._gathered(parts, n, _codes_of)

    def distances(self, hits: Hits, codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint16]:
        """The distances (n, width) of rows of references from the codes (n, code bytes) of their searches."""
        distances = np.empty(hits.entries.shape, np.uint16)
        for number, source in enumerate(self.sources):
            if len(source.places):
                measure(hits.entries, hits.sizes, number, source.code_column(), codes, bits // 8, distances)
        return distances

    def _batch(self, number: int, queries: Queries, best: Hits | None) -> QueryBatch:
        """The queries for one source. If older sources gave enough entries, only higher overlaps are wanted."""
        least = queries.least
        full = np.zeros(0, np.bool_) if best is None else best.sizes >= queries.wanted
        if best is not None and full.any():
            last = best.overlaps[np.arange(len(full)), queries.wanted - 1].astype(np.int64)
            least = np.where(full, np.maximum(least, last + 1), least)
        excluded = np.where(queries.excluded >> 32 == number, queries.excluded & 0xFFFFFFFF, -1)
        return QueryBatch(queries.terms, queries.as_of, excluded, least, queries.wanted)

    def _gathered(
        self, parts: Iterable[_Part], n: int, column: Callable[[Source, NDArray[np.int64]], NDArray[_Number]]
    ) -> NDArray[_Number]:
        gathered: NDArray[_Number] | None = None
        for source, entries, rows in parts:
            taken = column(source, entries)
            if rows is None:
                return taken
            if gathered is None:
                gathered = np.empty((n, *taken.shape[1:]), taken.dtype)
            gathered[rows] = taken
        return column(self.tail, np.empty(0, np.int64)) if gathered is None else gathered

    def _by_source(self, references: NDArray[np.int64]) -> Iterator[_Part]:
        if len(references) == 0:
            return
        numbers, entries = references >> 32, references & 0xFFFFFFFF
        counts = np.bincount(numbers)
        if counts[-1] == len(numbers):
            yield self.sources[len(counts) - 1], entries, None
            return
        for number in np.flatnonzero(counts).tolist():
            rows = np.flatnonzero(numbers == number)
            yield self.sources[number], entries[rows], rows


def _fill(best: Hits, rows: NDArray[np.int64], hits: Hits) -> None:
    """Puts the hits of some queries into their rows."""
    width = hits.entries.shape[1]
    best.entries[rows, :width], best.overlaps[rows, :width] = hits.entries, hits.overlaps
    best.sizes[rows], best.touched[rows] = hits.sizes, hits.touched


def _places_of(source: Source, entries: NDArray[np.int64]) -> NDArray[np.int64]:
    return take_rows(source.places, entries)


def _terms_of(source: Source, entries: NDArray[np.int64]) -> NDArray[np.uint32]:
    return source.terms_of(entries)


def _codes_of(source: Source, entries: NDArray[np.int64]) -> NDArray[np.uint8]:
    return source.codes_of(entries)


def _gathered_ids(parts: Iterable[_Part], n: int) -> list[ImageId]:
    found = [NO_IMAGE] * n
    for source, entries, rows in parts:
        ids = source.ids_of(entries)
        if rows is None:
            return ids
        for row, image_id in zip(rows.tolist(), ids, strict=True):
            found[row] = image_id
    return found


def _placement(number: int, source: Source, entry: int) -> Placement:
    return Placement(
        place=int(source.places[entry]),
        version=int(source.versions[entry]),
        kind=Kind(int(source.kinds[entry])),
        source=number,
        entry=entry,
    )
