"""Predicts recall and work of term settings and a ranking on a corpus of some size, from the distances of a sample.

Recall is the share of pairs of copies for which a search for one returns the other. The other must share at least
`min_overlap` terms. With the order by shared terms, fewer than k images may rank before it: strangers and other copies
of a higher overlap, or of the same overlap and older. With the order by distance two things must hold:

1. Fewer than `depth` images rank before it by shared terms.
2. Of the images that pass the same test, fewer than k have a nearer code.

The age of the copy among images of one overlap is random. For one query, overlap and age, the number of these rivals is
taken as Poisson, and likewise the number of nearer ones. Their means come from the query's own distances to the sample,
so dense regions count. A nearer stranger counts by the probability that its shared terms bring it among the first
`depth`, which follows from its distance in term bits.

All probabilities are over the draw of the groups, as for the curves of `search.hashing.terms`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import pi, sqrt

import numpy as np
from numpy.typing import NDArray

from search.ranking import Order, Ranking
from search.tuning.drift import ChosenDensity
from search.tuning.overlap import overlap_at_least, overlap_distribution, same_term_curve
from search.tuning.sample import SampleDistances

__all__ = ["Prediction", "TermChoice", "few_enough", "predict"]


_AGES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""The share of the images of equal overlap that are older than the copy: five values that represent all ages."""


@dataclass(frozen=True, slots=True)
class TermChoice:
    """The settings that are chosen; all others stay as they are."""

    groups: int
    bits_per_group: int
    ranking: Ranking

    @property
    def key(self) -> tuple[int, int, int, int, int]:
        """Orders choices that are equal otherwise: the smaller settings come first."""
        ranking = self.ranking
        return self.groups, self.bits_per_group, ranking.depth, ranking.candidates, ranking.min_overlap


@dataclass(frozen=True, slots=True)
class Prediction:
    """The recall and work of a choice on a corpus."""

    choice: TermChoice
    images: int
    """The size of the corpus."""
    recall: float
    """The share of pairs of copies that are found."""
    unrelated_postings: float
    """Postings that a search touches for each image of the corpus."""
    copy_postings: float
    """Further postings that a search touches: those of the image's copies, and its own."""
    compared: float
    """The mean number of codes that a search compares by distance."""
    found: float
    """The mean number of candidates of a search; each is a pair for the classifier."""

    @property
    def postings(self) -> float:
        """Postings that a search touches."""
        return self.density.postings(self.images)

    @property
    def density(self) -> ChosenDensity:
        """The density to compare a live index with."""
        return ChosenDensity(self.images, self.unrelated_postings, self.copy_postings)


def predict(
    sample: SampleDistances, images: int, groups: int, bits_per_group: int, rankings: Sequence[Ranking]
) -> list[Prediction]:
    """Predicts one grouping of the bits with each ranking.

    It takes least time if rankings that differ in `candidates` alone follow one another.
    """
    overlaps = _Overlaps(sample, images, groups, bits_per_group)
    shared = groups * same_term_curve(sample.bits, bits_per_group)
    unrelated = float(sample.typical_strangers @ shared)
    copies = float(sample.typical_copies @ shared) + groups  # a search touches the image's own postings too
    predictions = []
    for (order, depth, least), same in groupby(rankings, lambda one: (one.order, one.depth, one.min_overlap)):
        reaching = overlaps.reaching[:, least]
        by_distance = order is Order.DISTANCE
        compared = float(np.minimum(reaching, depth).mean()) if by_distance else 0.0
        of_these = list(same)
        ks = [one.candidates for one in of_these]
        recalls = overlaps.nearest(depth, least, ks) if by_distance else overlaps.first(least, ks)
        for ranking, recall in zip(of_these, recalls, strict=True):
            found = float(np.minimum(reaching, ranking.candidates).mean())
            choice = TermChoice(groups, bits_per_group, ranking)
            predictions.append(Prediction(choice, images, recall, unrelated, copies, compared, found))
    return predictions


def few_enough(mean: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """The probability that a Poisson variable of this mean is below k.

    It equals the probability that a chi-squared variable with 2k degrees of freedom exceeds twice the mean. That is
    taken from the cube-root approximation of Wilson and Hilferty (1931), within 0.01 at k = 1 and closer above.
    """
    spread = 1 / (9 * k)
    z = (np.cbrt(mean / k) - (1 - spread)) / sqrt(spread)
    # The tanh approximation of the normal distribution, within 0.0004.
    chance: NDArray[np.float64] = 0.5 * (1 - np.tanh(sqrt(2 / pi) * (z + 0.044715 * z**3)))
    return chance


class _Overlaps:
    """The distribution of overlaps with one grouping of the bits, and the recall that follows."""

    def __init__(self, sample: SampleDistances, images: int, groups: int, bits_per_group: int) -> None:
        self._chances = overlap_distribution(sample.bits, groups, bits_per_group)
        self._asked = sample.asked
        self._of_pair = self._chances[sample.asked.distance]
        self._nearer = images * sample.asked.nearer_strangers + sample.asked.nearer_copies
        others = images * sample.strangers + sample.copies
        self.reaching = _times(others, overlap_at_least(self._chances))
        """(queries, groups + 1) the expected number of images that reach an overlap with a query."""

    def first(self, least: int, ks: Iterable[int]) -> list[float]:
        """The share of copies that share enough terms and are among the first k by shared terms, for each k."""
        return [float(self._among(self._in_time(k), least).mean()) for k in ks]

    def nearest(self, depth: int, least: int, ks: Iterable[int]) -> list[float]:
        """The share of copies that are among the k nearest of the first `depth`, for each k."""
        in_time = self._in_time(depth)
        compared = self._among(in_time, least)
        # (bits + 1, queries) the probability that an image at a distance is among the first `depth`
        by_distance = (self._chances[:, least:] @ in_time[:, least:].T).astype(np.float32)
        nearer = np.einsum("pd,dp->p", self._nearer, by_distance[:, self._asked.query]).astype(np.float64)
        return [float((compared * few_enough(nearer, k)).mean()) for k in ks]

    def _in_time(self, most: int) -> NDArray[np.float64]:
        """(queries, groups + 1) the probability that fewer than `most` images rank before one of a given overlap."""
        above = np.hstack([self.reaching[:, 1:], np.zeros((len(self.reaching), 1))])
        equal = self.reaching - above
        return sum((few_enough(above + age * equal, most) for age in _AGES), np.zeros_like(above)) / len(_AGES)

    def _among(self, in_time: NDArray[np.float64], least: int) -> NDArray[np.float64]:
        """(pairs,) the probability that the copy shares enough terms and fewer images than wanted rank before it."""
        among: NDArray[np.float64] = (self._of_pair * in_time[self._asked.query])[:, least:].sum(axis=1)
        return among


def _times(counts: NDArray[np.float64], at_least: NDArray[np.float64]) -> NDArray[np.float64]:
    """A matrix product without the distances that never occur, which are about half of all."""
    occurring = counts.any(axis=0)
    product: NDArray[np.float64] = counts[:, occurring] @ at_least[occurring]
    return product
