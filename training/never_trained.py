"""Known pairs that training must not meet: wherever both images turn up in one neighbourhood, the pair weighs nothing.

What a named pair stands for depends on where its two images first differ:

    in their group       all pairs across both groups: two things in one scene, whose edits look as much alike
    in their photograph  all pairs of one photograph and its edits with the other and its edits: natural copies
    in neither           the two images alone
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from training.labelled import LabelledPhotos

__all__ = ["NeverTrained"]


class NeverTrained:
    """The pairs, as sorted keys over groups, photographs and images. Immutable."""

    def __init__(self, photos: LabelledPhotos, named: Iterable[tuple[str, str]]) -> None:
        """Takes the photographs to train on and pairs of ids; what is not among the photographs matches nothing."""
        levels = [
            np.unique(names, return_inverse=True)[1].astype(np.int64)
            for names in (photos.group_id, photos.source_id, photos.image_id)
        ]
        # A photograph that is not there may have edits that are.
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
    """One number per pair, whichever of the two comes first."""
    one, other = numbers[left], numbers[right]
    keys: NDArray[np.int64] = np.minimum(one, other) * len(numbers) + np.maximum(one, other)
    return keys
