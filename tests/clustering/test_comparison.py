"""What two clusterings have in common equals a brute-force count over all pairs, whatever their numbers are."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clustering.comparison import ClusterQuality, Overlap, PrecisionRecall, pairs_of, quality_of

Image = tuple[int, int, int, bool]
"""Cluster, group, ignored, counted."""

IMAGES = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from([-1, -1, 0, 1]), st.booleans()), max_size=24
)


def columns(images: list[Image]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    one, two, three = (np.array([image[at] for image in images], np.int64) for at in range(3))
    return one, two, three, np.array([image[3] for image in images], np.bool_)


def share(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


def is_ignored(one: Image, other: Image) -> bool:
    return one[2] >= 0 and one[2] == other[2] and one[1] != other[1]


def brute_pairwise(images: list[Image]) -> tuple[float, float]:
    both = clustered = grouped = 0
    for one, other in combinations(images, 2):
        if not (one[3] or other[3]) or is_ignored(one, other):
            continue
        same_cluster, same_group = one[0] == other[0], one[1] == other[1]
        both += same_cluster and same_group
        clustered += same_cluster
        grouped += same_group
    return share(both, clustered), share(both, grouped)


def brute_bcubed(images: list[Image]) -> tuple[float, float]:
    precisions, recalls = [], []
    for number, image in enumerate(images):
        if not image[3]:
            continue
        others = [other for at, other in enumerate(images) if at != number and not is_ignored(image, other)]
        cluster = [other for other in others if other[0] == image[0]]
        group = [other for other in others if other[1] == image[1]]
        both = [other for other in cluster if other[1] == image[1]]
        if cluster:
            precisions.append(len(both) / len(cluster))
        if group:
            recalls.append(len(both) / len(group))
    return share(sum(precisions), len(precisions)), share(sum(recalls), len(recalls))


def values(quality: ClusterQuality) -> list[float]:
    return [value for part in (quality.pairwise, quality.bcubed) for value in (part.precision, part.recall)]


@given(IMAGES)
@settings(max_examples=400)
def test_quality_equals_counting_all_pairs(images: list[Image]) -> None:
    quality = quality_of(*columns(images))
    assert values(quality) == pytest.approx([*brute_pairwise(images), *brute_bcubed(images)])
    assert quality.images == sum(image[3] for image in images)


@given(IMAGES)
def test_without_ignored_and_uncounted_images_it_is_symmetric(images: list[Image]) -> None:
    clusters, groups, _, _ = columns(images)
    all_counted = [(one, two, -1, True) for one, two, _, _ in images]
    there, back = quality_of(clusters, groups), quality_of(groups, clusters)
    assert values(there) == pytest.approx([*brute_pairwise(all_counted), *brute_bcubed(all_counted)])
    for part in ("pairwise", "bcubed"):
        one, other = getattr(there, part), getattr(back, part)
        assert (one.precision, one.recall) == pytest.approx((other.recall, other.precision))


@given(IMAGES, st.permutations(range(6)))
def test_the_numbers_of_clusters_do_not_matter(images: list[Image], other: list[int]) -> None:
    clusters, groups, ignored, counted = columns(images)
    renamed = 7 * np.array(other)[clusters] if len(images) else clusters
    assert quality_of(renamed, groups, ignored, counted) == quality_of(clusters, groups, ignored, counted)


@given(IMAGES)
def test_an_overlap_counts_shared_images_and_split_pairs(images: list[Image]) -> None:
    clusters, groups, _, _ = columns(images)
    overlap = Overlap.of(clusters, groups)
    found = {
        (one, two): many
        for one, two, many in zip(
            overlap.clusters.tolist(), overlap.groups.tolist(), overlap.images.tolist(), strict=True
        )
    }
    both = [image[:2] for image in images]
    assert found == {each: both.count(each) for each in both}
    for mine, other, split in ((0, 1, overlap.split_pairs(6)), (1, 0, overlap.swapped().split_pairs(6))):
        expected = [0] * 6
        for one, two in combinations(images, 2):
            expected[one[mine]] += one[mine] == two[mine] and one[other] != two[other]
        assert split.tolist() == expected


@given(IMAGES, st.lists(st.integers(0, 5), max_size=3))
def test_equal_clusters_have_the_same_images_and_no_others(images: list[Image], extra: list[int]) -> None:
    """Some groups have images beside those that are compared."""
    clusters, groups, _, _ = columns(images)
    group_sizes = np.bincount(groups, minlength=6) + np.bincount(np.array(extra, np.int64), minlength=6)
    sides = []
    for at in range(2):
        members = [frozenset(n for n, image in enumerate(images) if image[at] == number) for number in range(6)]
        sides.append(members)
    expected = sum(
        bool(one) and one == other and number not in extra for one in sides[0] for number, other in enumerate(sides[1])
    )
    assert Overlap.of(clusters, groups).equal(np.bincount(clusters, minlength=6), group_sizes) == expected


def test_images_that_are_alone_on_both_sides_do_not_lift_the_score() -> None:
    wrong = quality_of(np.array([0, 0]), np.array([0, 1]))
    padded = quality_of(np.array([0, 0, 1, 2, 3]), np.array([0, 1, 2, 3, 4]))
    assert wrong.bcubed == padded.bcubed == PrecisionRecall(0.0, 1.0)
    assert padded.bcubed.f1 == 0.0


def test_numbers_far_apart_are_no_overflow() -> None:
    """Five million clusters on each side, of which few images are in the same."""
    clusters, groups = np.array([0, 0, 4_999_999]), np.array([4_999_999, 4_999_999, 0])
    assert quality_of(clusters, groups).pairwise == PrecisionRecall(1.0, 1.0)
    assert Overlap.of(clusters, groups).equal(np.bincount(clusters), np.bincount(groups)) == 2


def test_pairs() -> None:
    assert pairs_of(np.array([0, 1, 2, 5])).tolist() == [0, 0, 1, 10]
