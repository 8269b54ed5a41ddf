"""Comparing two clusterings: of the images that both have, who is together with whom?

A is the measure: precision is the share of what B puts together that A does too, and recall the share of what A puts
together that B does too. Images that one side alone has are counted. They are mates of nobody in any measure; but a
cluster with one of them equals no cluster of the other side, unless such images are left out altogether.

Ids are compared by hashes of 128 bits; everything else is arithmetic on whole numbers (`clustering.comparison`). It
takes some 200 MB of memory and 150 bytes an image; the texts lie on disk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clustering.comparison import ClusterQuality, Overlap, quality_of
from core.errors import BadInputError
from manifests.id_hashes import numbered
from manifests.interface import full_disk_told
from stream.comparing.interface import Clustering
from stream.comparing.spooled import SpooledClustering
from stream.on_progress import OnProgress

__all__ = ["ClusteringCounts", "ComparedClusterings", "ComparedMember", "SplitCluster", "compare_clusterings"]

MOST_PARTS = 10
"""Of a cluster that are named."""

MOST_MEMBERS = 12
"""Of a cluster that are named."""


@dataclass(frozen=True, slots=True)
class ClusteringCounts:
    """What one side has."""

    name: str
    moment: str
    """As of when; empty: it does not change."""
    images: int
    only_here: int
    """Images that the other side does not have; they are in `images`, unless they are left out."""
    clusters: int
    singletons: int
    """Clusters of one image."""


@dataclass(frozen=True, slots=True, order=True)
class ComparedMember:
    """An image, and its cluster on both sides."""

    image_id: str
    a: str
    b: str


@dataclass(frozen=True, slots=True)
class SplitCluster:
    """A cluster of one side that is in several clusters of the other."""

    cluster: str
    images: int
    """Those that both sides have."""
    pairs: int
    """Of them, that are not together on the other side."""
    parts: Sequence[tuple[str, int]]
    """The largest clusters of the other side that have images of it, and how many."""
    part_count: int
    members: Sequence[ComparedMember]
    """Some of them, of as many parts as possible."""


@dataclass(frozen=True, slots=True)
class ComparedClusterings:
    """What was found."""

    a: ClusteringCounts
    b: ClusteringCounts
    common: int
    """Images that both sides have."""
    quality: ClusterQuality
    """Of B, judged by A."""
    equal: int
    """Clusters that have exactly the same images on both sides."""
    lost_pairs: int
    """Together in A, and not in B."""
    gained_pairs: int
    """Together in B, and not in A."""
    lost: Sequence[SplitCluster] = field(default=())
    """The clusters of A with the most lost pairs, those first."""
    gained: Sequence[SplitCluster] = field(default=())
    """The clusters of B with the most gained pairs, those first."""

    @property
    def common_share(self) -> float:
        """Of the images of either side, the share that is on both: the lower one. Images that are left out count."""
        return min(self.common / (self.common + side.only_here) for side in (self.a, self.b))


def compare_clusterings(
    a: Clustering,
    b: Clustering,
    spool: Path,
    examples: int,
    *,
    only_common: bool = False,
    on_progress: OnProgress | None = None,
) -> ComparedClusterings:
    """Reads both, and compares them.

    Args:
        a: The measure, such as the old system.
        b: What is measured, such as the new one.
        spool: A folder on a disk that takes some 50 bytes a row and the texts.
        examples: How many clusters are named, of each side.
        only_common: Images that one side alone has are left out before anything is counted.
        on_progress: Is told how far it is; the steps are `a`, `b` and `compare`.

    Raises:
        BadInputError: A value is wrong, an image is there twice, or both have no image in common.
        MismatchError: A file is not the one that a manifest names, or was made for other settings.
        UnavailableError: A side does not answer, or the disk of the spool is full.
    """
    tell = on_progress or (lambda *_: None)
    with full_disk_told(str(spool)), tempfile.TemporaryDirectory(dir=spool, prefix="compare-") as folder:
        read_a, read_b = (
            SpooledClustering.read(side, Path(folder) / word, partial(tell, word))
            for word, side in (("a", a), ("b", b))
        )
        tell("compare", 0, _STEPS)
        rows_a, rows_b = _joined(read_a, read_b)
        common = (rows_a >= 0) & (rows_b >= 0)
        if not common.any():
            raise BadInputError(f"{a.name} and {b.name} have no image in common: are the ids written in the same way?")
        tell("compare", 1, _STEPS)
        side_a, side_b = (_Labelled.of(read, rows) for read, rows in ((read_a, rows_a), (read_b, rows_b)))
        tell("compare", 2, _STEPS)
        labels_a, labels_b = side_a.labels[common], side_b.labels[common]
        if only_common:
            side_a, side_b = side_a.only(labels_a), side_b.only(labels_b)
        quality = quality_of(labels_b, labels_a)
        tell("compare", 3, _STEPS)
        overlap = Overlap.of(labels_a, labels_b)
        lost, gained = overlap.split_pairs(len(side_a.sizes)), overlap.swapped().split_pairs(len(side_b.sizes))
        tell("compare", 4, _STEPS)
        both = _Named(read_a, read_b, rows_a[common], rows_b[common])
        found = ComparedClusterings(
            a=_counts(a, side_a, int((rows_a >= 0).sum()) - len(labels_a)),
            b=_counts(b, side_b, int((rows_b >= 0).sum()) - len(labels_b)),
            common=len(labels_a),
            quality=quality,
            equal=overlap.equal(side_a.sizes, side_b.sizes),
            lost_pairs=int(lost.sum()),
            gained_pairs=int(gained.sum()),
            lost=[both.split(each, lost, labels_a, labels_b, of_a=True) for each in _most(lost, examples)],
            gained=[both.split(each, gained, labels_b, labels_a, of_a=False) for each in _most(gained, examples)],
        )
        tell("compare", _STEPS, _STEPS)
        return found


_STEPS = 5
"""Of comparing, after reading."""


def _joined(a: SpooledClustering, b: SpooledClustering) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(images,) the row of each image on either side; -1: it is not there."""
    ids_a, ids_b = a.ids(), b.ids()
    split = len(ids_a)
    ids = np.concatenate((ids_a, ids_b))
    del ids_a, ids_b
    numbers, images = numbered(ids)
    del ids
    return a.last_rows(numbers[:split], images), b.last_rows(numbers[split:], images)


