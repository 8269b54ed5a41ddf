"""Features of homographies that are known: what an edit did must be read off them."""

from __future__ import annotations

import numpy as np
import pytest

from training.labelling.verification import FEATURES, NO_MATCH, Verification, explain, polygon_area

SIZE = (200, 100)
GRID = np.array([[x, y] for x in range(10, 200, 20) for y in range(10, 100, 20)], dtype=np.float64)


def moved(homography: np.ndarray, points: np.ndarray) -> np.ndarray:
    lifted = np.column_stack([points, np.ones(len(points))]) @ homography.T
    return lifted[:, :2] / lifted[:, 2:]


def explained(homography: np.ndarray, sizes: tuple[tuple[int, int], tuple[int, int]] = (SIZE, SIZE)) -> Verification:
    target = moved(homography, GRID)
    return explain(homography, GRID, target, np.ones(len(GRID), dtype=bool), (80, 60), sizes)


def test_an_equal_picture() -> None:
    found = explained(np.eye(3))
    assert (found.matches, found.inliers, found.inlier_ratio) == (50, 50, 1)
    assert found.matched_share == pytest.approx(50 / 60)
    assert (found.overlap_smaller, found.overlap_larger) == pytest.approx((1, 1))
    assert found.spread == pytest.approx(180 * 80 / (200 * 100))
    assert (found.residual, found.scale, found.rotation) == pytest.approx((0, 1, 0))
    assert (found.stretch, found.perspective) == pytest.approx((1, 1))


def test_a_crop_shows_all_of_itself_and_a_part_of_the_original() -> None:
    crop = np.array([[1.0, 0, -50], [0, 1, -25], [0, 0, 1]])
    found = explained(crop, (SIZE, (100, 50)))
    assert (found.overlap_smaller, found.overlap_larger) == pytest.approx((0.25, 1))


def test_scale_is_the_same_for_either_direction() -> None:
    larger, smaller = np.diag([2.0, 2, 1]), np.diag([0.5, 0.5, 1])
    assert explained(larger, (SIZE, (400, 200))).scale == pytest.approx(2)
    assert explained(smaller, (SIZE, (100, 50))).scale == pytest.approx(2)


@pytest.mark.parametrize("degrees", [0, 30, 90, 179])
def test_rotation_in_degrees(degrees: float) -> None:
    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    turn = np.array([[cosine, -sine, 100], [sine, cosine, 50], [0, 0, 1]])
    centred = turn @ np.array([[1.0, 0, -100], [0, 1, -50], [0, 0, 1]])
    found = explained(centred)
    assert (found.rotation, found.scale, found.stretch) == pytest.approx((degrees, 1, 1), abs=1e-6)


def test_stretch_and_perspective() -> None:
    assert explained(np.diag([1.0, 0.5, 1])).stretch == pytest.approx(2)
    tilted = np.array([[1.0, 0, 0], [0, 1, 0], [0.002, 0, 1]])
    # The enlargement of area goes with the third power of the depth, here 1 to 1.4.
    assert explained(tilted).perspective == pytest.approx(1.4**3)


def test_residual_is_the_median_distance_of_inliers() -> None:
    target = GRID + np.array([3.0, 4.0])
    inlier = np.ones(len(GRID), dtype=bool)
    assert explain(np.eye(3), GRID, target, inlier, (50, 50), (SIZE, SIZE)).residual == pytest.approx(5)


@pytest.mark.parametrize(
    "homography",
    [
        np.array([[1.0, 0, 500], [0, 1, 0], [0, 0, 1]]),
        np.array([[1.0, 0, 0], [0, 1, 0], [-0.01, 0, 1]]),
        np.full((3, 3), np.nan),
    ],
    ids=["moves it out of sight", "sends a part beyond the horizon", "is no number"],
)
def test_what_is_no_edit_is_no_match(homography: np.ndarray) -> None:
    inlier = np.ones(len(GRID), dtype=bool)
    assert explain(homography, GRID, GRID, inlier, (50, 50), (SIZE, SIZE)) == NO_MATCH


def test_too_few_inliers_are_no_match() -> None:
    inlier = np.arange(len(GRID)) < 3
    assert explain(np.eye(3), GRID, GRID, inlier, (50, 50), (SIZE, SIZE)) == NO_MATCH


def test_areas() -> None:
    assert polygon_area(np.array([[0.0, 0], [4, 0], [4, 3]])) == 6
    assert polygon_area(np.array([[0.0, 0], [4, 0]])) == 0


def test_values_are_in_the_order_of_their_names() -> None:
    assert dict(zip(FEATURES, NO_MATCH.values(), strict=True))["residual"] == NO_MATCH.residual
    assert len(FEATURES) == len(NO_MATCH.values())
