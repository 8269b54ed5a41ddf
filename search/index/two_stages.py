"""Searches in two stages, page by page (`search.ranking`): the most shared terms, of these the nearest codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.index.interface import SearchResult
from search.index.nearest import keep_nearest
from search.index.segment_search import Hits
from search.index.settings import IndexSettings
from search.index.source import Scratch
from search.index.state import Queries, State
from search.ranking import Order

__all__ = ["Asked", "Ordered", "TwoStages"]


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """Searches, row by row, each for one page of its candidates."""

    terms: NDArray[np.uint32]
    """(n, groups)"""
    codes: NDArray[np.uint8] | None
    """(n, code bytes); None: candidates are ordered by overlap."""
    as_of: NDArray[np.int64]
    """(n,)"""
    excluded: NDArray[np.int64]
    """(n,) a reference that must not be found, or -1."""
    least: NDArray[np.int64]
    """(n,) the lowest overlap wanted, at least 1."""
    after: NDArray[np.int64]
    """(n,) how many candidates come before the page."""
    k: NDArray[np.int64]
    """(n,) how many candidates it has at most."""

    def some(self, rows: NDArray[np.int64], with_codes: bool) -> Asked:
        """The searches of some rows, with their codes or without."""
        codes = self.codes[rows] if with_codes and self.codes is not None else None
        columns = (self.as_of, self.excluded, self.least, self.after, self.k)
        return Asked(self.terms[rows], codes, *(column[rows] for column in columns))


@dataclass(frozen=True, slots=True, eq=False)
class Ordered:
    """The candidates of searches, up to the ends of their pages."""

    hits: Hits
    """In order: each row up to the end of its page; `sizes` counts those behind it too, as far as they were looked
    for."""
    distances: NDArray[np.uint16] | None
    """(n, width); None: the order is by overlap."""
    truncated: NDArray[np.bool_]
    """(n,)"""


class TwoStages:
    """Searches with the settings of an index, and counts the searches. For any number of threads."""

    def __init__(self, settings: IndexSettings) -> None:
        """Takes the settings."""
        self._ranking = settings.ranking
        self._bits = settings.distance_bits
        self._max_postings = settings.max_postings
        self._scratch = Scratch()
        self.queries = 0
        """Searches so far; approximate, as threads may lose counts."""
        self.postings = 0
        """Postings that these searches touched; approximate as well."""

    def ordered(self, state: State, asked: Asked) -> Ordered:
        """Searches; there may be no searches."""
        ends = asked.after + asked.k
        codes = asked.codes if self._ranking.order is Order.DISTANCE else None
        # Without distances, one more than is returned shows whether any follow. Never more than there are entries.
        wanted = ends + 1 if codes is None else np.full(len(ends), self._ranking.depth)
        there = sum(len(source.places) for source in state.sources) + 1
        queries = Queries(asked.terms, asked.as_of, asked.excluded, asked.least, np.clip(wanted, 1, there))
        hits, truncated = state.rank(queries, self._scratch, self._max_postings)
        self.queries += len(ends)
        self.postings += int(hits.touched.sum())
        distances = None if codes is None else self._nearest(state, hits, codes, ends)
        return Ordered(hits, distances, truncated)

    def pages(self, state: State, asked: Asked) -> list[SearchResult]:
        """The page of each search, with ids, places and codes."""
        if len(asked.after) == 0:
            return []
        ordered = self.ordered(state, asked)
        hits, sizes = ordered.hits, ordered.hits.sizes
        ends = np.minimum(asked.after + asked.k, sizes)
        starts = np.minimum(asked.after, ends)
        spans = list(zip(starts.tolist(), ends.tolist(), strict=True))
        references = np.concatenate([hits.entries[row, start:end] for row, (start, end) in enumerate(spans)])
        ids, places, codes = state.candidates(references)
        exhausted, truncated = (sizes <= asked.after + asked.k).tolist(), ordered.truncated.tolist()
        found, at = [], 0
        for row, (start, end) in enumerate(spans):
            last = at + end - start
            found.append(
                SearchResult(
                    image_ids=tuple(ids[at:last]),
                    overlaps=hits.overlaps[row, start:end],
                    places=places[at:last],
                    codes=codes[at:last],
                    distances=None if ordered.distances is None else ordered.distances[row, start:end],
                    exhausted=exhausted[row],
                    postings=int(hits.touched[row]),
                    truncated=truncated[row],
                )
            )
            at = last
        return found

    def _nearest(
        self, state: State, hits: Hits, codes: NDArray[np.uint8], ends: NDArray[np.int64]
    ) -> NDArray[np.uint16]:
        """Puts the nearest of each row first; returns the distances (n, width)."""
        distances = state.distances(hits, codes, self._bits)
        width = distances.shape[1]
        keys, spare = np.empty(width, np.int64), np.empty(width, np.int64)
        keep_nearest(hits.entries, hits.overlaps, distances, hits.sizes, ends, keys, spare)
        return distances
