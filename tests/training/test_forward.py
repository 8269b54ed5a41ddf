"""The network as TensorFlow operations: a product for each branch is the product with all its zeros."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from scoring.features import PairInputs
from training.branches import first_layer_mask
from training.forward import branch_inputs, forward, pair_inputs


@pytest.mark.parametrize(("values", "units"), [(4, 2), (12, 6), (6, 10)])
def test_branches_give_the_same_logits(values: int, units: int) -> None:
    random = np.random.default_rng(values)
    inputs = PairInputs(8, values, xor=False)
    first = random.standard_normal((inputs.size, units)) * first_layer_mask(inputs, units)
    shapes = [(units, 3), (3, 1)]
    weights = [first, *(random.standard_normal(shape) for shape in shapes)]
    layers = [(tf.constant(weight, tf.float32), tf.constant(weight[0], tf.float32)) for weight in weights]
    left, right = (tf.constant(random.standard_normal((9, values)), tf.float32) for _ in range(2))
    none = tf.zeros((9, 0))
    expected = forward(layers, pair_inputs(inputs, left, right, none, none), 0.0)
    parts = branch_inputs(left, right)
    assert [part.shape.as_list() for part in parts] == [[9, values]] * 2
    np.testing.assert_allclose(forward(layers, parts, 0.0), expected, rtol=1e-5, atol=1e-5)
    assert np.abs(expected).max() > 0.1
