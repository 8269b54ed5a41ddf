"""Local features of pictures, their matches, and the homography between two pictures: the part that uses OpenCV.

SIFT features (Lowe, Distinctive Image Features from Scale-Invariant Keypoints, 2004), compared as square roots
(Arandjelovic and Zisserman, Three things everyone should know to improve object retrieval, 2012); a match counts if it
is clearly better than the second best and the same in both directions; then RANSAC. SIFT is invariant to rotation and
scale but not to mirroring, so the features of each mirrored picture are computed too. OpenCV's RANSAC has a fixed seed:
the same two pictures always give the same result.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError
from training.labelling import MAX_PIXELS
from training.labelling.verification import NO_MATCH, Verification, explain

__all__ = ["Picture", "describe_picture", "read_grey", "read_picture", "same_pixels", "verify"]

WORKING_SIDE = 512
"""Larger pictures are scaled down to this longest side, in pixels."""

MAX_FILE_BYTES = 64 << 20

MAX_POINTS = 500
"""Local features of one picture, at most; the strongest are kept."""

RATIO = 0.8
"""The best match must be closer than this fraction of the distance of the second best."""

_REPROJECTION_PX = 3.0
_RANSAC_ROUNDS = 1000
_MIN_MATCHES = 6
"""Any four points fit a homography exactly."""

_TILES = 6
"""The common area is compared in this many rows and columns of tiles."""

_TILE_PIXELS = 16

_EVEN = 16.0
"""Tiles whose grey values have a smaller variance are not compared."""

cv2.setNumThreads(1)

_SIFT = cv2.SIFT_create(nfeatures=MAX_POINTS, contrastThreshold=0.03)  # type: ignore[attr-defined, unused-ignore]


@dataclass(frozen=True, eq=False, slots=True)
class _Points:
    """Local features: positions `where` (n, 2) as x, y, and descriptors `what` (n, 128) of length 1."""

    where: NDArray[np.float64]
    what: NDArray[np.float32]


@dataclass(frozen=True, eq=False, slots=True)
class Picture:
    """A picture's grey values, its local features, and those of its mirror image."""

    grey: NDArray[np.uint8]
    points: _Points
    mirrored: _Points

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.grey.shape[1], self.grey.shape[0]

    @property
    def tells(self) -> bool:
        """Whether it has enough local features to be matched; a flat or very blurred picture has not."""
        return len(self.points.where) >= _MIN_MATCHES


def read_picture(path: Path) -> Picture:
    """Reads a picture file and computes its local features.

    Raises:
        BadInputError: It is missing, not a picture, or too large.
    """
    return describe_picture(read_grey(path))


