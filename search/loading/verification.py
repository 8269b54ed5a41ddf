"""Is an index that was built what its rows say? Asked of the finished folder, before it may serve.

    checksums   each section of each file is read, and compared with its checksum
    counts      there is an entry at each place, from 0 on
    searches    some images are searched for as of several places; each answer must be that of comparing with every
                entry that is visible then

The comparing takes the terms and codes of the segments, in one pass for all searches, and no posting list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from search.index.engine import SegmentedIndex
from search.index.errors import IndexDamagedError
from search.index.interface import SearchResult, TermQuery
from search.index.overlaps import count_shared
from search.index.segment import Segment
from search.index.settings import IndexSettings
from search.ranking import Order, hamming, nearest_first

__all__ = ["SAMPLES", "verify"]

SAMPLES = 100
"""Images that are searched for, each as of three places."""

_AT_ONCE = 16_384
"""Entries that are compared at once: some 15 MB."""

_ANY_POSTINGS = 2**48
"""No search is cut off."""


def verify(folder: Path, settings: IndexSettings, rows: int, samples: int = SAMPLES, seed: int = 0) -> int:
    """Verifies an index of the places 0 to `rows` - 1.

    Args:
        folder: The finished index, which nobody has open.
        settings: Its settings.
        rows: How many entries it must have.
        samples: How many images are searched for.
        seed: Chooses them.

    Returns:
        How many images can be found.

    Raises:
        IndexDamagedError: It is damaged, or a count or a search is wrong.
    """
    told = replace(settings, max_postings=_ANY_POSTINGS, background_process=False)
    index = SegmentedIndex(folder, told, background=False)
    try:
        _check_places(index, rows)
        asked = _chosen(index, told, samples, np.random.default_rng(seed))
        queries = [TermQuery(one.terms, settings.ranking.candidates, as_of=one.as_of, code=one.code) for one in asked]
        found = index.search(queries)
        for segment in index.segments:
            for first in range(0, len(segment), _AT_ONCE):
                _compare(segment, np.arange(first, min(len(segment), first + _AT_ONCE)), asked)
        for one, result in zip(asked, found, strict=True):
            one.check(result, index.segments, told)
        return index.images
    finally:
        index.close()


@dataclass(slots=True, eq=False)
class _Asked:
    """One search, and the entries that it should rank: those that share the most terms so far, ties by age."""

    place: int
    """Of the image that is searched for."""
    as_of: int
    terms: NDArray[np.uint32]
    code: bytes
    least: int
    """The lowest overlap that still counts."""
    wanted: int
    """How many entries it ranks."""
    overlaps: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    places: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def take(self, overlaps: NDArray[np.int64], places: NDArray[np.int64]) -> None:
        """Adds entries that are younger than those before."""
        self.overlaps, self.places = np.concatenate((self.overlaps, overlaps)), np.concatenate((self.places, places))
        if len(self.places) >= self.wanted:
            self._trim()

    def _trim(self) -> None:
        best = np.lexsort((self.places, -self.overlaps))[: self.wanted]
        self.overlaps, self.places = self.overlaps[best], self.places[best]
        if len(best) == self.wanted:
            self.least = int(self.overlaps[-1]) + 1  # an entry that comes later is younger

    def check(self, found: SearchResult, segments: Sequence[Segment], settings: IndexSettings) -> None:
        """Compares what the index found with what it should find."""
        self._trim()
        order, distances = np.arange(len(self.places)), None
        if settings.ranking.order is Order.DISTANCE:
            distances = hamming(_codes_at(segments, self.places), self.code, settings.distance_bits)
            order = nearest_first(distances, self.overlaps)
        page = order[: settings.ranking.candidates]
        same = np.array_equal(found.places, self.places[page]) and np.array_equal(found.overlaps, self.overlaps[page])
        if same and distances is not None:
            same = found.distances is not None and np.array_equal(found.distances, distances[page])
        if not same:
            raise IndexDamagedError(
                f"the search for the image at place {self.place} as of place {self.as_of} finds the places "
                f"{found.places[:10].tolist()}, comparing with each image finds {self.places[page][:10].tolist()}"
            )


def _check_places(index: SegmentedIndex, rows: int) -> None:
    at = 0
    for segment in index.segments:
        if not np.array_equal(segment.places, np.arange(at, at + len(segment))):
            raise IndexDamagedError(f"the segment {segment.path} has not the places from {at} on, one after the other")
        at += len(segment)
    if (at, index.position.offset) != (rows, rows - 1):
        raise IndexDamagedError(
            f"the index {index.folder} has {at} entries and the position {index.position.offset}, "
            f"of {rows} rows it should have {rows} and {rows - 1}"
        )


def _chosen(index: SegmentedIndex, settings: IndexSettings, samples: int, random: np.random.Generator) -> list[_Asked]:
    """Searches for some images: as of their own places, of a later one, and of the end."""
    ranking, end = settings.ranking, index.position.offset + 1
    wanted = ranking.depth if ranking.order is Order.DISTANCE else ranking.candidates
    chosen = np.sort(random.choice(end, min(end, samples), replace=False))
    asked: list[_Asked] = []
    for segment in index.segments:
        mine = _inside(segment, chosen)
        entries = mine - int(segment.places[0])
        for place, terms, code in zip(mine.tolist(), segment.terms_of(entries), segment.codes_of(entries), strict=True):
            for as_of in sorted({place, int(random.integers(place, end)), end}):
                asked.append(_Asked(place, as_of, terms, code.tobytes(), ranking.min_overlap, wanted))
    return asked


def _compare(segment: Segment, entries: NDArray[np.int64], asked: Sequence[_Asked]) -> None:
    """Gives the entries to the searches that should find them."""
    places, hidden = segment.places[entries], segment.hidden[entries]
    images = [list(searches) for _, searches in groupby(asked, lambda one: one.place)]
    shared = np.empty((len(images), len(entries)), np.uint16)
    count_shared(np.stack([searches[0].terms for searches in images]), segment.terms_of(entries), shared)
    for searches, overlaps in zip(images, shared, strict=True):
        for one in searches:
            end = int(np.searchsorted(places, one.as_of))
            found = np.flatnonzero(overlaps[:end] >= one.least)
            found = found[(hidden[found] == 0) | (one.as_of < hidden[found])]
            if len(found):
                one.take(overlaps[found].astype(np.int64), places[found])


def _codes_at(segments: Sequence[Segment], places: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(n, code bytes) of some places."""
    codes = np.empty((len(places), segments[0].codes_of(np.zeros(1, np.int64)).shape[1]), np.uint8)
    for segment in segments:
        rows = np.flatnonzero((places >= segment.places[0]) & (places <= segment.places[-1]))
        codes[rows] = segment.codes_of(places[rows] - int(segment.places[0]))
    return codes


def _inside(segment: Segment, places: NDArray[np.int64]) -> NDArray[np.int64]:
    inside: NDArray[np.int64] = places[(places >= segment.places[0]) & (places <= segment.places[-1])]
    return inside
