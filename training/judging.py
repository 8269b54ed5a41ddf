"""Judges a classifier on labelled photographs: on the candidate pairs of a search, and on the clusters of a stream.

All photographs are searched among each other and streamed together, as in service. Only pairs with a counted photograph
count, and pairs that are neither copies nor different are left out. Two kinds of known pairs are also reported apart:
adversarial ones (different things in one scene) and natural copies (which nobody edited).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from core.types import Thresholds
from training.labelled import LabelledPhotos
from training.named_pairs import pairs_of_groups
from training.simulation import PairScorer
from training.thresholds import PrecisionCurve, precision_curve, reliability
from training.validation import Streams

__all__ = [
    "Judged",
    "ScoredPairs",
    "Share",
    "judge_clusters",
    "judge_pairs",
    "score_pairs",
]

PRECISION = 0.99
"""The precision at which recall is reported."""

_PARTS = ("precision", "recall", "f1")


@dataclass(frozen=True, slots=True)
class Share:
    """Of `of` pairs, `taken` were accepted."""

    taken: int
    of: int

    @property
    def share(self) -> float:
        """The accepted share; 0 if there are no pairs."""
        return self.taken / self.of if self.of else 0.0


@dataclass(frozen=True, eq=False, slots=True)
class ScoredPairs:
    """Candidate pairs, each once: the rows of both images, whether they are copies, the score."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    is_copy: NDArray[np.bool_]
    scores: NDArray[np.float32]

    @property
    def curve(self) -> PrecisionCurve:
        """Precision and recall over these pairs."""
        return precision_curve(self.scores, self.is_copy)

    def where(self, mask: NDArray[np.bool_]) -> ScoredPairs:
        """The pairs of a mask."""
        return ScoredPairs(self.left[mask], self.right[mask], self.is_copy[mask], self.scores[mask])

    def unscored(self, mask: NDArray[np.bool_]) -> ScoredPairs:
        """The same pairs; those of the mask have the score 0, as they are not scored in service."""
        return replace(self, scores=np.where(mask, np.float32(0), self.scores))


@dataclass(frozen=True, slots=True)
class Judged:
    """The results on pairs."""

    pairs: int
    copies: int
    found_by_search: float
    """Share of all pairs of copies that are candidates; recall counts these alone."""
    recall_at_precision: float
    """At a precision of `PRECISION`."""
    average_precision: float
    precision_at_accept: float
    recall_at_accept: float
    calibration_error: float = 0.0
    """Expected calibration error over ten bins of the score (`training.thresholds.Reliability`)."""
    families: Mapping[str, Share] = field(default_factory=dict)
    """Per kind of edit: candidate pairs of copies with such an edit, and how many were accepted."""
    family_recalls: Mapping[str, float] = field(default_factory=dict)
    """Per kind of edit: recall at `PRECISION`, over the pairs with such an edit."""
    datasets: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    """Per data set: recall at `PRECISION`, precision and recall at `accept`, over the pairs with an image of it."""
    same_scene: Share = Share(0, 0)
    """Candidate pairs that are adversarial, and how many were (wrongly) accepted."""
    natural: Share = Share(0, 0)
    """Candidate pairs that are natural copies, and how many were accepted."""
    recall_at_precision_without_same_scene: float = 0.0

    @property
    def found_at_precision(self) -> float:
        """Share of all pairs of copies that are found at a precision of `PRECISION`, by search and classifier."""
        return self.found_by_search * self.recall_at_precision

    def by_family(self) -> dict[str, dict[str, float]]:
        """The results for each kind of edit, as plain values."""
        return {
            name: {
                "copies": one.of,
                "recall_at_accept": round(one.share, 5),
                f"recall_at_precision_{PRECISION}": round(self.family_recalls.get(name, 0.0), 5),
            }
            for name, one in self.families.items()
        }

    def by_dataset(self) -> dict[str, dict[str, float]]:
        """The results for each data set, as plain values."""
        names = (f"recall_at_precision_{PRECISION}", "precision_at_accept", "recall_at_accept")
        return {
            name: dict(zip(names, (round(value, 5) for value in values), strict=True))
            for name, values in self.datasets.items()
        }


def score_pairs(
    counted: NDArray[np.bool_], streams: Streams, codes: NDArray[np.uint8], scorer: PairScorer
) -> ScoredPairs:
    """Scores the candidate pairs with a counted image; those beyond the gate of the streams have the score 0."""
    left, right, is_copy = streams.candidate_pairs(counted)
    pairs = ScoredPairs(left, right, is_copy, scorer(codes[left], codes[right]))
    return pairs.unscored(streams.beyond_gate(left, right))


