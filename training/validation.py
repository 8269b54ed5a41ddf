"""Chooses thresholds on simulated streams of the validation images.

Validation images are streamed together with training images, as new images arrive among old ones in service. Only pairs
and images of the validation split count.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clustering.comparison import ClusterQuality
from clustering.planning import MAX_EXTRA_PAGES
from core.types import Thresholds
from scoring.features import hamming_distances
from search.hashing.score_codes import CodeSettings
from search.hashing.terms import TermSettings
from search.ranking import FURTHER, Order, Ranking
from training.candidates import rank_candidates
from training.evaluation import evaluate_clusters
from training.gate import choose_gate
from training.labelled import LabelledPhotos
from training.simulation import PairScorer, SimulatedStream
from training.thresholds import PrecisionCurve, choose_accept, precision_curve
from training.training_settings import TrainSettings

__all__ = ["Streams", "ThresholdChoice", "choose_thresholds"]

_LEVELS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
"""Precisions (over pairs) whose thresholds are tried for `head_accept` and `adopt`."""

_STAND_IN_BITS = 1024
"""Random hyperplanes that order candidates until the projection is learnt whose signs will do it."""

_NEARLY = 0.002
"""F1 that is given up for a stricter threshold: corpora in service are larger, so mistakes are more frequent."""


@dataclass(frozen=True, slots=True)
class ThresholdChoice:
    """The thresholds and the gate, and their results on the validation images."""

    thresholds: Thresholds
    gate: int | None
    """The largest hamming distance of a candidate that is worth a score (`training.gate`)."""
    metrics: dict[str, float]


class Streams:
    """The labelled photographs as streams in several random orders."""

    def __init__(
        self,
        photos: LabelledPhotos,
        search: TermSettings,
        ranking: Ranking,
        code: CodeSettings,
        seed: int,
        told: Callable[[float], None] = lambda _share: None,
    ) -> None:
        """Computes terms and bits of all photographs and ranks their candidates.

        Args:
            photos: All photographs, of every split.
            search: How terms are made.
            ranking: How candidates are chosen and ordered.
            code: How codes are made; candidates depend on their bits alone. If these are signs of a projection that is
                still to be learnt, random hyperplanes stand in for it; see `with_codes`.
            seed: Of the random orders.
            told: Called with the share of the ranking that is done.
        """
        self.photos = photos
        self.terms = search.build().terms(photos.search)
        """(n, groups), one row per photograph."""
        self.ranking = ranking
        self._gate: int | None = None
        self._seed = seed
        if code.signs and code.projection is None:
            code = replace(code, signs=False, bits=_STAND_IN_BITS)
        self._rank(code, told)

    def with_codes(self, code: CodeSettings) -> Streams:
        """The same streams with candidates by the bits of these codes, whose projection has been learnt."""
        if not code.signs:  # the bits do not depend on it
            return self
        found = copy.copy(self)
        found._rank(code, lambda _share: None)
        return found

    def _rank(self, code: CodeSettings, told: Callable[[float], None]) -> None:
        photos = self.photos
        self.bits = code.build().bits(photos.score, photos.search)
        """(n, bytes), the bits of the codes."""
        self._ranked = rank_candidates(self.terms, self.bits, self.ranking, told=told)
        self._validation = self.candidate_pairs(photos.split == "val", ~np.isin(photos.split, ["train", "val"]))

    def validation_pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Candidate pairs with a validation image and no test image; the result is as for `candidate_pairs`."""
        return self._validation

    def candidate_pairs(
        self, counted: NDArray[np.bool_], hidden: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Candidate pairs with a counted image and without a hidden one, each once; unclear pairs are left out.

        Returns:
            Rows of one image (n), rows of the other (n), whether they are copies (n).
        """
        pairs = np.stack([self._ranked.images, self._ranked.others], axis=1)
        mask = counted[pairs].any(axis=1)
        if hidden is not None:
            mask &= ~hidden[pairs].any(axis=1)
        left, right = np.unique(np.sort(pairs[mask], axis=1), axis=0).T
        clear = ~self.photos.unclear(left, right)
        return left[clear], right[clear], self._is_copy(left[clear], right[clear])

    def of(self, split: str) -> NDArray[np.bool_]:
        """Which images are of a split."""
        mask: NDArray[np.bool_] = self.photos.split == split
        return mask

    def orders(self, splits: Iterable[str], count: int) -> list[NDArray[np.int64]]:
        """Random orders of the images of some splits; they depend on the seed alone."""
        rows = np.flatnonzero(np.isin(self.photos.split, list(splits)))
        return [np.random.RandomState([self._seed, number]).permutation(rows) for number in range(count)]

    def gated(self, gate: int | None) -> Streams:
        """The same streams for a model with a gate: candidates beyond it are not scored, so they never match."""
        found = copy.copy(self)
        found._gate = gate if self.ranking.order is Order.DISTANCE else None
        return found

    def beyond_gate(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which candidate pairs are not scored."""
        if self._gate is None:
            return np.zeros(len(left), dtype=bool)
        return self.distances(left, right) > self._gate

    def distances(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
        """The hamming distances of pairs, over all bits."""
        return hamming_distances(self.bits[left], self.bits[right])

    def stream(self, order: NDArray[np.int64], codes: NDArray[np.uint8], scorer: PairScorer) -> SimulatedStream:
        """One order as a stream of images with these codes."""
        # The rule asks for no more pages.
        limit = self.ranking.candidates + MAX_EXTRA_PAGES * FURTHER
        ranked = rank_candidates(self.terms[order], self.bits[order], self.ranking, limit, earlier_only=True)
        ids = self.photos.image_id[order].tolist()
        return SimulatedStream(ids, codes[order], ranked.within(self._gate), self.ranking, scorer)

    def pair_curve(self, stream: SimulatedStream, order: NDArray[np.int64], split: str) -> PrecisionCurve:
        """Precision and recall over the candidates in one stream."""
        left, right = order[stream.pairs[:, 0]], order[stream.pairs[:, 1]]
        photos = self.photos
        counted = (photos.split[left] == split) | (photos.split[right] == split)
        counted &= ~photos.unclear(left, right)
        return precision_curve(stream.scores[counted], self._is_copy(left, right)[counted])

    def accepted_distances(self, stream: SimulatedStream, order: NDArray[np.int64], accept: float) -> NDArray[np.int64]:
        """The distances of the candidates in one stream that score at least `accept`."""
        left, right = order[stream.pairs[stream.scores >= np.float32(accept)]].T
        return self.distances(left, right)

    def quality(self, order: NDArray[np.int64], heads: list[str], counted: NDArray[np.bool_]) -> ClusterQuality:
        """The quality of a stream's clusters, over the counted images (a mask over all photographs)."""
        groups, ignored = self.photos.group_id[order], self.photos.ignore_group[order]
        return evaluate_clusters(heads, groups.tolist(), ignored.tolist(), counted[order])

    def _is_copy(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
        same: NDArray[np.bool_] = self.photos.group_id[left] == self.photos.group_id[right]
        return same


def choose_thresholds(
    streams: Streams,
    codes: NDArray[np.uint8],
    scorer: PairScorer,
    settings: TrainSettings,
    chosen: tuple[float, float] | None = None,
) -> ThresholdChoice:
    """Chooses all three thresholds on validation images, and the gate.

    `accept` comes from pairs (`training.thresholds.choose_accept`), or is `chosen`, together with its bound. Then come
    `head_accept` and `adopt`, each from whole clusters. The thresholds for the precisions `_LEVELS` are tried. Of those
    whose BCubed precision reaches `cluster_precision`, the strictest wins whose self-excluded BCubed F1 (mean over the
    orders) is within `_NEARLY` of the best. If none is precise enough, the most precise wins.

    The gate comes from all images of the streams, those of the training split too, as it must hold for every pair.
    """
    orders = streams.orders(["train", "val"], settings.orders)
    runs = [(order, streams.stream(order, codes, scorer)) for order in orders]
    curve = streams.pair_curve(runs[0][1], runs[0][0], "val")
    accept, bound = chosen or choose_accept(curve, settings.precision, settings.corpus_growth)
    levels = _levels(curve, accept)

    def tried(head_accept: float, adopt: float) -> _Trial:
        thresholds = Thresholds(accept, head_accept, adopt)
        found = [streams.quality(order, stream.heads(thresholds), streams.of("val")).bcubed for order, stream in runs]
        precision, recall, f1 = np.mean([[one.precision, one.recall, one.f1] for one in found], axis=0)
        return _Trial(thresholds, float(precision), float(recall), float(f1))

    best = _best([tried(level, accept) for level in levels if level <= accept], settings.cluster_precision)
    head_accept = best.thresholds.head_accept
    # The bound on drift holds for adopted images too: `adopt` is never below `head_accept`.
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
    accepted = [streams.accepted_distances(stream, order, accept) for order, stream in runs]
    gate = choose_gate(np.concatenate(accepted), 8 * streams.bits.shape[1])
    return ThresholdChoice(best.thresholds, gate, metrics)


@dataclass(frozen=True, slots=True)
class _Trial:
    """Thresholds with their BCubed quality."""

    thresholds: Thresholds
    precision: float
    recall: float
    f1: float


def _best(trials: list[_Trial], precision: float) -> _Trial:
    """The choice of `choose_thresholds` among trials, whose thresholds ascend."""
    precise = [trial for trial in trials if trial.precision >= precision]
    if not precise:
        return max(trials, key=lambda trial: trial.precision)
    enough = max(trial.f1 for trial in precise) - _NEARLY
    return [trial for trial in precise if trial.f1 >= enough][-1]


def _levels(curve: PrecisionCurve, accept: float) -> list[float]:
    """The thresholds for the precisions `_LEVELS`, and `accept`, ascending."""
    levels = {accept}
    for wanted in _LEVELS:
        reached = np.flatnonzero(curve.precision >= wanted)
        if len(reached):
            levels.add(float(curve.threshold[reached[-1]]))
    return sorted(levels)
