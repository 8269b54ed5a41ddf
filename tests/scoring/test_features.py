"""Pair features: the XOR of two codes, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from core.errors import BadInputError
from scoring.features import PairInputs, as_codes, hamming_distances, pair_bits, unpack_codes
from search.hashing.score_codes import CodeSettings

CODES = arrays(np.uint8, st.tuples(st.just(2), st.integers(0, 6), st.just(5)))


@given(CODES)
def test_pair_bits_say_where_codes_differ(pair: np.ndarray) -> None:
    left, right = pair
    bits = pair_bits(left, right)
    for row in range(len(left)):
        one, other = (int.from_bytes(code[row].tobytes(), "big") for code in (left, right))
        assert int("".join(map(str, bits[row])) or "0", 2) == one ^ other
    np.testing.assert_array_equal(bits, pair_bits(right, left))
    np.testing.assert_array_equal(hamming_distances(left, right), bits.sum(axis=1))


def test_unpacking_undoes_the_packing_of_the_projection() -> None:
    projection = CodeSettings(dimension=12, bits=40, seed=3).build()
    vectors = np.random.RandomState(0).standard_normal((7, 12)).astype(np.float32)
    np.testing.assert_array_equal(unpack_codes(projection.codes(vectors, [])), projection.hyperplanes.bits(vectors))


def test_distances_broadcast() -> None:
    codes = np.arange(12, dtype=np.uint8).reshape(4, 3)
    distances = hamming_distances(codes[:, None], codes[None])
    assert distances.shape == (4, 4)
    np.testing.assert_array_equal(np.diag(distances), 0)


@pytest.mark.parametrize(
    "codes",
    [np.zeros((3, 4), np.uint8), np.zeros((3, 5), np.int64), np.zeros(5, np.uint8), b"12345", [[1.5] * 5]],
)
def test_other_shapes_and_types_are_refused(codes: object) -> None:
    with pytest.raises(BadInputError, match=r"\(n, 5\) uint8 were expected"):
        as_codes(codes, 5)


def test_inputs_are_xor_differences_and_sums() -> None:
    left = np.array([[0b10100000, 3, 256 - 127]], np.uint8)
    right = np.array([[0b00100001, 256 - 5, 127]], np.uint8)
    inputs = PairInputs(bits=8, values=2)
    assert inputs.of(left, right).tolist() == [[1, 0, 0, 0, 0, 0, 0, 1, 8, 254, 2, 0]]
    assert PairInputs(8, 2, xor=False).of(left, right).tolist() == [[8, 254, 2, 0]]
    lowest = np.array([[0, 128, 128]], np.uint8)
    assert PairInputs(8, 2, xor=False).of(lowest, lowest).tolist() == [[0, 0, 256, 256]]
    assert (inputs.size, inputs.code_bytes, inputs.largest.tolist()) == (12, 3, [1] * 8 + [256] * 4)


@given(arrays(np.int8, st.tuples(st.just(2), st.integers(0, 6), st.just(5))))
def test_inputs_are_the_same_for_either_order_and_within_bounds(pair: np.ndarray) -> None:
    left, right = pair.view(np.uint8)
    inputs = PairInputs(bits=16, values=3)
    made = inputs.of(left, right)
    np.testing.assert_array_equal(made, inputs.of(right, left))
    assert made.shape == (len(left), inputs.size)
    assert (made <= inputs.largest).all()


@pytest.mark.parametrize(("bits", "values", "xor"), [(12, 0, True), (0, 4, True), (8, -1, True), (8, 0, False)])
def test_layouts_that_hold_nothing_are_refused(bits: int, values: int, xor: bool) -> None:
    with pytest.raises(BadInputError):
        PairInputs(bits, values, xor)
