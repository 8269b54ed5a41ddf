"""A feed-forward network whose products are exact, so that a score never depends on its batch.

Float sums depend on their order, and a matrix product orders its sums by batch shape, thread count and processor. In a
float32 network, the probability of one pair differed by up to 3e-7 between batches of 32, 256 and 4,096 rows, and even
between two positions of one batch of 4,096. So trained weights are rounded to whole numbers, and every partial sum of
every product is a whole number that its float type holds exactly. Then the order does not matter.

    layer 1     whole inputs (0 to 256) times whole weights, sums below 2^24: exact in float32
    layers 2..  whole activations below 2^24 times whole weights, sums below 2^53: exact in float64
    between     ReLU, then an exact division by a power of two, rounded down, that brings activations below 2^24

The first layer has nine tenths of the arithmetic, so float64 in the other layers costs little. The rounding is small:
with bits as inputs, weights keep about 18 bits after the binary point and a logit changes by less than 0.001. Values
are larger inputs; with them weights keep about 8 significant bits.

The logit is a whole number times a power of two. The probability is its sigmoid after a linear calibration, in float64,
rounded to float32 at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log2

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError
from scoring.features import PairInputs

__all__ = ["Calibration", "ExactLayer", "ExactNetwork", "quantise"]

FIRST_BUDGET_BITS = 24
"""Sums of the first layer stay below 2^24: whole numbers that float32 holds."""

ACTIVATION_BITS = 24
"""Activations are brought below 2^24 after each hidden layer."""

LATER_BUDGET_BITS = 53
"""Sums of the later layers stay below 2^53: whole numbers that float64 holds."""

_PART = 8192
"""Pairs whose inputs are in memory at a time."""

_FINEST_SCALE_BITS = 60
"""The limit for weights that are all zero, which would allow any scale."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """From logit to probability: sigmoid(slope * logit + offset)."""

    slope: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        """Checks the slope: one that is not positive would reverse the order of the scores."""
        if not (self.slope > 0 and np.isfinite(self.slope) and np.isfinite(self.offset)):
            raise BadInputError(f"a calibration needs a positive slope, not {self.slope} (offset {self.offset})")

    def probabilities(self, logits: NDArray[np.float64]) -> NDArray[np.float32]:
        """The probability of each logit."""
        scaled = self.slope * logits + self.offset
        with np.errstate(over="ignore"):
            probabilities: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-scaled))
        return probabilities.astype(np.float32)


@dataclass(frozen=True, eq=False, slots=True)
class ExactLayer:
    """Whole weights (inputs, outputs), biases (outputs), and the bits by which activations are shifted after ReLU."""

    weights: NDArray[np.int64]
    bias: NDArray[np.int64]
    shift: int


@dataclass(frozen=True, eq=False, slots=True)
class ExactNetwork:
    """Layers of whole numbers, and the calibration of the logit."""

    layers: tuple[ExactLayer, ...]
    logit_bits: int
    """The last layer's sum is the logit times 2^logit_bits."""
    calibration: Calibration
    inputs: PairInputs
    """The inputs of the first layer."""

    @property
    def hidden(self) -> tuple[int, ...]:
        """Units of the hidden layers."""
        return tuple(int(layer.weights.shape[1]) for layer in self.layers[:-1])

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return sum(layer.weights.size + layer.bias.size for layer in self.layers)

    def logits(self, left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Logits (n) of codes (n, code_bytes): the reference for the served graph.

        All numbers are whole. They are held in float64, whose products are fast, and exact below 2^53.
        """
        parts = [
            self._whole_logits(left[start : start + _PART], right[start : start + _PART])
            for start in range(0, len(left), _PART)
        ]
        return np.concatenate([np.empty(0), *parts])

    def _whole_logits(self, left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float64]:
        values = self.inputs.of(left, right).astype(np.float64)
        for layer in self.layers[:-1]:
            sums = values @ layer.weights.astype(np.float64) + layer.bias
            values = np.floor(np.ldexp(np.maximum(sums, 0), -layer.shift))
        last = self.layers[-1]
        sums = (values @ last.weights.astype(np.float64) + last.bias)[:, 0]
        logits: NDArray[np.float64] = np.ldexp(sums, -self.logit_bits)
        return logits

    def probabilities(self, left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities (n) that the images of codes (n, code_bytes) are near-duplicates."""
        return self.calibration.probabilities(self.logits(left, right))


def quantise(
    weights: Sequence[NDArray[np.float32]],
    biases: Sequence[NDArray[np.float32]],
    calibration: Calibration | None = None,
    inputs: PairInputs | None = None,
) -> ExactNetwork:
    """Rounds a trained network (ReLU between its layers, one output) to an exact one.

    Args:
        weights: Per layer (inputs, outputs).
        biases: Per layer (outputs).
        calibration: From logit to probability; None: the plain sigmoid.
        inputs: The inputs of the first layer; None: the bits of a code.

    Raises:
        BadInputError: The shapes of the layers do not fit, the last has more than one output, or a value is not finite.
    """
    _check_shapes(weights, biases)
    inputs = inputs or PairInputs(weights[0].shape[0])
    if inputs.size != weights[0].shape[0]:
        raise BadInputError(f"the first layer takes {weights[0].shape[0]} inputs, but a pair has {inputs.size}")
    layers: list[ExactLayer] = []
    input_max, input_bits, budget_bits = inputs.largest, 0, FIRST_BUDGET_BITS
    for weight, bias in zip(weights, biases, strict=True):
        scale_bits = _scale_bits(weight, bias, input_max, input_bits, budget_bits)
        whole = np.rint(np.ldexp(weight.astype(np.float64), scale_bits)).astype(np.int64)
        whole_bias = np.rint(np.ldexp(bias.astype(np.float64), scale_bits + input_bits)).astype(np.int64)
        largest = int(np.max(input_max @ np.abs(whole) + np.abs(whole_bias)))
        if largest >= 2**budget_bits:
            raise AssertionError(f"a sum may reach {largest}, more than {budget_bits} bits hold")
        shift = max(0, largest.bit_length() - ACTIVATION_BITS)
        layers.append(ExactLayer(whole, whole_bias, shift))
        input_max, input_bits = np.full(weight.shape[1], largest >> shift), input_bits + scale_bits - shift
        budget_bits = LATER_BUDGET_BITS
    last = layers.pop()
    layers.append(ExactLayer(last.weights, last.bias, 0))
    return ExactNetwork(tuple(layers), input_bits + last.shift, calibration or Calibration(), inputs)


def _check_shapes(weights: Sequence[NDArray[np.float32]], biases: Sequence[NDArray[np.float32]]) -> None:
    if not weights or len(weights) != len(biases):
        raise BadInputError(f"a network needs as many biases as weight matrices, not {len(biases)} and {len(weights)}")
    for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        if weight.ndim != 2 or bias.shape != (weight.shape[1],):
            raise BadInputError(f"layer {index} has weights {weight.shape} and biases {bias.shape}")
        if index and weight.shape[0] != weights[index - 1].shape[1]:
            raise BadInputError(f"layer {index} takes {weight.shape[0]} inputs, not {weights[index - 1].shape[1]}")
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise BadInputError(f"layer {index} holds a value that is not finite: training diverged")
    if weights[-1].shape[1] != 1:
        raise BadInputError(f"the last layer has {weights[-1].shape[1]} outputs, not 1")


def _scale_bits(
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    input_max: NDArray[np.int64],
    input_bits: int,
    budget_bits: int,
) -> int:
    """The largest power of two for the weights such that no partial sum, with rounding, reaches the budget."""
    sums = input_max.astype(np.float64) @ np.abs(weight.astype(np.float64))
    sums += np.ldexp(np.abs(bias.astype(np.float64)), input_bits)
    rounding = 0.5 * (float(input_max.sum()) + 1)
    room = 2.0**budget_bits - 1 - rounding
    largest = float(sums.max())
    if room <= 0:
        raise BadInputError(f"{weight.shape[0]} inputs of up to {int(input_max.max())} leave no room for exact sums")
    return min(_FINEST_SCALE_BITS, floor(log2(room / largest))) if largest > 0 else 0
