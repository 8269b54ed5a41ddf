"""What the index consists of at one moment, and how it is searched: its parts in order of age, seen as one.

A reference names an entry: the number of its part in the highest 32 bits, the entry's number there in the lowest. So
references, like places, ascend with age. A reference is good for the state that it was taken from alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.index.columns import Kind
from search.index.id_table import IdColumn
from search.index.placements import Placement
from search.index.segment import Segment
from search.index.selection import merge_ranks
from search.index.source import Batch, Hits, Scratch, Source
from search.index.tail import Tail
from search.types import ImageId

__all__ = ["Queries", "State"]


@dataclass(frozen=True, slots=True, eq=False)
class Queries:
    """Searches, row by row."""

    terms: NDArray[np.uint32]
    """(n, groups)"""
    as_of: NDArray[np.int64]
    """(n,)"""
    excluded: NDArray[np.int64]
    """(n,) a reference that is not to be found, or -1."""
    least: NDArray[np.int64]
    """(n,) the lowest overlap wanted, at least 1."""
    wanted: NDArray[np.int64]
    """(n,) how many entries at most, at least 1."""


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Sealed segments, then tails; the last tail is the one that grows."""

    segments: tuple[Segment, ...]
    tails: tuple[Tail, ...]

    @property
    def sources(self) -> tuple[Source, ...]:
        """All parts, in order of age."""
        return (*self.segments, *self.tails)

    @property
    def tail(self) -> Tail:
        """The one that grows."""
        return self.tails[-1]

    def rank(self, queries: Queries, scratch: Scratch) -> Hits:
        """The best entries of all parts; `entries` are references."""
        width = int(queries.wanted.max(initial=1))
        best = Hits.empty(len(queries.terms), width)
        spare = np.empty(width, np.int64), np.empty(width, np.uint16)
        for number, source in enumerate(self.sources):
            if len(source.places) == 0:
                continue
            hits = source.search(self._batch(number, queries, best), scratch)
            references = hits.entries | (number << 32)
            merge_ranks(
                best.entries, best.overlaps, best.sizes, references, hits.overlaps, hits.sizes, queries.wanted, *spare
            )
            best.touched[:] += hits.touched
        return best

    def place_of(self, place: int) -> tuple[int, int] | None:
        """The part and the entry with a place; None when there is none."""
        for number, source in enumerate(self.sources):
            places = source.places
            if len(places) and places[0] <= place <= places[-1]:
                entry = int(np.searchsorted(places, place))
                return (number, entry) if int(places[entry]) == place else None
        return None

    def placements(self, image_ids: Sequence[ImageId]) -> list[list[Placement]]:
        """For each image its placements, in order."""
        column = IdColumn.of(image_ids)
        placements: list[list[Placement]] = [[] for _ in image_ids]
        for number, source in enumerate(self.sources):
            for row, entries in enumerate(source.find(image_ids, column)):
                placements[row] += [_placement(number, source, entry) for entry in entries]
        return placements

    def places(self, references: NDArray[np.int64]) -> NDArray[np.int64]:
        """The places of some entries."""
        return self._gather(references, lambda source, entries: source.places[entries], np.empty(0, np.int64))

    def terms(self, references: NDArray[np.int64]) -> NDArray[np.uint32]:
        """The terms (n, groups) of some searchable entries."""
        none = self.tail.terms_of(np.empty(0, np.int64))
        return self._gather(references, lambda source, entries: source.terms_of(entries), none)

    def codes(self, references: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The codes (n, code bytes) of some searchable entries."""
        none = self.tail.codes_of(np.empty(0, np.int64))
        return self._gather(references, lambda source, entries: source.codes_of(entries), none)

    def ids(self, references: NDArray[np.int64]) -> list[ImageId]:
        """The image ids of some entries."""
        numbers = references >> 32
        edges = np.flatnonzero(np.diff(numbers)) + 1
        found: list[ImageId] = []
        for first, last in pairwise([0, *edges.tolist(), len(references)]):
            if last > first:
                found += self.sources[int(numbers[first])].ids_of(references[first:last] & 0xFFFFFFFF)
        return found

    def _batch(self, number: int, queries: Queries, best: Hits) -> Batch:
        """The queries for one part. Where enough was found in older ones, only higher overlaps are of use."""
        least = queries.least
        full = best.sizes >= queries.wanted
        if full.any():
            last = best.overlaps[np.arange(len(full)), queries.wanted - 1].astype(np.int64)
            least = np.where(full, np.maximum(least, last + 1), least)
        excluded = np.where(queries.excluded >> 32 == number, queries.excluded & 0xFFFFFFFF, -1)
        return Batch(queries.terms, queries.as_of, excluded, least, queries.wanted)

    def _gather(
        self,
        references: NDArray[np.int64],
        column: Callable[[Source, NDArray[np.int64]], NDArray[Any]],
        none: NDArray[Any],
    ) -> NDArray[Any]:
        numbers = references >> 32
        present = np.unique(numbers).tolist()
        if not present:
            return none
        if len(present) == 1:
            return column(self.sources[present[0]], references & 0xFFFFFFFF)
        gathered: NDArray[Any] = np.empty((len(references), *none.shape[1:]), none.dtype)
        for number in present:
            rows = np.flatnonzero(numbers == number)
            gathered[rows] = column(self.sources[number], references[rows] & 0xFFFFFFFF)
        return gathered


def _placement(number: int, source: Source, entry: int) -> Placement:
    return Placement(
        place=int(source.places[entry]),
        version=int(source.versions[entry]),
        kind=Kind(int(source.kinds[entry])),
        source=number,
        entry=entry,
    )
