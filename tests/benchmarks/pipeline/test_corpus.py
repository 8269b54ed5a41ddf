"""Ids, parts and mates of the images of `make bench-pipeline`."""

from __future__ import annotations

import numpy as np

from benchmarks.pipeline.corpus import Mates, image_name, image_number, parts_of
from manifests.image_files import ImageRow, Vector

MATES = Mates(np.array([0, 1, 0, 0, 1, 5]))


def _row(number: int) -> ImageRow:
    return ImageRow(image_name(number), 1, 0, Vector(1, b""), Vector(1, b""))


def test_a_name_tells_the_number() -> None:
    assert [image_number(image_name(number)) for number in (0, 7, 123_456_789)] == [0, 7, 123_456_789]


def test_parts_end_with_the_count_or_with_the_rows() -> None:
    rows = iter([_row(number) for number in range(9)])
    assert [len(part) for part in parts_of(rows, 5, 2)] == [2, 2, 1]
    assert [part[0].image_id for part in parts_of(rows, 10, 3)] == [image_name(5), image_name(8)]


def test_mates_are_the_others_of_the_same_original() -> None:
    assert [sorted(MATES.of(image).tolist()) for image in range(6)] == [[2, 3], [4], [0, 3], [0, 2], [1], []]


def test_the_sample_leaves_out_images_without_mates_or_with_too_many() -> None:
    assert sorted(MATES.sample(10, most=2)) == [0, 1, 2, 3, 4]
    assert sorted(MATES.sample(10, most=1)) == [1, 4]
    assert len(MATES.sample(3, most=2)) == 3


def test_recall_is_the_mean_share_of_mates_found() -> None:
    assert MATES.recall([0, 1], [[2, 5], [4, 0]]) == (0.5 + 1.0) / 2
    assert MATES.recall([], []) == 0.0
