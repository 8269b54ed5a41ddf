"""Signed square roots of a vector's elements.

Of mean activations a few large elements rule every product. Their roots differ less, so more elements have a say (power
normalisation: Perronnin, Sanchez and Mensink 2010; the Hellinger kernel of Arandjelovic and Zisserman 2012).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["signed_sqrt"]


def signed_sqrt(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """sign(x) * sqrt(|x|) of each element, in float64, whose roots are correctly rounded: the same on any machine."""
    wide = vectors.astype(np.float64)
    roots: NDArray[np.float64] = np.sign(wide) * np.sqrt(np.abs(wide))
    return roots
