"""Geometric verification: features of the homography between two pictures, to tell whether one is a copy. Pure.

Matched points come from local features, the homography from RANSAC (`training.labelling.matching`). Almost any two
pictures with enough matches have a homography. So the features say how many matches it explains (inliers), over how
much of the picture (overlap, spread), how well (residual, correlation of the grey values), and whether an edit could
make it (scale, stretch, perspective).

Source: Hartley and Zisserman, Multiple View Geometry, chapters 2 (homographies) and 4 (RANSAC); Sutherland and Hodgman,
Reentrant Polygon Clipping, 1974.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields

import numpy as np
from numpy.typing import NDArray

__all__ = ["FEATURES", "NO_MATCH", "Verification", "explain", "polygon_area"]

_LIMIT = 1000.0
"""Ratios are limited to this: a degenerate homography gives any number."""


@dataclass(frozen=True, slots=True)
class Verification:
    """The features of one pair. All are symmetric, except for rounding when pictures are resampled."""

    matches: float
    """Points whose best match is clearly better than the second best, in both directions."""
    inliers: float
    """Matches that the homography explains."""
    inlier_ratio: float
    """Inliers as a share of the matches."""
    matched_share: float
    """Inliers as a share of the points of the picture that has fewer."""
    overlap_smaller: float
    """The share of a picture's area that the other one shows; the smaller of both shares."""
    overlap_larger: float
    """The larger of both shares: near 1 for a crop and its original."""
    spread: float
    """Area that the inliers span, as a share of the common area: small if only a logo or caption is common."""
    residual: float
    """Median distance in pixels between an inlier and its position by the homography."""
    scale: float
    """Scale factor at the centre, 1 or more."""
    rotation: float
    """Degrees, 0 to 180."""
    stretch: float
    """Ratio of the scale factors along the two axes, 1 or more."""
    perspective: float
    """Ratio of the largest and the smallest scale factor of areas in the picture, 1 or more."""
    correlation: float
    """Correlation of the grey values, median over tiles of the common area, -1 to 1; 0 if nothing is common."""
    correlation_quarter: float = 0.0
    """Correlation of the grey values, lower quartile over tiles."""
    mirrored: float = 0.0
    """1: the second picture was mirrored to match."""

    def values(self) -> tuple[float, ...]:
        """The features in the order of `FEATURES`."""
        return astuple(self)


FEATURES = tuple(item.name for item in fields(Verification))
"""The names of the features."""

NO_MATCH = Verification(0, 0, 0, 0, 0, 0, 0, _LIMIT, _LIMIT, 0, _LIMIT, _LIMIT, 0)
"""The features of two pictures without a homography."""


def explain(
    homography: NDArray[np.float64],
    source: NDArray[np.float64],
    target: NDArray[np.float64],
    inlier: NDArray[np.bool_],
    points: tuple[int, int],
    sizes: tuple[tuple[int, int], tuple[int, int]],
) -> Verification:
    """The features of the geometry; the correlation of the grey values stays 0.

    Args:
        homography: (3, 3), from the first picture to the second.
        source: Matched points (n, 2) in the first picture, as x, y.
        target: The same points in the second picture.
        inlier: Which matches (n) the homography explains.
        points: The number of local features of each picture.
        sizes: (width, height) of each picture.
    """
    first, second = (_corners(size) for size in sizes)
    moved = _moved(homography, first)
    inliers = int(inlier.sum())
    if moved is None or inliers < 4:
        return NO_MATCH
    common = _clipped(moved, second)
    common_area = polygon_area(common)
    back = _moved(np.linalg.inv(homography), common) if common_area > 1 else None
    if back is None:
        return NO_MATCH
    shares = polygon_area(back) / polygon_area(first), common_area / polygon_area(second)
    reached = _moved(homography, source[inlier])
    if reached is None:
        return NO_MATCH
    enlargement, rotation, stretch = _at_centre(homography, first)
    return Verification(
        matches=len(source),
        inliers=inliers,
        inlier_ratio=inliers / len(source),
        matched_share=inliers / max(1, min(points)),
        overlap_smaller=min(1.0, *shares),
        overlap_larger=min(1.0, max(shares)),
        spread=min(1.0, polygon_area(_hull(target[inlier])) / common_area),
        residual=float(np.median(np.linalg.norm(reached - target[inlier], axis=1))),
        scale=enlargement,
        rotation=rotation,
        stretch=stretch,
        perspective=_perspective(homography, first),
        correlation=0.0,
    )


