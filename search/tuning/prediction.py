"""Predicts recall and work of term settings and a ranking on a corpus of some size, from the distances of a sample.

Recall is the share of pairs of copies for which a search for one returns the other. The other must share at least
`min_overlap` terms. With the order by shared terms, fewer than k images may rank before it: strangers and other copies
of a higher overlap, or of the same overlap and older. With the order by distance two things must hold:

1. Fewer than `depth` images rank before it by shared terms.
2. Of the images that pass the same test, fewer than k have a nearer code.

The age of the copy among images of one overlap is random. For one query, overlap and age, the number of these rivals is
taken as Poisson, and likewise the number of nearer strangers. Their means come from the query's own distances to the
sample, so dense regions count. A nearer image counts by the probability that its shared terms bring it among the first
`depth`, which follows from its distance in term bits. Nearer copies take that many of the k places: they are few, and
their number does not scatter as that of strangers does.

All probabilities are over the draw of the groups, as for the curves of `search.hashing.terms`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
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

_NO_ROOM = 0.01
"""What is left of k at least when copies alone fill it; then hardly any stranger may be nearer."""


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
    """Predicts one grouping of the bits with each ranking, all at once."""
    overlaps = _Overlaps(sample, images, groups, bits_per_group)
    shared = groups * same_term_curve(sample.bits, bits_per_group)
    unrelated = float(sample.typical_strangers @ shared)
    copies = float(sample.typical_copies @ shared) + groups  # a search touches the image's own postings too
    by_distance = [one for one in rankings if one.order is Order.DISTANCE]
    compared = overlaps.compared(sorted({(one.depth, one.min_overlap) for one in by_distance}))
    predictions = []
    for ranking in rankings:
        least, k = ranking.min_overlap, ranking.candidates
        reaching, codes = overlaps.reaching[:, least], 0.0
        if ranking.order is Order.DISTANCE:
            recall = compared[ranking.depth, least].found(k)
            codes = float(np.minimum(reaching, ranking.depth).mean())
        else:
            recall = overlaps.found(least, k)
        found = float(np.minimum(reaching, k).mean())
        choice = TermChoice(groups, bits_per_group, ranking)
        predictions.append(Prediction(choice, images, recall, unrelated, copies, codes, found))
    return predictions


def few_enough(mean: NDArray[np.float64], k: int | NDArray[np.float64]) -> NDArray[np.float64]:
    """The probability that a Poisson variable of this mean is below k, which is above 0 and need not be whole.

    It equals the probability that a chi-squared variable with 2k degrees of freedom exceeds twice the mean. That is
    taken from the cube-root approximation of Wilson and Hilferty (1931), within 0.01 at k = 1 and closer above.
    """
    spread = 1 / (9 * k)
    z = (np.cbrt(mean / k) - (1 - spread)) / np.sqrt(spread)
    # The tanh approximation of the normal distribution, within 0.0004.
    chance: NDArray[np.float64] = 0.5 * (1 - np.tanh(sqrt(2 / pi) * (z + 0.044715 * z**3)))
    return chance


@dataclass(frozen=True, slots=True, eq=False)
class _Compared:
    """What is compared by distance."""

    copy: NDArray[np.float64]
    """(pairs,) the probability that the copy is."""
    strangers: NDArray[np.float64]
    """(pairs,) the expected number of strangers that are and have a nearer code than the copy."""
    copies: NDArray[np.float64]
    """(pairs,) the same of other copies."""

    def found(self, k: int) -> float:
        """The share of copies that are among the k nearest."""
        room = np.maximum(k - self.copies, _NO_ROOM)
        return float((self.copy * few_enough(self.strangers, room)).mean())


class _Overlaps:
    """The distribution of overlaps with one grouping of the bits, and what follows from it."""

    def __init__(self, sample: SampleDistances, images: int, groups: int, bits_per_group: int) -> None:
        chances = overlap_distribution(sample.bits, groups, bits_per_group)
        others, asked = images * sample.strangers + sample.copies, sample.asked
        # About half of all distances never occur.
        occurring = others.any(axis=0)
        self.reaching: NDArray[np.float64] = others[:, occurring] @ overlap_at_least(chances[occurring])
        """(queries, groups + 1) the expected number of images that reach an overlap with a query."""
        self._chances = chances[occurring].astype(np.float32)
        self._query, self._of_pair = asked.query, chances[asked.distance]
        self._strangers = np.float32(images) * asked.nearer_strangers[:, occurring]
        self._copies = asked.nearer_copies[:, occurring]

    def found(self, least: int, k: int) -> float:
        """The share of copies that share enough terms and are among the first k by shared terms."""
        return float(self._among(self._in_time(k), least).mean())

    def compared(self, stages: Sequence[tuple[int, int]]) -> dict[tuple[int, int], _Compared]:
        """What is compared by distance, for each depth and minimum overlap."""
        if not stages:
            return {}
        in_time = {depth: self._in_time(depth) for depth in {depth for depth, _ in stages}}
        # (queries, distances, stages) the probability that an image at a distance is compared
        reached = np.stack([self._by_distance(in_time[depth], least) for depth, least in stages], axis=-1)
        strangers, copies = (self._expected(nearer, reached) for nearer in (self._strangers, self._copies))
        return {
            (depth, least): _Compared(self._among(in_time[depth], least), strangers[:, stage], copies[:, stage])
            for stage, (depth, least) in enumerate(stages)
        }

    def _in_time(self, most: int) -> NDArray[np.float64]:
        """(queries, groups + 1) the probability that fewer than `most` images rank before one of a given overlap."""
        above = np.hstack([self.reaching[:, 1:], np.zeros((len(self.reaching), 1))])
        equal = self.reaching - above
        return sum((few_enough(above + age * equal, most) for age in _AGES), np.zeros_like(above)) / len(_AGES)

    def _among(self, in_time: NDArray[np.float64], least: int) -> NDArray[np.float64]:
        """(pairs,) the probability that the copy shares enough terms and fewer images than wanted rank before it."""
        among: NDArray[np.float64] = (self._of_pair * in_time[self._query])[:, least:].sum(axis=1)
        return among

    def _by_distance(self, in_time: NDArray[np.float64], least: int) -> NDArray[np.float32]:
        """(queries, distances) the same probability of any image, by its distance."""
        product: NDArray[np.float32] = in_time[:, least:].astype(np.float32) @ self._chances[:, least:].T
        return product

    def _expected(self, nearer: NDArray[np.float32], reached: NDArray[np.float32]) -> NDArray[np.float64]:
        """(pairs, stages) how many of the nearer images are compared."""
        expected = np.empty((len(nearer), reached.shape[2]))
        starts = np.searchsorted(self._query, np.arange(len(reached) + 1))
        for query, (first, last) in enumerate(pairwise(starts.tolist())):
            expected[first:last] = nearer[first:last] @ reached[query]
        return expected
