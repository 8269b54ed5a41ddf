"""Two towers: values of one embedding each, and units that compare the values of one embedding each.

Where a fitted projection takes both embeddings of an image, the first half of the values looks at the score embedding
and the second at the search embedding; one half of the first layer's units sees each half of the values. The layers
after it bring both together. In trials this was as good as letting everything see everything, at half the arithmetic.
What a weight may not see is zero, so that oracle and exactness know nothing of towers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scoring.features import PairInputs

__all__ = ["first_layer_mask", "has_towers", "projection_mask"]


def projection_mask(dimension: int, search_dimension: int, values: int) -> NDArray[np.float32]:
    """Which elements a value may look at: (dimension + search_dimension, values) of 0 and 1."""
    mask = np.ones((dimension + search_dimension, values), np.float32)
    if search_dimension:
        mask[:dimension, values // 2 :] = 0
        mask[dimension:, : values // 2] = 0
    return mask


def first_layer_mask(inputs: PairInputs, units: int) -> NDArray[np.float32]:
    """Which inputs a unit of the first layer may look at: (inputs, units) of 0 and 1; bits are seen by all."""
    mask = np.ones((inputs.size, units), np.float32)
    half = inputs.values // 2
    for start in (inputs.size - 2 * inputs.values, inputs.size - inputs.values):  # differences, sums
        mask[start : start + half, units // 2 :] = 0
        mask[start + half : start + inputs.values, : units // 2] = 0
    return mask


def has_towers(weights: NDArray[np.int64], inputs: PairInputs) -> bool:
    """Whether a first layer (inputs, units) has them: nothing is lost where each half is multiplied by itself."""
    if inputs.xor or inputs.values % 2 or weights.shape[1] % 2:
        return False
    return not weights[first_layer_mask(inputs, weights.shape[1]) == 0].any()
