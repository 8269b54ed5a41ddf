"""Transferred edits: the change that an edit made to one photograph's embedding, applied to another photograph.

Labelled edits are few (of some hundreds of photographs), but photographs without edits are many. The change from a
photograph's embedding to its edit's carries over to other photographs. It is added to the signed square roots of the
elements (`search.hashing.signed_sqrt`), so that large elements change more than small ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.labelled import EDIT, LabelledPhotos

__all__ = ["EditTransfer"]

WEAKEST, STRONGEST = 0.6, 1.2
"""A transferred edit is multiplied by a random factor between these."""


class EditTransfer:
    """Applies the changes of labelled edits to vectors."""

    def __init__(self, photos: LabelledPhotos, vectors: NDArray[np.float32]) -> None:
        """Takes the photographs to learn from and their vectors (n, dimension), in any representation."""
        self._vectors = vectors
        self._edits, self._originals = _edits_with_originals(photos)
        self._lowest = vectors.min(axis=0, initial=np.inf)

    def apply(
        self, vectors: NDArray[np.float32], edited: NDArray[np.bool_], random: np.random.Generator
    ) -> NDArray[np.float32]:
        """A copy of vectors (n, dimension) in which those of the mask have a random edit.

        Nothing is changed if there is no labelled edit together with its photograph.
        """
        rows = np.flatnonzero(edited)
        made = vectors.copy()
        if not len(rows) or not len(self._edits):
            return made
        drawn = random.integers(0, len(self._edits), len(rows))
        strength = random.uniform(WEAKEST, STRONGEST, len(rows)).astype(np.float32)[:, None]
        change = self._vectors[self._edits[drawn]] - self._vectors[self._originals[drawn]]
        # Elements stay at or above their lowest known value: rectified activations are never negative.
        made[rows] = np.maximum(made[rows] + strength * change, self._lowest)
        return made


def _edits_with_originals(photos: LabelledPhotos) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of edits, and for each the row of its photograph, or else of a photograph of its group."""
    photographs = np.flatnonzero(photos.is_photo)[::-1]
    of_group = {photos.group_id[row]: row for row in photographs}
    of_source = {photos.image_id[row]: row for row in photographs}
    edits = [row for row in np.flatnonzero(photos.kind == EDIT) if photos.group_id[row] in of_group]
    originals = [of_source.get(photos.source_id[row], of_group[photos.group_id[row]]) for row in edits]
    return np.array(edits, dtype=np.int64), np.array(originals, dtype=np.int64)