@dataclass(frozen=True, slots=True, eq=False)
class _Labelled:
    """The clusters of one side, by number."""

    labels: NDArray[np.int64]
    """(images,) of each image of both sides; -1: it is not here."""
    sizes: NDArray[np.int64]
    """(clusters,)"""

    @classmethod
    def of(cls, side: SpooledClustering, rows: NDArray[np.int64]) -> _Labelled:
        here = np.flatnonzero(rows >= 0)
        hashes = side.clusters()[rows[here]]
        nameless = np.flatnonzero(~hashes.any(axis=1))
        if nameless.size:
            image_id = side.texts(int(rows[here[nameless[0]]])).image_id
            raise BadInputError(
                f"{side.name} names no cluster of the image {image_id!r}"
                f"{f' and {nameless.size - 1:,} others' if nameless.size > 1 else ''}"
            )
        numbers, clusters = numbered(hashes)
        labels = np.full(len(rows), -1, np.int64)
        labels[here] = numbers
        return cls(labels, np.bincount(numbers, minlength=clusters))

    def only(self, labels: NDArray[np.int64]) -> _Labelled:
        """The same clusters, of these images alone."""
        return _Labelled(labels, np.bincount(labels, minlength=len(self.sizes)))


def _counts(side: Clustering, labelled: _Labelled, only_here: int) -> ClusteringCounts:
    sizes = labelled.sizes
    return ClusteringCounts(
        name=side.name,
        moment=side.moment(),
        images=int(sizes.sum()),
        only_here=only_here,
        clusters=int((sizes > 0).sum()),
        singletons=int((sizes == 1).sum()),
    )


def _most(pairs: NDArray[np.int64], count: int) -> list[int]:
    """The clusters with the most pairs, those first; none without any."""
    order = np.argsort(-pairs, kind="stable")[:count]
    return [each for each in order.tolist() if pairs[each]]


@dataclass(frozen=True, slots=True, eq=False)
class _Named:
    """Finds the texts of images that both sides have; rows are (images,)."""

    a: SpooledClustering
    b: SpooledClustering
    rows_a: NDArray[np.int64]
    rows_b: NDArray[np.int64]

    def split(
        self,
        cluster: int,
        pairs: NDArray[np.int64],
        own: NDArray[np.int64],
        others: NDArray[np.int64],
        *,
        of_a: bool,
    ) -> SplitCluster:
        """What became of a cluster: `own` and `others` are the labels (images,) of its side and of the other."""
        images = np.flatnonzero(own == cluster)
        labels, first, part, sizes = np.unique(
            others[images], return_index=True, return_inverse=True, return_counts=True
        )
        by_size = np.argsort(-sizes, kind="stable")
        place = np.empty(len(labels), np.int64)
        place[by_size] = np.arange(len(labels))
        # Members in turn: the first of each part, then the second of each.
        turn = np.empty(len(images), np.int64)
        order = np.argsort(place[part], kind="stable")
        begins = np.concatenate(([0], np.cumsum(sizes[by_size])[:-1]))
        turn[order] = np.arange(len(images)) - begins[place[part][order]]
        chosen = np.lexsort((place[part], turn))[:MOST_MEMBERS]
        chosen = chosen[np.argsort(place[part][chosen], kind="stable")]
        parts = [self._member(int(images[first[each]])) for each in by_size[:MOST_PARTS].tolist()]
        members = [self._member(int(images[each])) for each in chosen.tolist()]
        return SplitCluster(
            cluster=parts[0].a if of_a else parts[0].b,
            images=len(images),
            pairs=int(pairs[cluster]),
            parts=[
                (each.b if of_a else each.a, int(size))
                for each, size in zip(parts, sizes[by_size].tolist(), strict=False)
            ],
            part_count=len(labels),
            members=members,
        )

    def _member(self, image: int) -> ComparedMember:
        image_id, cluster = self.a.texts(int(self.rows_a[image]))
        return ComparedMember(image_id, cluster, self.b.texts(int(self.rows_b[image])).cluster)
