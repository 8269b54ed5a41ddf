"""Predicts recall and work of term settings on a corpus of some size, from the distances of a sample.

Recall is the share of pairs of copies for which a search for one returns the other. The other must share at least
`min_overlap` terms, and fewer than k images may rank before it: strangers and other copies of a higher overlap, or of
the same overlap and older. The age of the copy among them is random. For one query, overlap and age, the number of
these rivals is taken as Poisson. Its mean comes from the query's own distances to the sample, so dense regions count.

All probabilities are over the draw of the groups, as for the curves of `search.hashing.terms`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
from numpy.typing import NDArray

from search.tuning.drift import ChosenDensity
from search.tuning.overlap import overlap_at_least, overlap_distribution, same_term_curve
from search.tuning.sample import SampleDistances

__all__ = ["Prediction", "TermChoice", "few_enough", "predict"]


_AGES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""The share of the images of equal overlap that are older than the copy: five values that represent all ages."""


@dataclass(frozen=True, slots=True, order=True)
class TermChoice:
    """The term settings that are chosen; all others stay as they are."""

    groups: int
    bits_per_group: int
    min_overlap: int
    candidates: int
    """k"""


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
    sample: SampleDistances, images: int, groups: int, bits_per_group: int, least: list[int], ks: list[int]
) -> list[Prediction]:
    """Predicts one grouping of the bits, with each minimum overlap of `least` and each k of `ks`."""
    chances = overlap_distribution(sample.bits, groups, bits_per_group)
    at_least = overlap_at_least(chances)
    copies_reaching = _copies(sample, at_least)
    reaching = images * _times(sample.strangers, at_least) + copies_reaching
    shared = groups * same_term_curve(sample.bits, bits_per_group)
    unrelated = float(sample.typical_strangers @ shared)
    copies = float(sample.typical_copies @ shared) + groups  # a search touches the image's own postings too
    of_pair = chances[sample.copy_distance]
    predictions = []
    for k in ks:
        in_time = of_pair * _in_time(reaching, k)[sample.copy_query]
        for overlap in least:
            recall = float(in_time[:, overlap:].sum(axis=1).mean())
            found = float(np.minimum(reaching[:, overlap], k).mean())
            choice = TermChoice(groups, bits_per_group, overlap, k)
            predictions.append(Prediction(choice, images, recall, unrelated, copies, found))
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


def _in_time(reaching: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """(queries, overlaps) the probability that fewer than k images rank before a copy of a given overlap."""
    above = np.hstack([reaching[:, 1:], np.zeros((len(reaching), 1))])
    equal = reaching - above
    return sum((few_enough(above + age * equal, k) for age in _AGES), np.zeros_like(above)) / len(_AGES)


def _times(shares: NDArray[np.float64], at_least: NDArray[np.float64]) -> NDArray[np.float64]:
    """A matrix product without the distances that never occur, which are about half of all."""
    occurring = shares.any(axis=0)
    product: NDArray[np.float64] = shares[:, occurring] @ at_least[occurring]
    return product


def _copies(sample: SampleDistances, at_least: NDArray[np.float64]) -> NDArray[np.float64]:
    """(queries, overlaps) the expected number of the query's copies that reach an overlap."""
    reaching = np.zeros((len(sample.strangers), at_least.shape[1]))
    np.add.at(reaching, sample.copy_query, at_least[sample.copy_distance])
    return reaching
