"""Known pairs that are never trained on: in a neighbourhood they get the weight zero.

A named pair stands for more pairs, depending on its two images:

    different groups         all pairs between both groups: two things in one scene, whose edits look as much alike
    different photographs    all pairs of one photograph or its edits with the other or its edits: natural copies
    neither                  the two images alone
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from training.labelled import LabelledPhotos

__all__ = ["NeverTrained"]


class NeverTrained:
    """The pairs, as sorted keys of groups, photographs and images. Immutable."""

    def __init__(self, photos: LabelledPhotos, named: Iterable[tuple[str, str]]) -> None:
        """Takes the photographs to train on, and pairs of image ids. Unknown ids are ignored."""
        levels = [
            np.unique(names, return_inverse=True)[1].astype(np.int64)
            for names in (photos.group_id, photos.source_id, photos.image_id)
        ]
        # Edits may be there without their photograph.
        rows = {name: row for row, name in enumerate(photos.source_id.tolist())}
        rows |= {name: row for row, name in enumerate(photos.image_id.tolist())}
        pairs = [(rows[one], rows[other]) for one, other in named if one in rows and other in rows]
        left, right = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        self._levels: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        for numbers in levels:
            differ = numbers[left] != numbers[right]
            keys = np.unique(_keys(numbers, left[differ], right[differ]))
            if len(keys):
                self._levels.append((numbers, keys))
            left, right = left[~differ], right[~differ]

    def among(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which pairs of images (rows of the photographs, arrays of one shape) are never trained on."""
        found = np.zeros(left.shape, dtype=bool)
        for numbers, keys in self._levels:
            wanted = _keys(numbers, left, right)
            place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            found |= keys[place] == wanted
        return found


def _keys(numbers: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """One number per pair, the same for both orders."""
    one, other = numbers[left], numbers[right]
    keys: NDArray[np.int64] = np.minimum(one, other) * len(numbers) + np.maximum(one, other)
    return keys
