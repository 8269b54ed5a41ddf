"""The quality of a clustering against labels: pairwise and self-excluded BCubed precision, recall and F1.

Images of one group belong together. A pair with the same non-empty ignore group but different groups is neither right
nor wrong, and no count includes it.

Pairwise
    Precision: of the pairs that share a cluster, the share whose group is the same. Recall: of the pairs that share a
    group, the share whose cluster is the same. A cluster of n weighs n * (n - 1) / 2, so large ones dominate.
Self-excluded BCubed
    Per image: precision is the share of the other images of its cluster that are of its group; recall is the share of
    the other images of its group that are in its cluster. Precision is the mean over the images that share a cluster,
    recall over those that share a group. An image that is rightly alone counts in neither. (With itself included, it
    would score a perfect 1, and most images are alone.)

A mean over nothing is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import BadInputError

__all__ = ["ClusterQuality", "PrecisionRecall", "evaluate_clusters"]


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """Precision and recall, each 0 to 1."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Their harmonic mean; 0 when both are 0."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


@dataclass(frozen=True, slots=True)
class ClusterQuality:
    """The quality of a clustering, over the images that were counted."""

    pairwise: PrecisionRecall
    bcubed: PrecisionRecall
    """Self-excluded BCubed."""
    images: int
    """How many images were counted."""


def evaluate_clusters(
    heads: Sequence[str],
    groups: Sequence[str],
    ignore_groups: Sequence[str] | None = None,
    counted: ArrayLike | None = None,
) -> ClusterQuality:
    """Measures a clustering.

    Args:
        heads: The cluster of each image.
        groups: The group, or true cluster, of each image.
        ignore_groups: The ignore group of each image, "" for none. None: no image has one.
        counted: Whether each image counts (such as those of a held-out split). The other images still matter as members
            of the clusters of counted images; pairwise counts each pair with at least one counted image. None: all
            images count.

    Raises:
        BadInputError: The lengths differ.
    """
    ignored = [""] * len(heads) if ignore_groups is None else ignore_groups
    mask = np.ones(len(heads), dtype=bool) if counted is None else np.asarray(counted, dtype=bool)
    lengths = (len(heads), len(groups), len(ignored), len(mask))
    if len(set(lengths)) > 1:
        raise BadInputError(f"heads, groups, ignore groups and counted differ in length: {lengths}")
    labels = _Labels.of(heads, groups, ignored)
    among_all = _mates(labels, np.ones_like(mask))
    among_counted = _mates(labels, mask)
    return ClusterQuality(
        pairwise=_pairwise(among_all, among_counted, mask),
        bcubed=_bcubed(among_all, mask),
        images=int(mask.sum()),
    )


@dataclass(frozen=True, slots=True)
class _Labels:
    """The numbers of each image's cluster, group and ignore group, and whether it has an ignore group."""

    cluster: NDArray[np.int64]
    group: NDArray[np.int64]
    ignore: NDArray[np.int64]
    ignores: NDArray[np.bool_]

    @classmethod
    def of(cls, heads: Sequence[str], groups: Sequence[str], ignored: Sequence[str]) -> _Labels:
        has = np.fromiter((bool(name) for name in ignored), dtype=bool, count=len(ignored))
        return cls(_numbers(heads), _numbers(groups), _numbers(ignored), has)


@dataclass(frozen=True, slots=True)
class _Mates:
    """How many other images (of a given set) share each image's cluster (less ignored ones), its group, or both."""

    cluster: NDArray[np.int64]
    group: NDArray[np.int64]
    both: NDArray[np.int64]


def _mates(labels: _Labels, among: NDArray[np.bool_]) -> _Mates:
    cluster, group, ignore = labels.cluster, labels.group, labels.ignore
    itself = among.astype(np.int64)
    both = _sharing(among, cluster, group) - itself
    strangers = _sharing(among, cluster, ignore) - _sharing(among, cluster, ignore, group)
    in_cluster = _sharing(among, cluster) - itself - np.where(labels.ignores, strangers, 0)
    return _Mates(in_cluster, _sharing(among, group) - itself, both)


def _sharing(among: NDArray[np.bool_], *columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each image, how many images of `among` have its values in all these columns."""
    key = columns[0]
    for column in columns[1:]:
        # Renumbered at each step, so that the product cannot overflow.
        key = _renumber(key * (int(column.max(initial=0)) + 1) + column)
    counts = np.bincount(key[among], minlength=int(key.max(initial=-1)) + 1)
    return counts[key].astype(np.int64)


def _pairwise(among_all: _Mates, among_counted: _Mates, mask: NDArray[np.bool_]) -> PrecisionRecall:
    def pairs(everyone: NDArray[np.int64], counted: NDArray[np.int64]) -> float:
        # A pair of two counted images is counted from both sides.
        return float(everyone[mask].sum() - counted[mask].sum() / 2)

    both = pairs(among_all.both, among_counted.both)
    return PrecisionRecall(
        _share(both, pairs(among_all.cluster, among_counted.cluster)),
        _share(both, pairs(among_all.group, among_counted.group)),
    )


def _bcubed(mates: _Mates, mask: NDArray[np.bool_]) -> PrecisionRecall:
    def mean_share(whole: NDArray[np.int64]) -> float:
        chosen = mask & (whole > 0)
        return float((mates.both[chosen] / whole[chosen]).mean()) if chosen.any() else 1.0

    return PrecisionRecall(mean_share(mates.cluster), mean_share(mates.group))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


def _numbers(names: Sequence[str]) -> NDArray[np.int64]:
    known: dict[str, int] = {}
    return np.fromiter((known.setdefault(name, len(known)) for name in names), dtype=np.int64, count=len(names))


def _renumber(values: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.unique(values, return_inverse=True)[1].reshape(-1).astype(np.int64)
