"""How many terms an image shares with each of many others, without posting lists: what an index is compared with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search.index.compiled import compiled

__all__ = ["count_shared"]


@compiled
def count_shared(asked: NDArray[np.uint32], terms: NDArray[np.uint32], overlaps: NDArray[np.uint16]) -> None:
    """Fills `overlaps` (n,) with the number of equal terms of `asked` (groups,) and each row of `terms` (n, groups)."""
    for row in range(terms.shape[0]):
        count = np.uint32(0)
        for group in range(terms.shape[1]):
            if terms[row, group] == asked[group]:
                count += np.uint32(1)
        overlaps[row] = count
