"""Geometric verification: what the homography between two pictures says of whether one was made from the other. Pure.

The matched points come from local features, the homography from RANSAC (`training.labelling.matching`). A homography is
found between almost any two pictures with enough matches, so what counts is how much of them it explains (inliers),
over how much of the picture (overlap, spread), how well (residual, correlation of the grey values), and whether it is
one that an edit makes (scale, stretch, perspective).

Source: Hartley and Zisserman, Multiple View Geometry, chapters 2 (homographies) and 4 (RANSAC); Sutherland and Hodgman,
Reentrant Polygon Clipping, 1974.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields

import numpy as np
from numpy.typing import NDArray

__all__ = ["FEATURES", "NO_MATCH", "Verification", "explain", "polygon_area"]

_LIMIT = 1000.0
"""Ratios are cut here: a degenerate homography gives any number."""


@dataclass(frozen=True, slots=True)
class Verification:
    """The features of one pair. All are symmetric up to the rounding of the pictures' sampling."""

    matches: float
    """Points whose best match is clearly better than the second, in both directions."""
    inliers: float
    """Matches that the homography explains."""
    inlier_ratio: float
    """Inliers of matches."""
    matched_share: float
    """Inliers of the points of the picture that has fewer."""
    overlap_smaller: float
    """The share of a picture's area that the other shows, of the picture where it is smaller."""
    overlap_larger: float
    """The same, where it is larger: near 1 for a crop and its original."""
    spread: float
    """Area that the inliers span, as a share of the common area: small if only a logo or a caption is common."""
    residual: float
    """Median distance in pixels of an inlier from where the homography puts it."""
    scale: float
    """Enlargement at the centre, 1 or more."""
    rotation: float
    """Degrees, 0 to 180."""
    stretch: float
    """Ratio of the enlargements along the two axes, 1 or more."""
    perspective: float
    """Ratio of the largest and the smallest enlargement of area over the picture, 1 or more."""
    correlation: float
    """Of the grey values, median over tiles of the common area, -1 to 1; 0 where nothing is common."""
    correlation_quarter: float = 0.0
    """The same, the lower quartile over tiles."""
    mirrored: float = 0.0
    """1: the second picture was mirrored to match."""

    def values(self) -> tuple[float, ...]:
        """In the order of `FEATURES`."""
        return astuple(self)


FEATURES = tuple(item.name for item in fields(Verification))
"""The names of the features, in order."""

NO_MATCH = Verification(0, 0, 0, 0, 0, 0, 0, _LIMIT, _LIMIT, 0, _LIMIT, _LIMIT, 0)
"""Two pictures without a homography between them."""


def explain(
    homography: NDArray[np.float64],
    source: NDArray[np.float64],
    target: NDArray[np.float64],
    inlier: NDArray[np.bool_],
    points: tuple[int, int],
    sizes: tuple[tuple[int, int], tuple[int, int]],
) -> Verification:
    """The features that geometry gives; the grey values' correlation is left 0.

    Args:
        homography: (3, 3), from the first picture to the second.
        source: Matched points (n, 2) x, y in the first picture.
        target: Theirs in the second.
        inlier: (n) which the homography explains.
        points: How many local features either picture has.
        sizes: (width, height) of the pictures.
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
    """Area of a polygon with corners (n, 2); 0 with fewer than three."""
    if len(corners) < 3:
        return 0.0
    x, y = corners.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _corners(size: tuple[int, int]) -> NDArray[np.float64]:
    width, height = size
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float64)


def _moved(homography: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Points under a homography; None if some lie on or beyond its horizon."""
    lifted = np.column_stack([points, np.ones(len(points))]) @ homography.T
    depth = lifted[:, 2]
    if not np.isfinite(lifted).all() or (np.abs(depth) < 1e-9).any() or (np.sign(depth) != np.sign(depth[0])).any():
        return None
    found: NDArray[np.float64] = lifted[:, :2] / depth[:, None]
    return found


def _clipped(polygon: NDArray[np.float64], window: NDArray[np.float64]) -> NDArray[np.float64]:
    """The part of a convex polygon inside a convex window whose corners go clockwise on the screen."""
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
    """The (2, 2) matrix that the homography is like near a point."""
    x, y, depth = homography @ np.array([at[0], at[1], 1.0])
    rows: NDArray[np.float64] = (homography[:2, :2] - np.outer([x, y], homography[2, :2]) / depth) / depth
    return rows


def _at_centre(homography: NDArray[np.float64], corners: NDArray[np.float64]) -> tuple[float, float, float]:
    """Enlargement (1 or more), rotation in degrees, and stretch (1 or more) at a picture's centre."""
    left, lengths, right = np.linalg.svd(_derivative(homography, corners.mean(axis=0)))
    turned = left @ right
    mean = float(np.sqrt(max(lengths[0] * lengths[1], 1e-12)))
    stretch = float(lengths[0] / max(lengths[1], 1e-9))
    rotation = abs(float(np.degrees(np.arctan2(turned[1, 0] - turned[0, 1], turned[0, 0] + turned[1, 1]))))
    return min(_LIMIT, max(mean, 1 / mean)), rotation, min(_LIMIT, stretch)


def _perspective(homography: NDArray[np.float64], corners: NDArray[np.float64]) -> float:
    areas = [abs(float(np.linalg.det(_derivative(homography, corner)))) for corner in corners]
    return min(_LIMIT, max(areas) / max(min(areas), 1e-12))
