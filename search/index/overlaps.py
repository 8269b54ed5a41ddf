"""How many terms images share with each of many others, without posting lists: what an index is compared with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search.index.compiled import compiled

__all__ = ["count_shared"]

_BLOCK = 64
"""Rows that are compared with all that is asked for while they lie in the first cache: 32 kB of 128 terms each."""


@compiled
def count_shared(asked: NDArray[np.uint32], terms: NDArray[np.uint32], overlaps: NDArray[np.uint16]) -> None:
    """Fills `overlaps` (q, n) with the number of equal terms of each row of `asked` (q, groups) and of `terms` (n,
    groups).
    """
    for first in range(0, terms.shape[0], _BLOCK):
        for query in range(asked.shape[0]):
            for row in range(first, min(first + _BLOCK, terms.shape[0])):
                count = np.uint32(0)
                for group in range(terms.shape[1]):
                    if terms[row, group] == asked[query, group]:
                        count += np.uint32(1)
                overlaps[query, row] = count