def read_grey(path: Path) -> NDArray[np.uint8]:
    """A picture's grey values (height, width), longest side at most `WORKING_SIDE`.

    Raises:
        BadInputError: It is missing, not a picture, or too large.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise BadInputError(f"the picture {path} has {size} bytes, at most {MAX_FILE_BYTES} are read")
        content = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    except OSError as error:
        raise BadInputError(f"the picture {path} cannot be read: {error.strerror}") from error
    try:
        grey = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE) if len(content) else None
    except cv2.error as error:
        if "CV_IO_MAX_IMAGE_PIXELS" in str(error):
            raise BadInputError(f"the picture {path} has more pixels than the {MAX_PIXELS} that are read") from error
        raise BadInputError(f"the picture {path} cannot be decoded: {error.err or error}") from error
    if grey is None:
        raise BadInputError(f"{path} cannot be decoded as a picture ({size} bytes)")
    if grey.size > MAX_PIXELS:
        raise BadInputError(f"the picture {path} has more pixels than the {MAX_PIXELS} that are read")
    return _scaled_down(grey)


def describe_picture(grey: NDArray[np.uint8]) -> Picture:
    """Computes the local features of a picture and of its mirror image. `grey`: (height, width)."""
    return Picture(grey, _points(grey), _points(cv2.flip(grey, 1)))


def same_pixels(first: Path, second: Path) -> bool:
    """Whether two picture files, which `read_grey` can read, have equal bytes or equal pixels in all colours."""
    contents = first.read_bytes(), second.read_bytes()
    if contents[0] == contents[1]:
        return True
    one, other = (cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED) for content in contents)
    return one is not None and other is not None and bool(np.array_equal(one, other))


def verify(first: Picture, second: Picture) -> Verification:
    """The features of a pair. The second picture is taken as it is or mirrored, whichever gives more inliers."""
    plain = _verify(first, second.grey, second.points)
    mirrored = _verify(first, cv2.flip(second.grey, 1), second.mirrored)
    return plain if plain.inliers >= mirrored.inliers else replace(mirrored, mirrored=1.0)


def _scaled_down(grey: Any) -> NDArray[np.uint8]:
    longest = max(grey.shape)
    if longest > WORKING_SIDE:
        share = WORKING_SIDE / longest
        size = (max(1, round(grey.shape[1] * share)), max(1, round(grey.shape[0] * share)))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    made: NDArray[np.uint8] = np.ascontiguousarray(grey)
    return made


def _points(grey: Any) -> _Points:
    found, described = _SIFT.detectAndCompute(grey, None)
    if described is None:
        return _Points(np.empty((0, 2)), np.empty((0, 128), dtype=np.float32))
    shares = described / np.maximum(described.sum(axis=1, keepdims=True), 1e-6)
    where = np.array([point.pt for point in found], dtype=np.float64)
    return _Points(where[:MAX_POINTS], np.sqrt(shares)[:MAX_POINTS].astype(np.float32))


def _verify(first: Picture, second_grey: Any, second: _Points) -> Verification:
    rows, columns = _matches(first.points.what, second.what)
    if len(rows) < _MIN_MATCHES:
        return NO_MATCH
    source, target = first.points.where[rows], second.where[columns]
    homography, mask = cv2.findHomography(
        source, target, cv2.RANSAC, _REPROJECTION_PX, maxIters=_RANSAC_ROUNDS, confidence=0.995
    )
    if homography is None or abs(np.linalg.det(homography)) < 1e-9:
        return NO_MATCH
    size = second_grey.shape[1], second_grey.shape[0]
    found = explain(
        homography,
        source,
        target,
        mask.ravel().astype(np.bool_),
        (len(first.points.where), len(second.where)),
        (first.size, size),
    )
    if not found.inliers:
        return found
    median, quarter = _correlation(first.grey, second_grey, homography)
    return replace(found, correlation=median, correlation_quarter=quarter)


def _matches(first: NDArray[np.float32], second: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of points that are each other's best match, clearly better than the second best of both."""
    if min(len(first), len(second)) < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    distances = 2 - 2 * (first @ second.T)
    best_column, best_row = distances.argmin(axis=1), distances.argmin(axis=0)
    rows = np.flatnonzero(best_row[best_column] == np.arange(len(first)))
    columns = best_column[rows]
    # Distances are squared, so the ratio is squared too.
    best = np.maximum(distances[rows, columns], 0)
    second_in_row = np.partition(distances[rows], 1, axis=1)[:, 1]
    second_in_column = np.partition(distances[:, columns], 1, axis=0)[1]
    clear = best < RATIO**2 * np.minimum(second_in_row, second_in_column)
    return rows[clear], columns[clear]


def _correlation(first: Any, second: Any, homography: NDArray[np.float64]) -> tuple[float, float]:
    """Correlation of the blurred grey values in the common area: median and lower quartile over tiles.

    The median ignores a caption or logo that only one of the two pictures has. The lower quartile reveals two
    photographs that have only a broad frame in common.
    """
    size = second.shape[1], second.shape[0]
    moved = cv2.warpPerspective(cv2.GaussianBlur(first, (5, 5), 0), homography, size)
    common = cv2.warpPerspective(np.full_like(first, 255), homography, size) == 255
    other = cv2.GaussianBlur(second, (5, 5), 0)
    rows, columns = np.flatnonzero(common.any(axis=1)), np.flatnonzero(common.any(axis=0))
    if not len(rows) or not len(columns):
        return 0.0, 0.0
    found = []
    for top, bottom in _tiles(int(rows[0]), int(rows[-1]) + 1):
        for left, right in _tiles(int(columns[0]), int(columns[-1]) + 1):
            window = slice(top, bottom), slice(left, right)
            shown = common[window]
            if 2 * int(shown.sum()) >= shown.size:
                found.append(_pearson(moved[window][shown], other[window][shown]))
    known = [value for value in found if value is not None]
    return (float(np.median(known)), float(np.quantile(known, 0.25))) if known else (0.0, 0.0)


def _tiles(start: int, stop: int) -> list[tuple[int, int]]:
    edges = np.linspace(start, stop, _TILES + 1).astype(int).tolist()
    return [(low, high) for low, high in itertools.pairwise(edges) if high > low]


def _pearson(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float | None:
    """None if either is almost uniform: the result would be noise."""
    first, second = one.astype(np.float64), other.astype(np.float64)
    first -= first.mean()
    second -= second.mean()
    norms = float((first * first).sum()), float((second * second).sum())
    if len(first) < _TILE_PIXELS or min(norms) < _EVEN * len(first):
        return None
    return float((first * second).sum()) / float(np.sqrt(norms[0] * norms[1]))
