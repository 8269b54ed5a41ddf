"""What a network makes of pairs, as TensorFlow operations on floats: for training, and for the networks that teach.

Values of an image come times `UNIT` (`training.fitted_network`), bits as 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from scoring.features import PairInputs
from training.fitted_network import UNIT, FittedNetwork

__all__ = ["TAUGHT", "Teachers", "forward", "pair_inputs", "rounded"]

TAUGHT = 0.5
"""The share of the loss that is the distance to the teachers; the rest is that to the labels."""

_LARGEST = 127.0


def pair_inputs(inputs: PairInputs, left: Any, right: Any, left_bits: Any, right_bits: Any) -> Any:
    """The first layer's inputs (pairs, size) of both images' values and bits (pairs, values or bits)."""
    parts = [tf.abs(left_bits - right_bits)] if inputs.xor else []
    if inputs.values:
        parts += [tf.abs(left - right), tf.abs(left + right)]
    return tf.concat(parts, axis=1)


def rounded(values: Any) -> Any:
    """Values as score codes hold them."""
    return tf.clip_by_value(tf.round(values / UNIT), -_LARGEST, _LARGEST) * UNIT


def forward(layers: Sequence[tuple[Any, Any]], values: Any, dropout: float) -> Any:
    """Logits (pairs) of ReLU layers, each a weight and a bias; with dropout before every layer."""
    for weight, bias in layers[:-1]:
        if dropout:
            values = tf.nn.dropout(values, dropout)
        values = tf.nn.relu(tf.matmul(values, weight) + bias)
    if dropout:
        values = tf.nn.dropout(values, dropout)
    weight, bias = layers[-1]
    return (tf.matmul(values, weight) + bias)[:, 0]


@dataclass(frozen=True, eq=False)
class _Teacher:
    inputs: PairInputs
    layers: list[tuple[Any, Any]]
    shift: NDArray[np.float32]
    """Added to the vectors that the student sees: its centre is another."""
    projection: NDArray[np.float32]


class Teachers:
    """Networks that are not trained any more; each sees an image through its own projection."""

    def __init__(self, networks: Sequence[FittedNetwork], centre: NDArray[np.float32]) -> None:
        """Takes the networks, and the centre that the student's vectors lack."""
        self._teachers = [_constant(network, centre) for network in networks]

    @property
    def count(self) -> int:
        """How many there are; without any there are no probabilities."""
        return len(self._teachers)

    @property
    def need_bits(self) -> bool:
        """Whether one of them compares bits."""
        return any(teacher.inputs.xor for teacher in self._teachers)

    def probabilities(self, vectors: Any, bits: tuple[Any, Any], sides: Callable[[Any], tuple[Any, Any]]) -> Any:
        """The probability of the mean logit, per pair.

        Args:
            vectors: Of the images: (images, dimension), less the student's centre.
            bits: Of both images of every pair.
            sides: Deals out a table with a row per image to the first and second images of all pairs.
        """
        logits = []
        for teacher in self._teachers:
            values = rounded(tf.matmul(vectors + teacher.shift, teacher.projection))
            logits.append(forward(teacher.layers, pair_inputs(teacher.inputs, *sides(values), *bits), 0.0))
        return tf.sigmoid(tf.add_n(logits) / len(logits))


def _constant(network: FittedNetwork, centre: NDArray[np.float32]) -> _Teacher:
    layers = [(tf.constant(weight), tf.constant(bias)) for weight, bias in network.layers]
    own = network.projection
    if own is None:  # compares bits alone
        return _Teacher(network.inputs, layers, np.zeros_like(centre), np.zeros((len(centre), 0), np.float32))
    return _Teacher(network.inputs, layers, centre - own.centre, own.matrix * np.float32(UNIT))
