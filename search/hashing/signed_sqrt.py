"""Signed square roots of a vector's elements.

A few large mean activations dominate every product of embeddings. Their square roots differ less, so more elements
count (power normalisation: Perronnin, Sanchez and Mensink 2010; the Hellinger kernel of Arandjelovic and Zisserman
2012).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["signed_sqrt"]


def signed_sqrt(vectors: NDArray[np.float32], out: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """sign(x) * sqrt(|x|) of each element, in float64. IEEE 754 rounds it correctly, so all machines agree.

    Args:
        vectors: Of any shape.
        out: Takes the roots; None: a new array does.

    Returns:
        The roots. Those of zeros may have either sign.
    """
    roots = np.empty(vectors.shape, np.float64) if out is None else out
    np.copyto(roots, vectors)
    np.abs(roots, out=roots)
    np.sqrt(roots, out=roots)
    np.copysign(roots, vectors, out=roots)
    return roots
