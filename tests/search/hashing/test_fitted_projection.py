"""Fitted projections: exact whole numbers, whatever the batch; files that are checked when they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import BadInputError, SettingsError
from search.hashing.fitted_projection import FittedProjection, read_projection, write_projection
from search.hashing.signed_sqrt import signed_sqrt

DIMENSION, VALUES = 40, 12


def make(seed: int = 0, dimension: int = DIMENSION, values: int = VALUES) -> FittedProjection:
    random = np.random.RandomState(seed)
    weights = random.standard_normal((dimension, values))
    return FittedProjection.fitted(random.random_sample(dimension).astype(np.float32), weights, dimension**0.5)


def vectors(rows: int, seed: int = 1) -> np.ndarray:
    return (3 * np.random.RandomState(seed).standard_normal((rows, DIMENSION))).astype(np.float32)


@pytest.mark.parametrize(("split", "blocks"), [(3, 2), (6, 2), (0, 1), (7, 1)])
def test_halves_that_look_at_different_elements_are_multiplied_apart(split: int, blocks: int) -> None:
    weights = np.random.default_rng(4).integers(1, 2000, (7, 5)).astype(np.int16)
    weights[:split, 2:] = 0
    weights[split:, :2] = 0
    projection = FittedProjection(np.zeros(7, np.float32), weights, 16)
    rows = np.random.default_rng(5).random((9, 7)).astype(np.float32)
    sums = np.rint(signed_sqrt(rows) * 2**12) @ weights.astype(np.float64)
    np.testing.assert_array_equal(projection.values(rows), np.clip(np.rint(sums * 2.0**-16), -127, 127))
    assert len(projection._blocks) == blocks


def test_values_equal_those_of_whole_number_arithmetic() -> None:
    projection, rows = make(), vectors(30)
    whole = np.rint((signed_sqrt(rows) - projection.centre) * 2**12).astype(np.int64)
    sums = whole @ projection.weights.astype(np.int64)
    expected = [[max(-127, min(127, round(int(one) / 2**projection.shift))) for one in row] for row in sums]
    np.testing.assert_array_equal(projection.values(rows), expected)


@given(st.permutations(range(20)), st.integers(1, 19))
@settings(max_examples=30, deadline=None)
def test_a_row_does_not_depend_on_its_batch(order: list[int], cut: int) -> None:
    projection, rows = make(), vectors(20)
    expected = projection.values(rows)
    shuffled = rows[order]
    parts = np.concatenate([projection.values(shuffled[:cut]), projection.values(shuffled[cut:])])
    np.testing.assert_array_equal(parts, expected[order])


def test_no_sum_leaves_what_float64_holds() -> None:
    weights = np.full((16_384, 1), 2**15 - 1, np.int16)
    projection = FittedProjection(np.zeros(16_384, np.float32), weights, 48)
    huge = np.full((1, 16_384), 3e38, np.float32)
    assert 16_384 * 2**20 * (2**15 - 1) < 2**53
    assert projection.values(huge)[0, 0] == round(16_384 * 2**20 * (2**15 - 1) / 2**48)


def test_values_are_cut_off_and_negative_elements_have_negative_roots() -> None:
    projection = FittedProjection(np.zeros(2, np.float32), np.array([[1000], [0]], np.int16), 12)
    assert projection.values(np.array([[9.0, 0], [-9, 0], [0.0025, 5]], np.float32)).tolist() == [[127], [-127], [50]]


def test_fitted_weights_give_values_of_the_size_that_was_asked_for() -> None:
    projection, rows = make(values=64), vectors(500)
    spread = float(np.sqrt((projection.values(rows).astype(float) ** 2).mean()))
    assert 15 < spread < 90


def test_half_and_single_precision_give_the_same() -> None:
    rows = vectors(5).astype(np.float16)
    np.testing.assert_array_equal(make().values(rows), make().values(rows.astype(np.float32)))


def test_nothing_gives_nothing() -> None:
    assert make().values(np.empty((0, DIMENSION), np.float32)).shape == (0, VALUES)


def test_wrong_vectors_are_refused() -> None:
    with pytest.raises(BadInputError, match=r"\(n, 40\), not \(2, 39\)"):
        make().values(np.ones((2, 39), np.float32))
    rows = vectors(3)
    rows[2, 1] = np.nan
    with pytest.raises(BadInputError, match="row 2"):
        make().values(rows)


@pytest.mark.parametrize(
    ("centre", "weights", "shift", "message"),
    [
        (np.zeros(4, np.float32), np.zeros((4, 2)), 0, "int16 were expected"),
        (np.zeros(3, np.float32), np.zeros((4, 2), np.int16), 0, r"the centre is \(3,\)"),
        (np.zeros(4, np.float32), np.zeros((4, 0), np.int16), 0, "not 4 and 0"),
        (np.full(4, np.inf, np.float32), np.zeros((4, 2), np.int16), 0, "not finite"),
        (np.zeros(4, np.float32), np.zeros((4, 2), np.int16), 49, "0 to 48, not 49"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(centre: np.ndarray, weights: np.ndarray, shift: int, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        FittedProjection(centre, weights, shift)


def test_weights_that_say_nothing_are_refused() -> None:
    with pytest.raises(SettingsError, match="make no projection"):
        FittedProjection.fitted(np.zeros(4, np.float32), np.zeros((4, 2)), 1.0)


def test_a_file_keeps_the_projection(tmp_path: Path) -> None:
    write_projection(make(), tmp_path / "projection.npz")
    again = read_projection(tmp_path / "projection.npz")
    assert again.fingerprint == make().fingerprint != make(seed=1).fingerprint
    np.testing.assert_array_equal(again.values(vectors(5)), make().values(vectors(5)))


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "projection.npz"
    write_projection(make(), path)

    def fail(file: Any, **_: Any) -> None:
        file.write(b"half")
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(np, "savez_compressed", fail)
        with pytest.raises(OSError, match="disk full"):
            write_projection(make(seed=1), path)
    assert read_projection(path).fingerprint == make().fingerprint
    write_projection(make(seed=1), path)
    assert read_projection(path).fingerprint == make(seed=1).fingerprint
    assert [file.name for file in tmp_path.iterdir()] == ["projection.npz"]


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "projection.npz"
    with pytest.raises(BadInputError, match="no fitted projection"):
        read_projection(path)
    path.write_bytes(b"nothing")
    with pytest.raises(BadInputError, match="no fitted projection"):
        read_projection(path)
    np.savez(path, centre=np.zeros(3))
    with pytest.raises(BadInputError, match="no fitted projection"):
        read_projection(path)
