"""How alike are two clusterings of the same images? Pairwise and self-excluded BCubed quality, and overlaps. Pure.

One clustering is judged by the other, whose clusters are called *groups* here. A *pair* is two different images.

Pairwise
    Precision: of the pairs that share a cluster, the share that shares a group. Recall: of the pairs that share a
    group, the share that shares a cluster. A cluster of n weighs n * (n - 1) / 2, so large ones dominate.
Self-excluded BCubed
    Per image: precision is the share of the other images of its cluster that are of its group; recall is the share of
    the other images of its group that are in its cluster. Precision is the mean over the images that share a cluster
    with another one, recall over those that share a group. So an image that is alone on both sides counts in neither
    mean; one that is alone on one side counts in one of them, with 0.

BCubed (Bagga and Baldwin, 1998; Amigó et al., 2009) counts each image among its own mates. Then an image that is alone
on both sides has a perfect 1, and a clustering of mostly single images looks perfect whatever becomes of the others.
Without the image itself, all that is measured is who is put together with whom.

A mean over nothing is 1. Clusters and groups are whole numbers from 0; not every number need be in use.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ClusterQuality", "Overlap", "PrecisionRecall", "pairs_of", "quality_of"]

Labels = NDArray[np.int64]
"""(images,) the number of each image's cluster."""


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


def quality_of(
    clusters: Labels,
    groups: Labels,
    ignored: Labels | None = None,
    counted: NDArray[np.bool_] | None = None,
) -> ClusterQuality:
    """Judges clusters by groups.

    Args:
        clusters: (images,)
        groups: (images,)
        ignored: (images,) A pair with the same number here, from 0, but different groups is neither right nor wrong,
            and no count includes it; -1: there is none. None: no image has one.
        counted: (images,) whether each image counts. The others still matter as members of the clusters of counted
            ones; pairwise counts each pair with at least one counted image. None: all count.
    """
    everyone = np.ones(len(clusters), np.bool_)
    among_all = _mates(clusters, groups, ignored, everyone)
    if counted is None:
        counted, among_counted = everyone, among_all
    else:
        among_counted = _mates(clusters, groups, ignored, counted)
    return ClusterQuality(
        pairwise=_pairwise(among_all, among_counted, counted),
        bcubed=_bcubed(among_all, counted),
        images=int(counted.sum()),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Overlap:
    """How many images each cluster shares with each group, as n triples in no order."""

    clusters: Labels
    """(n,)"""
    groups: Labels
    """(n,)"""
    images: NDArray[np.int64]
    """(n,) from 1"""

    @classmethod
    def of(cls, clusters: Labels, groups: Labels) -> Overlap:
        """Counts the images, whose clusters (images,) and groups (images,) these are."""
        width = int(groups.max(initial=0)) + 1
        both, images = np.unique(clusters * width + groups, return_counts=True)
        return cls(both // width, both % width, images)

    def split_pairs(self, clusters: int) -> NDArray[np.int64]:
        """(clusters,) of each cluster, the pairs whose images are in different groups."""
        sizes = np.zeros(clusters, np.int64)
        np.add.at(sizes, self.clusters, self.images)
        together = np.zeros(clusters, np.int64)
        np.add.at(together, self.clusters, pairs_of(self.images))
        return pairs_of(sizes) - together

    def swapped(self) -> Overlap:
        """The same, from the other side."""
        return Overlap(self.groups, self.clusters, self.images)

    def equal(self, cluster_sizes: NDArray[np.int64], group_sizes: NDArray[np.int64]) -> int:
        """How many clusters have exactly the images of a group.

        Args:
            cluster_sizes: By cluster; it may have more images than are counted here.
            group_sizes: By group, likewise.
        """
        whole = (cluster_sizes[self.clusters] == self.images) & (group_sizes[self.groups] == self.images)
        return int(whole.sum())


def pairs_of(images: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many pairs there are among so many images."""
    return images * (images - 1) // 2


@dataclass(frozen=True, slots=True)
class _Mates:
    """How many other images (of a given set) share each image's cluster (less ignored ones), its group, or both."""

    cluster: NDArray[np.int64]
    group: NDArray[np.int64]
    both: NDArray[np.int64]


def _mates(clusters: Labels, groups: Labels, ignored: Labels | None, among: NDArray[np.bool_]) -> _Mates:
    itself = among.astype(np.int64)
    both = _sharing(among, clusters, groups) - itself
    in_cluster = _sharing(among, clusters) - itself
    if ignored is not None:
        strangers = _sharing(among, clusters, ignored + 1) - _sharing(among, clusters, ignored + 1, groups)
        in_cluster -= np.where(ignored >= 0, strangers, 0)
    return _Mates(in_cluster, _sharing(among, groups) - itself, both)


def _sharing(among: NDArray[np.bool_], *columns: Labels) -> NDArray[np.int64]:
    """For each image, how many images of `among` have its numbers in all these columns."""
    key = columns[0]
    for column in columns[1:]:
        # Renumbered at each step, so that the product cannot overflow.
        key = np.unique(key * (int(column.max(initial=0)) + 1) + column, return_inverse=True)[1].reshape(-1)
    counts = np.bincount(key[among], minlength=int(key.max(initial=-1)) + 1)
    return counts[key].astype(np.int64)


def _pairwise(among_all: _Mates, among_counted: _Mates, counted: NDArray[np.bool_]) -> PrecisionRecall:
    def pairs(of_all: NDArray[np.int64], of_counted: NDArray[np.int64]) -> float:
        # A pair of two counted images is counted from both sides.
        return float(of_all[counted].sum() - of_counted[counted].sum() / 2)

    both = pairs(among_all.both, among_counted.both)
    return PrecisionRecall(
        _share(both, pairs(among_all.cluster, among_counted.cluster)),
        _share(both, pairs(among_all.group, among_counted.group)),
    )


def _bcubed(mates: _Mates, counted: NDArray[np.bool_]) -> PrecisionRecall:
    def mean_share(whole: NDArray[np.int64]) -> float:
        chosen = counted & (whole > 0)
        return float((mates.both[chosen] / whole[chosen]).mean()) if chosen.any() else 1.0

    return PrecisionRecall(mean_share(mates.cluster), mean_share(mates.group))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 1.0
