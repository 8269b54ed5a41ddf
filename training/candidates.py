"""The candidates that a search returns, computed over arrays by brute force, for training.

Training and the choice of thresholds need the pairs that the classifier will score in service. So candidates are chosen
and ordered as the index does it (`search.ranking`): the images that share the most terms, then the nearest codes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from search.ranking import Order, Ranking, hamming, nearest_first

__all__ = ["RankedCandidates", "rank_candidates"]

_BLOCK = 256
"""Rows whose overlaps with all others are in memory at a time."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _compiled(function: _Function) -> _Function:
    try:
        return cast(_Function, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # there is no folder for the compiled code: compile at each start
        return cast(_Function, numba.njit(nogil=True)(function))


@dataclass(frozen=True, eq=False, slots=True)
class RankedCandidates:
    """The candidates of each image, best first, concatenated in `others`, `overlaps` and `distances`.

    Those of image n are at `starts[n]` to `starts[n + 1]`.
    """

    starts: NDArray[np.int64]
    others: NDArray[np.int64]
    overlaps: NDArray[np.int64]
    distances: NDArray[np.uint16] | None = None
    """Of the compared bits; None: the order is by overlap alone."""

    def of(self, image: int) -> slice:
        """The slice of the candidates of an image."""
        return slice(int(self.starts[image]), int(self.starts[image + 1]))

    @property
    def images(self) -> NDArray[np.int64]:
        """The image that each candidate belongs to."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def within(self, gate: int | None) -> RankedCandidates:
        """The candidates at a distance of at most `gate`; all of them without a gate, or without distances.

        In service the gate leaves out candidates of each page. The nearest come first, so these are the last ones.
        """
        if gate is None or self.distances is None:
            return self
        kept = self.distances <= gate
        starts = np.concatenate([[0], np.cumsum(kept)])[self.starts].astype(np.int64)
        return RankedCandidates(starts, self.others[kept], self.overlaps[kept], self.distances[kept])


def rank_candidates(
    terms: NDArray[np.uint32],
    bits: NDArray[np.uint8] | None,
    ranking: Ranking,
    limit: int | None = None,
    earlier_only: bool = False,
    told: Callable[[float], None] = lambda _share: None,
) -> RankedCandidates:
    """For each image its candidates among the others, in the order of a search; a lower row is older.

    Args:
        terms: (n, groups), as `search.hashing.terms` makes them.
        bits: (n, bytes), the bits of the score codes; None: as for queries without a code, the order is by overlap.
        ranking: How candidates are chosen and ordered.
        limit: The most candidates of one image, of all pages together; None: those of the first page.
        earlier_only: Only rows before an image's own are its candidates, as in a stream.
        told: Called with the share that is done.
    """
    images = len(terms)
    limit = ranking.candidates if limit is None else limit
    by_distance = bits is not None and ranking.order is Order.DISTANCE
    # Half the bytes are compared in half the time.
    narrow = int(terms.max(initial=0)) < 2**16
    packed: NDArray[Any] = np.ascontiguousarray(terms.astype(np.uint16) if narrow else terms)
    counts = [0]
    others, overlaps, distances = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.uint16)]
    for start in range(0, images, _BLOCK):
        stop = min(images, start + _BLOCK)
        shared = np.zeros((stop - start, images), dtype=np.int16)
        _count_shared(packed, start, stop, earlier_only, shared)
        for image, row in enumerate(shared, start):
            found = _most_shared(row, ranking.depth if by_distance else limit, ranking.min_overlap)
            if bits is not None and by_distance:
                away = _distances(bits, image, found, ranking)
                nearest = nearest_first(away, row[found])[:limit]
                found, away = found[nearest], away[nearest]
                distances.append(away)
            counts.append(len(found))
            others.append(found)
            overlaps.append(row[found].astype(np.int64))
        told(stop / images)
    return RankedCandidates(
        np.cumsum(counts, dtype=np.int64),
        np.concatenate(others),
        np.concatenate(overlaps),
        np.concatenate(distances) if by_distance else None,
    )


def _distances(bits: NDArray[np.uint8], image: int, others: NDArray[np.int64], ranking: Ranking) -> NDArray[np.uint16]:
    compared = ranking.for_codes(8 * bits.shape[1]).distance_bits
    return hamming(bits[others], bits[image].tobytes(), compared)


def _most_shared(shared: NDArray[np.int16], limit: int, min_overlap: int) -> NDArray[np.int64]:
    """The rows that share the most, in order."""
    rows = np.flatnonzero(shared >= min_overlap)
    # Keys are distinct: more shared terms give a smaller key, then a lower row.
    keys = np.int64(len(shared)) * -shared[rows].astype(np.int64) + rows
    if len(rows) > limit:
        nearest = np.argpartition(keys, limit - 1)[:limit]
        rows, keys = rows[nearest], keys[nearest]
    best: NDArray[np.int64] = rows[np.argsort(keys)]
    return best


@_compiled
def _count_shared(terms: NDArray[Any], start: int, stop: int, earlier_only: bool, shared: NDArray[np.int16]) -> None:
    """Counts the terms that rows `start` to `stop` share with all other rows, or with the rows before them."""
    for row in range(start, stop):
        for other in range(row if earlier_only else terms.shape[0]):
            count = 0
            for group in range(terms.shape[1]):
                count += terms[row, group] == terms[other, group]
            shared[row - start, other] = count
        if not earlier_only:
            shared[row - start, row] = 0
