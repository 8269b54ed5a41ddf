"""The candidates that a term search proposes, over arrays: the brute-force twin of the index, for training.

Training and thresholds must meet the pairs that the classifier will meet, so they take them from the same terms, in
the same order (most shared terms first, then the oldest), with the same limit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["RankedCandidates", "rank_candidates"]

_BLOCK = 256
"""Rows whose overlaps with all others are held at once."""


@dataclass(frozen=True, eq=False, slots=True)
class RankedCandidates:
    """Per image its candidates, best first, one after the other in `others` and `overlaps`.

    Those of image n lie at `starts[n]` to `starts[n + 1]`.
    """

    starts: NDArray[np.int64]
    others: NDArray[np.int64]
    overlaps: NDArray[np.int64]

    def of(self, image: int) -> slice:
        """Where the candidates of an image lie."""
        return slice(int(self.starts[image]), int(self.starts[image + 1]))

    @property
    def images(self) -> NDArray[np.int64]:
        """Per candidate, the image whose it is."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))


def rank_candidates(
    terms: NDArray[np.uint32], limit: int, min_overlap: int = 1, earlier_only: bool = False
) -> RankedCandidates:
    """The `limit` images that share the most terms with each image (ties: the lower row first), itself left out.

    Args:
        terms: (n, groups), as `search.terms` makes them.
        limit: The most candidates of one image.
        min_overlap: Images that share fewer terms are no candidates.
        earlier_only: Only rows before an image's own are its candidates, as in a stream.
    """
    rows = np.arange(len(terms))
    columns = np.ascontiguousarray(terms.T)
    counts, others, overlaps = [0], [], []
    for start in range(0, len(terms), _BLOCK):
        block = rows[start : start + _BLOCK]
        shared = _overlaps(columns, block)
        hidden = rows[None, :] >= block[:, None] if earlier_only else rows[None, :] == block[:, None]
        shared[hidden] = 0
        order = np.argsort(-shared, axis=1, kind="stable")[:, :limit]
        best = np.take_along_axis(shared, order, axis=1)
        taken = best >= max(1, min_overlap)
        counts.extend(taken.sum(axis=1).tolist())
        others.append(order[taken])
        overlaps.append(best[taken])
    return RankedCandidates(
        np.cumsum(counts, dtype=np.int64),
        np.concatenate(others) if others else np.empty(0, np.int64),
        (np.concatenate(overlaps) if overlaps else np.empty(0)).astype(np.int64),
    )


def _overlaps(columns: NDArray[np.uint32], block: NDArray[np.int64]) -> NDArray[np.int16]:
    shared = np.zeros((len(block), columns.shape[1]), dtype=np.int16)
    for column in columns:
        shared += column[block, None] == column[None, :]
    return shared