def judge_pairs(
    photos: LabelledPhotos,
    counted: NDArray[np.bool_],
    pairs: ScoredPairs,
    accept: float,
    same_scene: Iterable[tuple[str, str]] = (),
    natural: Iterable[tuple[str, str]] = (),
) -> Judged:
    """How well the scores separate copies from different images among the candidates; see `Judged`."""
    curve = pairs.curve
    precision, recall = curve.at(accept)
    taken = pairs.scores >= np.float32(accept)
    scene = pairs_of_groups(photos, same_scene, pairs.left, pairs.right) & ~pairs.is_copy
    twin = _named(photos, natural, pairs)
    return Judged(
        pairs=len(pairs.scores),
        copies=curve.copies,
        found_by_search=curve.copies / max(1, _copies(photos, counted)),
        recall_at_precision=curve.recall_at_precision(PRECISION),
        average_precision=curve.average_precision,
        precision_at_accept=precision,
        recall_at_accept=recall,
        calibration_error=reliability(pairs.scores, pairs.is_copy).error,
        families=_families(photos, pairs, taken),
        family_recalls=_family_recalls(photos, pairs),
        datasets=_datasets(photos, counted, pairs, accept),
        same_scene=Share(int((scene & taken).sum()), int(scene.sum())),
        natural=Share(int((twin & taken).sum()), int(twin.sum())),
        recall_at_precision_without_same_scene=pairs.where(~scene).curve.recall_at_precision(PRECISION),
    )


def judge_clusters(
    counted: NDArray[np.bool_],
    streams: Streams,
    codes: NDArray[np.uint8],
    scorer: PairScorer,
    thresholds: Thresholds,
    orders: int,
    told: Callable[[float], None] = lambda _share: None,
) -> dict[str, float]:
    """Self-excluded BCubed and pairwise quality of the streamed clusters: means over `orders` random orders."""
    found = []
    splits = np.unique(streams.photos.split).tolist()
    for number, order in enumerate(streams.orders(splits, orders), start=1):
        heads = streams.stream(order, codes, scorer).heads(thresholds)
        quality = streams.quality(order, heads, counted)
        found.append([getattr(part, name) for part in (quality.bcubed, quality.pairwise) for name in _PARTS])
        told(number / orders)
    names = [f"{part}_{name}" for part in ("bcubed", "pairwise") for name in _PARTS]
    return dict(zip(names, np.mean(found, axis=0).tolist(), strict=True))


def _copies(photos: LabelledPhotos, counted: NDArray[np.bool_]) -> int:
    """The number of pairs of copies with a counted image."""
    groups = np.unique(photos.group_id, return_inverse=True)[1]
    sizes, others = np.bincount(groups), np.bincount(groups[~counted], minlength=int(groups.max(initial=-1)) + 1)
    return int((sizes * (sizes - 1) // 2 - others * (others - 1) // 2).sum())


def _named(photos: LabelledPhotos, named: Iterable[tuple[str, str]], pairs: ScoredPairs) -> NDArray[np.bool_]:
    """Which pairs of copies are among the named pairs."""
    row = {name: number for number, name in enumerate(photos.image_id.tolist())}
    keys = [sorted((row[one], row[other])) for one, other in named if one in row and other in row]
    wanted = np.array([low * len(row) + high for low, high in keys], dtype=np.int64)
    found: NDArray[np.bool_] = np.isin(pairs.left * len(row) + pairs.right, wanted) & pairs.is_copy
    return found


def _families(photos: LabelledPhotos, pairs: ScoredPairs, taken: NDArray[np.bool_]) -> dict[str, Share]:
    one, other = photos.family[pairs.left], photos.family[pairs.right]
    found = {}
    for family in np.unique(photos.family[photos.family != ""]).tolist():
        mask = pairs.is_copy & ((one == family) | (other == family))
        found[family] = Share(int((mask & taken).sum()), int(mask.sum()))
    return found


def _family_recalls(photos: LabelledPhotos, pairs: ScoredPairs) -> dict[str, float]:
    one, other = photos.family[pairs.left], photos.family[pairs.right]
    return {
        family: pairs.where((one == family) | (other == family)).curve.recall_at_precision(PRECISION)
        for family in np.unique(photos.family[photos.family != ""]).tolist()
    }


def _datasets(
    photos: LabelledPhotos, counted: NDArray[np.bool_], pairs: ScoredPairs, accept: float
) -> dict[str, tuple[float, float, float]]:
    found = {}
    for name in np.unique(photos.dataset[counted]).tolist():
        mask = (photos.dataset[pairs.left] == name) | (photos.dataset[pairs.right] == name)
        curve = pairs.where(mask).curve
        if name and curve.copies:
            found[name] = (curve.recall_at_precision(PRECISION), *curve.at(accept))
    return found
