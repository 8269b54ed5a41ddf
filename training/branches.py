"""Two branches: values of one embedding each, and first-layer units that compare the values of one embedding each.

A fitted projection may take both embeddings of an image. Then the first half of the values comes from the score
embedding, the second half from the search embedding. One half of the first layer's units sees each half of the values;
the later layers combine them. In trials this was as good as connecting everything, at half the arithmetic.

A weight that a unit may not use is zero. So the oracle and the exactness proof need to know nothing of branches.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scoring.features import PairInputs

__all__ = ["first_layer_mask", "has_branches", "projection_mask"]


def projection_mask(dimension: int, search_dimension: int, values: int) -> NDArray[np.float32]:
    """Which elements a value may depend on: (dimension + search_dimension, values) of 0 and 1."""
    mask = np.ones((dimension + search_dimension, values), np.float32)
    if search_dimension:
        mask[:dimension, values // 2 :] = 0
        mask[dimension:, : values // 2] = 0
    return mask


def first_layer_mask(inputs: PairInputs, units: int) -> NDArray[np.float32]:
    """Which inputs a unit of the first layer may use: (inputs, units) of 0 and 1. All units may use the bits."""
    mask = np.ones((inputs.size, units), np.float32)
    half = inputs.values // 2
    for start in (inputs.size - 2 * inputs.values, inputs.size - inputs.values):  # differences, sums
        mask[start : start + half, units // 2 :] = 0
        mask[start + half : start + inputs.values, : units // 2] = 0
    return mask


def has_branches(weights: NDArray[np.int64], inputs: PairInputs) -> bool:
    """Whether a first layer (inputs, units) has branches, so that each half can be multiplied by itself."""
    if inputs.xor or inputs.values % 2 or weights.shape[1] % 2:
        return False
    return not weights[first_layer_mask(inputs, weights.shape[1]) == 0].any()
