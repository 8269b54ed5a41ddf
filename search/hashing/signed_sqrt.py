"""Signed square roots of a vector's elements.

A few large mean activations dominate every product of embeddings. Their square roots differ less, so more elements
count (power normalisation: Perronnin, Sanchez and Mensink 2010; the Hellinger kernel of Arandjelovic and Zisserman
2012).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["signed_sqrt"]


def signed_sqrt(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """sign(x) * sqrt(|x|) of each element, in float64. IEEE 754 rounds it correctly, so all machines agree."""
    wide = vectors.astype(np.float64)
    roots: NDArray[np.float64] = np.sign(wide) * np.sqrt(np.abs(wide))
    return roots
