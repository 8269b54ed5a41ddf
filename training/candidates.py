"""The candidates that a term search returns, computed over arrays by brute force, for training.

Training and the choice of thresholds need the pairs that the classifier will score in service. So candidates come from
the same terms, in the same order (most shared terms first, then the oldest), with the same limit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

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
    """The candidates of each image, best first, concatenated in `others` and `overlaps`.

    Those of image n are at `starts[n]` to `starts[n + 1]`.
    """

    starts: NDArray[np.int64]
    others: NDArray[np.int64]
    overlaps: NDArray[np.int64]

    def of(self, image: int) -> slice:
        """The slice of the candidates of an image."""
        return slice(int(self.starts[image]), int(self.starts[image + 1]))

    @property
    def images(self) -> NDArray[np.int64]:
        """The image that each candidate belongs to."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))


def rank_candidates(
    terms: NDArray[np.uint32],
    limit: int,
    min_overlap: int = 1,
    earlier_only: bool = False,
    told: Callable[[float], None] = lambda _share: None,
) -> RankedCandidates:
    """For each image the `limit` other images that share the most terms with it (ties: the lower row first).

    Args:
        terms: (n, groups), as `search.hashing.terms` makes them.
        limit: Candidates of one image, at most.
        min_overlap: Images that share fewer terms are no candidates.
        earlier_only: Only rows before an image's own are its candidates, as in a stream.
        told: Called with the share that is done.
    """
    images = len(terms)
    # Half the bytes are compared in half the time.
    narrow = int(terms.max(initial=0)) < 2**16
    packed: NDArray[Any] = np.ascontiguousarray(terms.astype(np.uint16) if narrow else terms)
    counts, others, overlaps = [0], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for start in range(0, images, _BLOCK):
        stop = min(images, start + _BLOCK)
        shared = np.zeros((stop - start, images), dtype=np.int16)
        _count_shared(packed, start, stop, earlier_only, shared)
        for row in shared:
            found = _best(row, limit, max(1, min_overlap))
            counts.append(len(found))
            others.append(found)
            overlaps.append(row[found].astype(np.int64))
        told(stop / images)
    return RankedCandidates(np.cumsum(counts, dtype=np.int64), np.concatenate(others), np.concatenate(overlaps))


def _best(shared: NDArray[np.int16], limit: int, min_overlap: int) -> NDArray[np.int64]:
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
