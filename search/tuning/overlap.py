"""The distribution of the overlap of two images by the distance of their bits, for all distances at once.

The curves of `search.hashing.terms` give the same for one distance; a test compares both.
"""

from __future__ import annotations

from math import lgamma

import numpy as np
from numpy.typing import NDArray

__all__ = ["overlap_at_least", "overlap_distribution", "same_term_curve"]


def same_term_curve(bits: int, bits_per_group: int) -> NDArray[np.float64]:
    """The probability that two codes agree in one group of bits, by their distance: (bits + 1,)."""
    distances = np.arange(bits + 1)
    curve = np.ones(bits + 1)
    for drawn in range(bits_per_group):  # the next position must also be one where the codes agree
        curve *= np.clip(bits - distances - drawn, 0, None) / (bits - drawn)
    return curve


def overlap_distribution(bits: int, groups: int, bits_per_group: int) -> NDArray[np.float64]:
    """The probability of each overlap by distance: (bits + 1, groups + 1). It is binomial, as groups are
    independent."""
    shared = same_term_curve(bits, bits_per_group)[:, None]
    overlaps = np.arange(groups + 1)
    ways = np.array([lgamma(groups + 1) - lgamma(m + 1) - lgamma(groups - m + 1) for m in overlaps.tolist()])
    with np.errstate(divide="ignore", invalid="ignore"):
        powers = np.where(overlaps == 0, 0.0, overlaps * np.log(shared))
        rest = np.where(overlaps == groups, 0.0, (groups - overlaps) * np.log1p(-shared))
    chances: NDArray[np.float64] = np.exp(ways + powers + rest)
    return chances


def overlap_at_least(distribution: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probability of each overlap or a higher one, from `overlap_distribution`; the same shape."""
    cumulated: NDArray[np.float64] = np.cumsum(distribution[:, ::-1], axis=1)[:, ::-1]
    return cumulated
