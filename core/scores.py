"""How scores are shown. The classifier gives float32, which prints badly as a float64 (0.9300000071525574)."""

from __future__ import annotations

import numpy as np

__all__ = ["shortest"]


def shortest(score: float) -> float:
    """The float with the fewest digits that is the same float32."""
    return float(str(np.float32(score)))
