"""How many terms two images share, by the distance of their bits: whole distributions, for many distances at once.

The scalar curves of `search.hashing.terms` answer the same for one distance; a test holds the two together.
"""

from __future__ import annotations

from math import lgamma

import numpy as np
from numpy.typing import NDArray

__all__ = ["overlap_at_least", "overlap_distribution", "same_term_curve"]


def same_term_curve(bits: int, bits_per_group: int) -> NDArray[np.float64]:
    """The chance that one group of bits is the same in two codes, by their distance: (bits + 1,)."""
    distances = np.arange(bits + 1)
    curve = np.ones(bits + 1)
    for drawn in range(bits_per_group):  # the next position drawn must miss all that differ as well
        curve *= np.clip(bits - distances - drawn, 0, None) / (bits - drawn)
    return curve


def overlap_distribution(bits: int, groups: int, bits_per_group: int) -> NDArray[np.float64]:
    """The chance of each overlap, by distance: (bits + 1, groups + 1). Binomial, as groups are drawn independently."""
    shared = same_term_curve(bits, bits_per_group)[:, None]
    overlaps = np.arange(groups + 1)
    ways = np.array([lgamma(groups + 1) - lgamma(m + 1) - lgamma(groups - m + 1) for m in overlaps.tolist()])
    with np.errstate(divide="ignore", invalid="ignore"):
        powers = np.where(overlaps == 0, 0.0, overlaps * np.log(shared))
        rest = np.where(overlaps == groups, 0.0, (groups - overlaps) * np.log1p(-shared))
    chances: NDArray[np.float64] = np.exp(ways + powers + rest)
    return chances


def overlap_at_least(distribution: NDArray[np.float64]) -> NDArray[np.float64]:
    """From the chance of each overlap to that of at least so many: the same shape, cumulated from above."""
    cumulated: NDArray[np.float64] = np.cumsum(distribution[:, ::-1], axis=1)[:, ::-1]
    return cumulated
