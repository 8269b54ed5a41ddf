"""The exact network: its sums stay within what floats hold, whatever the weights, and it follows the trained one."""

from __future__ import annotations

from itertools import pairwise
from operator import mul

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import BadInputError
from scoring.features import PairInputs, pair_bits
from training.exact_network import Calibration, ExactNetwork, quantise

Layers = tuple[list[np.ndarray], list[np.ndarray]]


def trained(sizes: tuple[int, ...], seed: int = 0, scale: float = 1.0) -> Layers:
    random = np.random.RandomState(seed)
    weights = [
        (scale * random.standard_normal(shape) * (2 / shape[0]) ** 0.5).astype(np.float32) for shape in pairwise(sizes)
    ]
    return weights, [(scale * random.standard_normal(size)).astype(np.float32) for size in sizes[1:]]


def codes(rows: int, bits: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.RandomState(seed)
    left, right = random.randint(0, 256, (2, rows, bits // 8)).astype(np.uint8)
    return left, right


def float_logits(layers: Layers, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    values = pair_bits(left, right).astype(np.float64)
    weights, biases = layers
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        values = np.maximum(values @ weight.astype(np.float64) + bias, 0)
    return (values @ weights[-1].astype(np.float64) + biases[-1])[:, 0]


def largest_sums(network: ExactNetwork) -> list[int]:
    """Bounds on the partial sums of each layer, from the inputs' bounds, in Python's unlimited whole numbers."""
    bounds, sums = network.inputs.largest.tolist(), []
    for layer in network.layers:
        columns = zip(layer.weights.T.tolist(), layer.bias.tolist(), strict=True)
        sums.append(max(sum(map(mul, map(abs, column), bounds)) + abs(bias) for column, bias in columns))
        bounds = [sums[-1] >> layer.shift] * layer.weights.shape[1]
    return sums


@pytest.mark.parametrize("sizes", [(64, 1), (64, 8, 1), (256, 32, 16, 1), (128, 16, 16, 16, 1)])
def test_follows_the_trained_network(sizes: tuple[int, ...]) -> None:
    layers = trained(sizes)
    left, right = codes(200, sizes[0])
    logits = quantise(*layers).logits(left, right)
    np.testing.assert_allclose(logits, float_logits(layers, left, right), atol=1e-3)


@given(
    st.integers(0, 2**31),
    st.sampled_from([(8, 1), (16, 5, 1), (64, 16, 8, 1)]),
    st.floats(1e-6, 1e4),
)
@settings(max_examples=60, deadline=None)
def test_no_sum_can_leave_the_budget(seed: int, sizes: tuple[int, ...], scale: float) -> None:
    first, *later = largest_sums(quantise(*trained(sizes, seed, scale)))
    assert first < 2**24
    assert all(sums < 2**53 for sums in later)


@given(st.integers(0, 2**31), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_float_products_in_any_order_equal_the_whole_numbers(seed: int, rows: int) -> None:
    """What the graph computes, with the inputs of each product shuffled: another order of every sum."""
    network = quantise(*trained((64, 16, 8, 1), seed))
    left, right = codes(rows, 64, seed)
    random = np.random.RandomState(seed)
    kind = np.float32
    values = pair_bits(left, right)
    for layer in network.layers:
        order = random.permutation(values.shape[1])
        sums = values[:, order].astype(kind) @ layer.weights[order].astype(kind) + layer.bias.astype(kind)
        kind = np.float64
        values = np.floor(np.maximum(sums, 0).astype(kind) * 2.0**-layer.shift)
    np.testing.assert_array_equal(np.ldexp(sums[:, 0], -network.logit_bits), network.logits(left, right))


VALUED = PairInputs(bits=16, values=24)


def test_values_follow_the_trained_network() -> None:
    weights, biases = trained((VALUED.size, 32, 8, 1))
    # As training leaves them: inputs of up to 254 are scaled down by the first weights.
    weights[0] = weights[0] / np.maximum(1, VALUED.largest / 4)[:, None].astype(np.float32)
    random = np.random.RandomState(3)
    left, right = random.randint(-127, 128, (2, 200, VALUED.code_bytes)).astype(np.int8).view(np.uint8)
    values = VALUED.of(left, right).astype(np.float64)
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        values = np.maximum(values @ weight.astype(np.float64) + bias, 0)
    expected = (values @ weights[-1].astype(np.float64) + biases[-1])[:, 0]
    found = quantise(weights, biases, inputs=VALUED).logits(left, right)
    np.testing.assert_allclose(found, expected, atol=0.02 * float(np.abs(expected).std()))


@given(st.integers(0, 2**31), st.floats(1e-6, 1e4))
@settings(max_examples=20, deadline=None)
def test_no_sum_of_values_can_leave_the_budget(seed: int, scale: float) -> None:
    first, *later = largest_sums(quantise(*trained((VALUED.size, 12, 1), seed, scale), inputs=VALUED))
    assert first < 2**24
    assert all(sums < 2**53 for sums in later)


def test_a_first_layer_for_other_inputs_is_refused() -> None:
    with pytest.raises(BadInputError, match="the first layer takes 40 inputs, but a pair has 64"):
        quantise(*trained((40, 1)), inputs=VALUED)


def test_scores_are_symmetric_probabilities() -> None:
    network = quantise(*trained((64, 8, 1)), Calibration(0.5, -1.0))
    left, right = codes(100, 64)
    scores = network.probabilities(left, right)
    assert scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all()
    np.testing.assert_array_equal(scores, network.probabilities(right, left))


def test_calibration_is_a_sigmoid_that_keeps_the_order() -> None:
    logits = np.linspace(-2000, 2000, 101)
    probabilities = Calibration(2.0, -3.0).probabilities(logits)
    assert (np.diff(probabilities) >= 0).all()
    assert (probabilities[0], probabilities[-1]) == (0.0, 1.0)
    assert Calibration(2.0, -3.0).probabilities(np.array([1.5]))[0] == 0.5


@pytest.mark.parametrize(("slope", "offset"), [(0.0, 0.0), (-1.0, 0.0), (np.nan, 0.0), (1.0, np.inf)])
def test_calibration_refuses_what_would_turn_the_order(slope: float, offset: float) -> None:
    with pytest.raises(BadInputError, match="positive slope"):
        Calibration(slope, offset)


def test_all_zero_weights_give_the_bias() -> None:
    network = quantise([np.zeros((16, 1), np.float32)], [np.array([0.75], np.float32)])
    np.testing.assert_array_equal(network.logits(*codes(3, 16)), [0.75] * 3)


def test_shape_of_the_network() -> None:
    network = quantise(*trained((64, 8, 4, 1)))
    assert (network.inputs.bits, network.hidden, network.parameters) == (64, (8, 4), 64 * 8 + 8 + 8 * 4 + 4 + 4 + 1)


def broken(change: str) -> Layers:
    weights, biases = trained((16, 4, 1))
    match change:
        case "a bias too many":
            biases.append(biases[0])
        case "a bias too short":
            biases[0] = biases[0][:-1]
        case "layers that do not follow":
            weights[1] = weights[1][:-1]
        case "two outputs":
            weights[1], biases[1] = np.hstack([weights[1]] * 2), np.hstack([biases[1]] * 2)
        case "not finite":
            weights[0][3, 2] = np.nan
    return weights, biases


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("a bias too many", "as many biases as weight matrices, not 3 and 2"),
        ("a bias too short", r"layer 0 has weights \(16, 4\) and biases \(3,\)"),
        ("layers that do not follow", "layer 1 takes 3 inputs, not 4"),
        ("two outputs", "2 outputs, not 1"),
        ("not finite", "layer 0 holds a value that is not finite"),
    ],
)
def test_what_is_no_network_is_refused(change: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        quantise(*broken(change))
