"""What term settings give on a corpus of some size, predicted from the distances of a sample.

Recall is the share of pairs of copies of which a search for the one returns the other. That takes an overlap of at
least `min_overlap`, and fewer than k images that come before it: strangers and other copies of a higher overlap, or of
the same overlap and older (the copy's age is anything among theirs). For one query, one overlap and one age the number
of these rivals is taken to be Poisson; its mean comes from the query's own distances to the sample, so crowds count.

All of it is over the draw of the groups, as the curves of `search.hashing.terms` are.
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
"""Of the images of equal overlap, the share that is older than the copy: five ages that stand for all."""


@dataclass(frozen=True, slots=True, order=True)
class TermChoice:
    """What the chooser chooses; the rest of the term settings stays as it is."""

    groups: int
    bits_per_group: int
    min_overlap: int
    candidates: int
    """k"""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a choice gives on a corpus."""

    choice: TermChoice
    images: int
    """Of the corpus."""
    recall: float
    """The share of pairs of copies that are found."""
    unrelated_postings: float
    """Postings that a search touches, for each image of the corpus."""
    copy_postings: float
    """Postings that a search touches beside these: those of its copies, and its own."""
    found: float
    """Candidates that a search returns, on average: pairs for the classifier."""

    @property
    def postings(self) -> float:
        """Postings that a search touches."""
        return self.density.postings(self.images)

    @property
    def density(self) -> ChosenDensity:
        """The point that a live index is compared with."""
        return ChosenDensity(self.images, self.unrelated_postings, self.copy_postings)


def predict(
    sample: SampleDistances, images: int, groups: int, bits_per_group: int, least: list[int], ks: list[int]
) -> list[Prediction]:
    """Predicts one way of grouping the bits, with each minimum overlap of `least` and each k of `ks`."""
    chances = overlap_distribution(sample.bits, groups, bits_per_group)
    at_least = overlap_at_least(chances)
    copies_reaching = _copies(sample, at_least)
    reaching = images * _times(sample.strangers, at_least) + copies_reaching
    shared = groups * same_term_curve(sample.bits, bits_per_group)
    unrelated = float(sample.typical_strangers @ shared)
    copies = float(sample.typical_copies @ shared) + groups  # an image meets its own postings too
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
    """The chance that a Poisson number of this mean is below k.

    That is the chance that a chi-squared variable of 2k degrees exceeds twice the mean, by the cube-root approximation
    of Wilson and Hilferty (1931); at k = 1 within 0.01 of exp(-mean), closer above.
    """
    spread = 1 / (9 * k)
    z = (np.cbrt(mean / k) - (1 - spread)) / sqrt(spread)
    # The normal distribution by the usual tanh approximation: within 0.0004.
    chance: NDArray[np.float64] = 0.5 * (1 - np.tanh(sqrt(2 / pi) * (z + 0.044715 * z**3)))
    return chance


def _in_time(reaching: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """(queries, overlaps) the chance that fewer than k images come before a copy of a given overlap."""
    above = np.hstack([reaching[:, 1:], np.zeros((len(reaching), 1))])
    equal = reaching - above
    return sum((few_enough(above + age * equal, k) for age in _AGES), np.zeros_like(above)) / len(_AGES)


def _times(shares: NDArray[np.float64], at_least: NDArray[np.float64]) -> NDArray[np.float64]:
    """A product over the distances that occur: half of all do not."""
    occurring = shares.any(axis=0)
    product: NDArray[np.float64] = shares[:, occurring] @ at_least[occurring]
    return product


def _copies(sample: SampleDistances, at_least: NDArray[np.float64]) -> NDArray[np.float64]:
    """(queries, overlaps) the query's copies that reach an overlap."""
    reaching = np.zeros((len(sample.strangers), at_least.shape[1]))
    np.add.at(reaching, sample.copy_query, at_least[sample.copy_distance])
    return reaching
