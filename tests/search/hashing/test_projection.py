"""The projection is exact: equal to an integer product, the same for a row alone as for the row in any batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from core.errors import BadInputError, SettingsError
from search.hashing.projection import MAX_DIMENSION, PLANE_NORM, Hyperplanes

DIMENSION = 48
SMALL = Hyperplanes(DIMENSION, 80, seed=7, centre=np.linspace(-1, 1, DIMENSION))

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def vectors(rows: int, dimension: int, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).standard_normal((rows, dimension)).astype(np.float32)


@given(arrays(np.float32, st.tuples(st.integers(0, 9), st.just(DIMENSION)), elements=FINITE))
@settings(deadline=None)
def test_any_batch_equals_its_rows_alone(batch: np.ndarray) -> None:
    together = SMALL.bits(batch)
    assert together.shape == (len(batch), SMALL.size)
    for row, bits in zip(batch, together, strict=True):
        assert np.array_equal(SMALL.bits(row[None]), bits[None])


@given(arrays(np.float32, st.tuples(st.integers(1, 5), st.just(DIMENSION)), elements=FINITE))
@settings(deadline=None)
def test_the_product_equals_the_integer_product(batch: np.ndarray) -> None:
    rounded = SMALL.quantise(batch)
    whole = rounded.astype(np.int64)
    assert np.array_equal(whole, rounded)
    exact = whole @ SMALL.planes.astype(np.int64).T
    assert np.array_equal(rounded @ SMALL.planes.T.astype(np.float32), exact)
    assert np.array_equal(SMALL.bits(batch), exact > 0)


@pytest.mark.parametrize(("dimension", "bits"), [(2, 40), (768, 1024), (1280, 1024), (4096, 64)])
def test_rows_of_real_size_are_exact_in_any_batch_and_any_order(dimension: int, bits: int) -> None:
    planes = Hyperplanes(dimension, bits, seed=3)
    batch = np.vstack(
        [
            vectors(20, dimension),
            # The worst case of a sum: each vector lies along a hyperplane.
            planes.planes[:20].astype(np.float32),
            np.abs(vectors(5, dimension)),
            np.full((1, dimension), 3e38, np.float32),
            np.full((1, dimension), 1e-45, np.float32),
            np.eye(dimension, dtype=np.float32)[:3],
        ]
    )
    rounded = planes.quantise(batch)
    exact = rounded.astype(np.int64) @ planes.planes.astype(np.int64).T
    assert np.abs(exact).max() < 2**24
    assert np.array_equal(planes.bits(batch), exact > 0)
    for size in (1, 2, 3, 7, 16):
        parts = [planes.bits(batch[start : start + size]) for start in range(0, len(batch), size)]
        assert np.array_equal(np.vstack(parts), exact > 0)
    order = np.random.RandomState(1).permutation(dimension)
    shuffled = rounded[:, order] @ planes.planes.T[order].astype(np.float32)
    assert np.array_equal(shuffled, exact)


@given(arrays(np.float32, st.just((3, DIMENSION)), elements=FINITE), st.integers(-20, 20))
@settings(deadline=None)
def test_norms_stay_below_their_bounds_and_powers_of_two_change_nothing(batch: np.ndarray, power: int) -> None:
    plain = Hyperplanes(DIMENSION, 16, seed=1)
    rounded = plain.quantise(batch)
    norms = np.sqrt((rounded.astype(np.float64) ** 2).sum(axis=1))
    slack = 0.5 * np.sqrt(DIMENSION)
    zero = ~batch.any(axis=1)
    assert (norms <= PLANE_NORM + slack).all()
    assert (norms[~zero] >= PLANE_NORM / 2 - slack).all()
    assert (norms[zero] == 0).all()
    with np.errstate(over="ignore"):
        scaled = np.ldexp(batch, power)
    exact = np.isfinite(scaled).all() and np.array_equal(np.ldexp(scaled, -power), batch)
    if exact:
        assert np.array_equal(plain.quantise(scaled), rounded)


def test_bits_agree_with_the_angle_between_vectors() -> None:
    # Two vectors at an angle t differ in a bit with probability t / pi; 4,096 bits put 0.03 beyond four sigmas.
    planes = Hyperplanes(256, 4096, seed=11)
    first = vectors(1, 256, seed=5)[0]
    other = vectors(1, 256, seed=6)[0]
    other -= first * (first @ other) / (first @ first)
    other *= np.linalg.norm(first) / np.linalg.norm(other)
    for angle in (0.1, 0.5, 1.0, 2.0):
        turned = np.cos(angle) * first + np.sin(angle) * other
        left, right = planes.bits(np.stack([first, turned]))
        assert abs((left != right).mean() - angle / np.pi) < 0.03


def test_float16_and_float32_of_the_same_values_agree() -> None:
    half = vectors(8, DIMENSION).astype(np.float16)
    assert np.array_equal(SMALL.codes(half), SMALL.codes(half.astype(np.float32)))


def test_codes_are_the_packed_bits_first_bit_highest() -> None:
    batch = vectors(4, DIMENSION)
    codes = SMALL.codes(batch)
    assert codes.shape == (4, SMALL.code_bytes) == (4, 10)
    assert np.array_equal(np.unpackbits(codes, axis=1).astype(bool), SMALL.bits(batch))


def test_a_vector_at_the_centre_has_no_bit() -> None:
    assert SMALL.centre is not None
    assert not SMALL.bits(SMALL.centre[None]).any()


def test_hyperplanes_of_a_block_are_orthogonal_up_to_rounding() -> None:
    planes = Hyperplanes(64, 100, seed=2).planes.astype(np.float64)
    for block in (planes[:64], planes[64:]):
        gram = block @ block.T / PLANE_NORM**2
        assert np.abs(gram - np.eye(len(block))).max() < 0.01


def test_the_fingerprint_names_parameters_centre_and_integers() -> None:
    prints = {
        Hyperplanes(16, 8, 1).fingerprint,
        Hyperplanes(16, 16, 1).fingerprint,
        Hyperplanes(8, 8, 1).fingerprint,
        Hyperplanes(16, 8, 2).fingerprint,
        Hyperplanes(16, 8, 1, np.zeros(16)).fingerprint,
        Hyperplanes(16, 8, 1, np.ones(16)).fingerprint,
    }
    assert len(prints) == 6
    assert Hyperplanes(16, 8, 1, np.ones(16)).fingerprint == Hyperplanes(16, 8, 1, [1.0] * 16).fingerprint


def test_the_construction_is_frozen() -> None:
    # Indexes and models on disk rest on these integers: a change of this value makes all of them useless.
    expected = "a6c4bcfcefd1d89bc1a9bbfc55135a18b83f18c11fa311995e31c3567808cf56"
    assert Hyperplanes(1280, 1024, seed=20_240_501).fingerprint == expected


@pytest.mark.parametrize(
    "arguments",
    [
        (1, 8, 0),
        (MAX_DIMENSION + 1, 8, 0),
        (8, 0, 0),
        (8, 8, -1),
        (8, 8, 2**32),
        (8, 8, 0, np.zeros(7)),
        (8, 8, 0, np.full(8, np.nan)),
    ],
)
def test_parameters_out_of_range_are_refused(arguments: tuple[object, ...]) -> None:
    with pytest.raises(SettingsError):
        Hyperplanes(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(DIMENSION,), (2, DIMENSION + 1), (1, 2, DIMENSION)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadInputError, match=str(DIMENSION)):
        SMALL.bits(np.ones(shape, np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_by_row(value: float) -> None:
    batch = vectors(5, DIMENSION)
    batch[3, 2] = value
    with pytest.raises(BadInputError, match="row 3"):
        SMALL.bits(batch)


def test_no_vectors_give_no_codes() -> None:
    assert SMALL.codes(np.empty((0, DIMENSION), np.float32)).shape == (0, 10)


def test_packing_needs_whole_bytes() -> None:
    with pytest.raises(SettingsError, match="multiple of 8"):
        Hyperplanes(DIMENSION, 12, seed=9).codes(vectors(1, DIMENSION))
