"""How scores are shown: the classifier gives float32, which prints badly when it is widened (0.9300000071525574)."""

from __future__ import annotations

import numpy as np

__all__ = ["shortest"]


def shortest(score: float) -> float:
    """The number with the fewest digits that is the same float32."""
    return float(str(np.float32(score)))
