"""Branches: which inputs each unit may use."""

from __future__ import annotations

import numpy as np
import pytest

from scoring.features import PairInputs
from training.branches import first_layer_mask, has_branches, projection_mask


def test_half_of_the_values_look_at_each_embedding() -> None:
    np.testing.assert_array_equal(projection_mask(1, 2, 4), [[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]])
    assert projection_mask(3, 0, 5).all()


def test_half_of_the_units_compare_each_half_of_the_values() -> None:
    inputs = PairInputs(bits=8, values=4, xor=False)
    mask = first_layer_mask(inputs, 2)
    seen = [[1, 0], [1, 0], [0, 1], [0, 1]]
    np.testing.assert_array_equal(mask, [*seen, *seen])
    with_bits = first_layer_mask(PairInputs(bits=8, values=4), 2)
    assert with_bits[:8].all()
    np.testing.assert_array_equal(with_bits[8:], mask)


@pytest.mark.parametrize(("row", "column", "branches"), [(0, 0, True), (2, 0, False), (4, 1, False), (7, 1, True)])
def test_one_weight_across_makes_it_one_branch(row: int, column: int, branches: bool) -> None:
    inputs = PairInputs(bits=8, values=4, xor=False)
    weights = np.zeros((8, 2), np.int64)
    weights[row, column] = 5
    assert has_branches(weights, inputs) is branches


@pytest.mark.parametrize("inputs", [PairInputs(8, 4), PairInputs(8, 3, xor=False)])
def test_bits_and_odd_halves_have_no_branches(inputs: PairInputs) -> None:
    assert not has_branches(np.zeros((inputs.size, 2), np.int64), inputs)
