"""Pairs of images that a CSV file beside labelled photographs names: known adversarial pairs, natural copies."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError
from training.labelled import LabelledPhotos

__all__ = ["pairs_of_groups", "read_pairs"]


def pairs_of_groups(
    photos: LabelledPhotos,
    named: Iterable[tuple[str, str]],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Which pairs of images (rows) join the groups of any named pair of images. Unknown names are ignored."""
    groups, numbers = np.unique(photos.group_id, return_inverse=True)
    of_image = dict(zip(photos.image_id.tolist(), numbers.tolist(), strict=True))
    known = [(of_image[one], of_image[other]) for one, other in named if one in of_image and other in of_image]
    keys = np.array([min(pair) * len(groups) + max(pair) for pair in known], dtype=np.int64)
    one, other = numbers[left], numbers[right]
    return np.isin(np.minimum(one, other) * len(groups) + np.maximum(one, other), keys)


def read_pairs(path: Path) -> tuple[tuple[str, str], ...]:
    """Pairs of images from a CSV file with the columns `a` and `b`; none if there is no such file.

    Raises:
        BadInputError: It lacks a column.
    """
    if not path.is_file():
        return ()
    with path.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        if not {"a", "b"} <= set(reader.fieldnames or ()):
            raise BadInputError(f"{path} lacks the columns a and b; it has {', '.join(reader.fieldnames or ())}")
        return tuple((row["a"], row["b"]) for row in reader)