def polygon_area(corners: NDArray[np.float64]) -> float:
    """Area of a polygon with corners (n, 2); 0 for fewer than three corners."""
    if len(corners) < 3:
        return 0.0
    x, y = corners.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _corners(size: tuple[int, int]) -> NDArray[np.float64]:
    width, height = size
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float64)


def _moved(homography: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Points mapped by a homography; None if some are on or beyond its horizon."""
    lifted = np.column_stack([points, np.ones(len(points))]) @ homography.T
    depth = lifted[:, 2]
    if not np.isfinite(lifted).all() or (np.abs(depth) < 1e-9).any() or (np.sign(depth) != np.sign(depth[0])).any():
        return None
    found: NDArray[np.float64] = lifted[:, :2] / depth[:, None]
    return found


def _clipped(polygon: NDArray[np.float64], window: NDArray[np.float64]) -> NDArray[np.float64]:
    """The part of a convex polygon inside a convex window, whose corners go clockwise on the screen."""
    corners = list(polygon)
    for start, end in zip(window, np.roll(window, -1, axis=0), strict=True):
        along = end - start
        inside = [along[0] * (p[1] - start[1]) - along[1] * (p[0] - start[0]) for p in corners]
        kept: list[NDArray[np.float64]] = []
        for index, (point, depth) in enumerate(zip(corners, inside, strict=True)):
            before, depth_before = corners[index - 1], inside[index - 1]
            if (depth >= 0) != (depth_before >= 0):
                kept.append(before + (point - before) * (depth_before / (depth_before - depth)))
            if depth >= 0:
                kept.append(point)
        corners = kept
    return np.array(corners, dtype=np.float64).reshape(-1, 2)


def _hull(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convex hull, by Andrew's monotone chain."""
    ordered = np.unique(points, axis=0)

    def half(row: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        chain: list[NDArray[np.float64]] = []
        for point in row:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= 0:
                chain.pop()
            chain.append(point)
        return chain[:-1]

    return np.array(half(ordered) + half(ordered[::-1]), dtype=np.float64).reshape(-1, 2)


def _turn(first: NDArray[np.float64], second: NDArray[np.float64], third: NDArray[np.float64]) -> float:
    one, other = second - first, third - first
    return float(one[0] * other[1] - one[1] * other[0])


def _derivative(homography: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """The derivative (2, 2) of the homography at a point."""
    x, y, depth = homography @ np.array([at[0], at[1], 1.0])
    rows: NDArray[np.float64] = (homography[:2, :2] - np.outer([x, y], homography[2, :2]) / depth) / depth
    return rows


def _at_centre(homography: NDArray[np.float64], corners: NDArray[np.float64]) -> tuple[float, float, float]:
    """Scale factor (1 or more), rotation in degrees, and stretch (1 or more) at the centre of a picture."""
    left, lengths, right = np.linalg.svd(_derivative(homography, corners.mean(axis=0)))
    turned = left @ right
    mean = float(np.sqrt(max(lengths[0] * lengths[1], 1e-12)))
    stretch = float(lengths[0] / max(lengths[1], 1e-9))
    rotation = abs(float(np.degrees(np.arctan2(turned[1, 0] - turned[0, 1], turned[0, 0] + turned[1, 1]))))
    return min(_LIMIT, max(mean, 1 / mean)), rotation, min(_LIMIT, stretch)


def _perspective(homography: NDArray[np.float64], corners: NDArray[np.float64]) -> float:
    areas = [abs(float(np.linalg.det(_derivative(homography, corner)))) for corner in corners]
    return min(_LIMIT, max(areas) / max(min(areas), 1e-12))
