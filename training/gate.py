"""The gate of a model: the hamming distance beyond which it accepts no candidate, so that none is scored there."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray

__all__ = ["MARGIN", "choose_gate"]

MARGIN = 0.05
"""The gate lies this share above the largest distance of an accepted pair. When the pairs double in number, the largest
distance grows by about 1.2 %. So this is room for sixteen times the pairs that it was measured on."""


def choose_gate(accepted: NDArray[np.int64], bits: int) -> int | None:
    """The gate for a model.

    Args:
        accepted: The hamming distances of candidates that the model accepts.
        bits: Of a code; the gate is at most so large.

    Returns:
        None if there is no accepted pair to learn from.
    """
    return min(bits, ceil((1 + MARGIN) * int(accepted.max()))) if len(accepted) else None
