"""A network as training returns it: layers of floats, and the projection learnt with it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from scoring.features import PairInputs
from search.hashing.fitted_projection import FittedProjection
from training.exact_network import ExactNetwork, quantise

__all__ = ["UNIT", "FittedNetwork", "widened"]

UNIT = 1.0 / 32
"""In training, values are multiplied by this before the first layer, so that all inputs have about the same size."""


@dataclass(frozen=True, eq=False, slots=True)
class FittedNetwork:
    """The network of the best round: layers as trained (on values times `UNIT`), and the projection."""

    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]
    inputs: PairInputs
    projection: FittedProjection | None
    rounds: int

    def exact(self) -> ExactNetwork:
        """The network as it is served."""
        weights = [weight for weight, _ in self.layers]
        scale = np.where(self.inputs.largest > 1, UNIT, 1.0).astype(np.float32)
        first, biases = weights[0] * scale[:, None], [bias for _, bias in self.layers]
        return quantise([first, *weights[1:]], biases, inputs=self.inputs)


def widened(fitted: FittedNetwork, hidden: tuple[int, ...], inputs: PairInputs, seed: int) -> FittedNetwork:
    """The same function as a larger network: added units have random input and zero output weights.

    Raises:
        ValueError: The new sizes are smaller, or of another number of layers.
    """
    random = np.random.default_rng(seed)
    sizes = (inputs.size, *hidden, 1)
    if len(sizes) != len(fitted.layers) + 1:
        raise ValueError(f"{len(fitted.layers) - 1} hidden layers cannot become {len(hidden)}")
    layers: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    for (weight, bias), (rows, columns) in zip(fitted.layers, pairwise(sizes), strict=True):
        if weight.shape[0] > rows or weight.shape[1] > columns:
            raise ValueError(f"a layer of {weight.shape} cannot become one of {(rows, columns)}")
        large = (random.standard_normal((rows, columns)) * (2 / rows) ** 0.5).astype(np.float32)
        # The old inputs come last in the first layer (values follow bits), and first in later layers.
        first = rows - weight.shape[0] if not layers else 0
        large[:, : weight.shape[1]] = 0
        large[first : first + weight.shape[0], : weight.shape[1]] = weight
        layers.append((large, np.pad(bias, (0, columns - len(bias)))))
    return FittedNetwork(tuple(layers), inputs, fitted.projection, fitted.rounds)
