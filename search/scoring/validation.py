"""Choosing thresholds on simulated streams of the validation images, and measuring the test images.

The validation images are streamed together with the training images, the test images together with all others, as a
service meets new images among old ones. Only pairs and images of the split in question count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.evaluation import ClusterQuality, evaluate_clusters
from search.scoring.candidates import rank_candidates
from search.scoring.labelled import LabelledPhotos
from search.scoring.simulation import PairScorer, SimulatedStream
from search.scoring.thresholds import PrecisionCurve, choose_accept, precision_curve
from search.scoring.training_settings import TrainSettings
from search.types import Thresholds

__all__ = ["Streams", "ThresholdChoice", "choose_thresholds", "measure"]

_LEVELS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
"""Precisions (over pairs) whose thresholds are tried for heads and adopting."""

_NEARLY = 0.01
"""So much F1 is given up for a stricter threshold: corpora in service are larger and mistakes more frequent."""


@dataclass(frozen=True, slots=True)
class ThresholdChoice:
    """The thresholds, and what they give on the validation images."""

    thresholds: Thresholds
    metrics: dict[str, float]


class Streams:
    """The labelled photographs as streams in several random orders."""

    def __init__(
        self,
        photos: LabelledPhotos,
        terms: NDArray[np.uint32],
        codes: NDArray[np.uint8],
        settings: TrainSettings,
    ) -> None:
        """Takes all photographs with their terms and packed codes, in the same order."""
        self._photos = photos
        self._terms = terms
        self._codes = codes
        self._settings = settings
        self._validation = self._candidate_pairs(["train", "val"], "val")

    def validation_pairs(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]:
        """Candidate pairs with a validation image in them, each once: codes, codes, whether they are copies."""
        left, right = self._validation.T
        return self._codes[left], self._codes[right], self._is_copy(left, right)

    def has(self, split: str) -> bool:
        """Whether there are images of a split."""
        return bool((self._photos.split == split).any())

    def orders(self, splits: Iterable[str], count: int) -> list[NDArray[np.int64]]:
        """Random orders of the images of some splits, always the same ones."""
        rows = np.flatnonzero(np.isin(self._photos.split, list(splits)))
        return [np.random.RandomState([self._settings.seed, number]).permutation(rows) for number in range(count)]

    def stream(self, order: NDArray[np.int64], scorer: PairScorer) -> SimulatedStream:
        """One order as a stream."""
        ranked = rank_candidates(self._terms[order], len(order), self._settings.terms.min_overlap, earlier_only=True)
        ids = self._photos.image_id[order].tolist()
        return SimulatedStream(ids, self._codes[order], ranked, self._settings.terms.candidates, scorer)

    def pair_curve(self, stream: SimulatedStream, order: NDArray[np.int64], split: str) -> PrecisionCurve:
        """Precision and recall over what the searches of one stream returned."""
        left, right = order[stream.pairs[:, 0]], order[stream.pairs[:, 1]]
        counted = self._counted(left, right, split)
        return precision_curve(stream.scores[counted], self._is_copy(left, right)[counted])

    def quality(self, order: NDArray[np.int64], heads: list[str], split: str) -> ClusterQuality:
        """The clusters that a stream gave, counted over the images of a split."""
        photos = self._photos.where(order)
        return evaluate_clusters(heads, photos.group_id.tolist(), photos.ignore_group.tolist(), photos.split == split)

    def _candidate_pairs(self, splits: list[str], split: str) -> NDArray[np.int64]:
        rows = np.flatnonzero(np.isin(self._photos.split, splits))
        ranked = rank_candidates(self._terms[rows], self._settings.terms.candidates, self._settings.terms.min_overlap)
        pairs = np.unique(np.sort(np.stack([rows[ranked.images], rows[ranked.others]], axis=1), axis=1), axis=0)
        found: NDArray[np.int64] = pairs[self._counted(pairs[:, 0], pairs[:, 1], split)]
        return found

    def _is_copy(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
        same: NDArray[np.bool_] = self._photos.group_id[left] == self._photos.group_id[right]
        return same

    def _counted(self, left: NDArray[np.int64], right: NDArray[np.int64], split: str) -> NDArray[np.bool_]:
        """Pairs with an image of the split in them, less those that are neither copies nor different."""
        photos = self._photos
        inside = (photos.split[left] == split) | (photos.split[right] == split)
        unclear = (photos.ignore_group[left] != "") & (photos.ignore_group[left] == photos.ignore_group[right])
        counted: NDArray[np.bool_] = inside & ~(unclear & ~self._is_copy(left, right))
        return counted


def choose_thresholds(streams: Streams, scorer: PairScorer, settings: TrainSettings) -> ThresholdChoice:
    """All three thresholds, on validation images.

    `accept` comes from pairs (`search.scoring.thresholds.choose_accept`). Then `head_accept`, then `adopt`, each from
    whole clusters: of the thresholds that stand for some precisions over pairs, the best self-excluded BCubed F1 (mean
    over the orders) whose BCubed precision reaches `cluster_precision`; the strictest that comes within `_NEARLY` of
    it. If none is precise enough, the most precise.
    """
    orders = streams.orders(["train", "val"], settings.orders)
    runs = [(order, streams.stream(order, scorer)) for order in orders]
    curve = streams.pair_curve(runs[0][1], runs[0][0], "val")
    accept, bound = choose_accept(curve, settings.precision, settings.corpus_growth)
    levels = _levels(curve, accept)

    def tried(head_accept: float, adopt: float) -> _Trial:
        thresholds = Thresholds(accept, head_accept, adopt)
        found = [streams.quality(order, stream.heads(thresholds), "val").bcubed for order, stream in runs]
        precision, recall, f1 = np.mean([[one.precision, one.recall, one.f1] for one in found], axis=0)
        return _Trial(thresholds, float(precision), float(recall), float(f1))

    best = _best([tried(level, accept) for level in levels if level <= accept], settings.cluster_precision)
    head_accept = best.thresholds.head_accept
    # Adopted images must keep the bound on drift too: never less than `head_accept`.
    best = _best([tried(head_accept, level) for level in levels if level >= head_accept], settings.cluster_precision)
    precision, recall = curve.at(accept)
    metrics = {
        "val_average_precision": curve.average_precision,
        "val_precision_at_accept": precision,
        "val_precision_at_accept_lower_bound": bound,
        "val_recall_at_accept": recall,
        "val_bcubed_precision": best.precision,
        "val_bcubed_recall": best.recall,
        "val_bcubed_f1": best.f1,
    }
    return ThresholdChoice(best.thresholds, metrics)


def measure(streams: Streams, scorer: PairScorer, thresholds: Thresholds) -> dict[str, float]:
    """How the test images fare in one stream of everything; nothing where there are none.

    Recall over pairs is of those that the search proposed; over clusters it is of all.
    """
    (order,) = streams.orders(["train", "val", "test"], 1)
    if not streams.has("test"):
        return {}
    stream = streams.stream(order, scorer)
    curve = streams.pair_curve(stream, order, "test")
    precision, recall = curve.at(thresholds.accept)
    quality = streams.quality(order, stream.heads(thresholds), "test")
    return {
        "test_average_precision": curve.average_precision,
        "test_precision_at_accept": precision,
        "test_recall_at_accept": recall,
        "test_recall_at_precision_0.99": curve.recall_at_precision(0.99),
        "test_bcubed_precision": quality.bcubed.precision,
        "test_bcubed_recall": quality.bcubed.recall,
        "test_bcubed_f1": quality.bcubed.f1,
        "test_pairwise_precision": quality.pairwise.precision,
        "test_pairwise_recall": quality.pairwise.recall,
        "test_pairwise_f1": quality.pairwise.f1,
    }


@dataclass(frozen=True, slots=True)
class _Trial:
    """Thresholds with their BCubed quality."""

    thresholds: Thresholds
    precision: float
    recall: float
    f1: float


def _best(trials: list[_Trial], precision: float) -> _Trial:
    """The choice of `choose_thresholds` among trials that come with ascending thresholds."""
    precise = [trial for trial in trials if trial.precision >= precision]
    if not precise:
        return max(trials, key=lambda trial: trial.precision)
    enough = max(trial.f1 for trial in precise) - _NEARLY
    return [trial for trial in precise if trial.f1 >= enough][-1]


def _levels(curve: PrecisionCurve, accept: float) -> list[float]:
    """The thresholds, ascending, that stand for the precisions of `_LEVELS`, and `accept`."""
    levels = {accept}
    for wanted in _LEVELS:
        reached = np.flatnonzero(curve.precision >= wanted)
        if len(reached):
            levels.add(float(curve.threshold[reached[-1]]))
    return sorted(levels)
