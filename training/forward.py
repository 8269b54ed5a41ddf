"""The forward pass of a network on pairs, as TensorFlow operations on floats: for training and for the teacher.

Values of an image are multiplied by `UNIT` (`training.fitted_network`); bits are 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from scoring.features import PairInputs
from training.fitted_network import UNIT, FittedNetwork

__all__ = ["TAUGHT", "Teacher", "branch_inputs", "forward", "pair_inputs", "rounded"]

TAUGHT = 0.5
"""The share of the loss that is the distance to the teacher; the rest is the distance to the labels."""

_LARGEST = 127.0


def pair_inputs(inputs: PairInputs, left: Any, right: Any, left_bits: Any, right_bits: Any) -> list[Any]:
    """The first layer's inputs (pairs, size) of both images' values and bits (pairs, values or bits), in one part."""
    parts = [tf.abs(left_bits - right_bits)] if inputs.xor else []
    if inputs.values:
        parts += [tf.abs(left - right), tf.abs(left + right)]
    return [tf.concat(parts, axis=1)]


def branch_inputs(left: Any, right: Any) -> list[Any]:
    """The same of values alone, in a part for each branch (`training.branches`): (pairs, values) each."""
    halves = zip(tf.split(left, 2, axis=1), tf.split(right, 2, axis=1), strict=True)
    return [tf.concat([tf.abs(one - other), tf.abs(one + other)], axis=1) for one, other in halves]


def rounded(values: Any) -> Any:
    """Values as score codes hold them."""
    return tf.clip_by_value(tf.round(values / UNIT), -_LARGEST, _LARGEST) * UNIT


def forward(layers: Sequence[tuple[Any, Any]], parts: Sequence[Any], dropout: float) -> Any:
    """Logits (pairs) of ReLU layers, each a weight and a bias; with dropout before every layer.

    The inputs of the first layer come in one part, or in one for each branch, which takes half of the arithmetic.
    """
    (weight, bias), *later = layers
    blocks = [weight] if len(parts) == 1 else _branch_weights(weight)
    products = [tf.matmul(_dropped(part, dropout), block) for part, block in zip(parts, blocks, strict=True)]
    sums = tf.concat(products, axis=1) + bias
    for weight, bias in later:
        sums = tf.matmul(_dropped(tf.nn.relu(sums), dropout), weight) + bias
    return sums[:, 0]


def _dropped(values: Any, dropout: float) -> Any:
    return tf.nn.dropout(values, dropout) if dropout else values


def _branch_weights(weight: Any) -> list[Any]:
    """The weights of each branch: of its half of the differences and of the sums, to its half of the units."""
    rows, units = weight.shape
    halves = tf.split(tf.reshape(weight, (2, 2, rows // 4, units)), 2, axis=1)
    return [
        tf.reshape(half[..., n * units // 2 : (n + 1) * units // 2], (rows // 2, -1)) for n, half in enumerate(halves)
    ]


class Teacher:
    """A network that is no longer trained. It sees an image through its own projection."""

    def __init__(self, network: FittedNetwork, centre: NDArray[np.float32]) -> None:
        """Takes the network, and the centre that was subtracted from the student's vectors."""
        self._inputs = network.inputs
        self._layers = [(tf.constant(weight), tf.constant(bias)) for weight, bias in network.layers]
        own = network.projection
        if own is None:  # it compares bits alone
            self._shift, self._matrix = np.zeros_like(centre), np.zeros((len(centre), 0), np.float32)
        else:
            self._shift, self._matrix = centre - own.centre, own.matrix * np.float32(UNIT)

    @property
    def needs_bits(self) -> bool:
        """Whether it compares bits."""
        return self._inputs.xor

    def probabilities(self, vectors: Any, bits: tuple[Any, Any], sides: Callable[[Any], tuple[Any, Any]]) -> Any:
        """Its probability of each pair.

        Args:
            vectors: Of the images: (images, dimension), less the student's centre.
            bits: Of both images of every pair.
            sides: Splits a table with a row per image into the first and the second images of all pairs.
        """
        values = rounded(tf.matmul(vectors + self._shift, self._matrix))
        return tf.sigmoid(forward(self._layers, pair_inputs(self._inputs, *sides(values), *bits), 0.0))
