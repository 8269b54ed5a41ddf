"""Edits of labelled photographs, so that the tree is trained on more kinds of copies than the labels have.

Also here: different pictures that geometry easily takes for copies, such as two photographs with the same caption, logo
or frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["EDITS", "with_same_caption", "with_same_frame", "with_same_logo"]

Grey = NDArray[np.uint8]
"""Grey values (height, width)."""

Edit = Callable[[Grey, np.random.Generator], Grey]


def _crop(grey: Grey, random: np.random.Generator) -> Grey:
    share = random.uniform(0.5, 0.9)
    height, width = (max(16, round(length * share)) for length in grey.shape)
    top, left = (
        int(random.integers(0, length - kept + 1)) for length, kept in zip(grey.shape, (height, width), strict=True)
    )
    return grey[top : top + height, left : left + width]


def _turned(grey: Grey, random: np.random.Generator) -> Grey:
    height, width = grey.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), float(random.uniform(-25, 25)), 1.0)
    return _grey(cv2.warpAffine(grey, turn, (width, height), borderMode=cv2.BORDER_REPLICATE))


def _resized(grey: Grey, random: np.random.Generator) -> Grey:
    share = float(random.uniform(0.4, 0.9))
    return _grey(cv2.resize(grey, None, fx=share, fy=share, interpolation=cv2.INTER_AREA))


def _stretched(grey: Grey, random: np.random.Generator) -> Grey:
    return _grey(cv2.resize(grey, None, fx=1.0, fy=float(random.uniform(0.7, 0.9)), interpolation=cv2.INTER_AREA))


def _tilted(grey: Grey, random: np.random.Generator) -> Grey:
    height, width = grey.shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
    moved = corners + random.uniform(-0.12, 0.12, (4, 2)).astype(np.float32) * np.array([width, height], np.float32)
    tilt = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    return _grey(cv2.warpPerspective(grey, tilt, (width, height), borderMode=cv2.BORDER_REPLICATE))


def _blurred(grey: Grey, random: np.random.Generator) -> Grey:
    return _grey(cv2.GaussianBlur(grey, (0, 0), float(random.uniform(0.8, 2.0))))


def _noisy(grey: Grey, random: np.random.Generator) -> Grey:
    return _clipped(grey + random.normal(0, random.uniform(5, 20), grey.shape))


def _other_light(grey: Grey, random: np.random.Generator) -> Grey:
    values = (grey / 255.0) ** random.uniform(0.6, 1.6)
    return _clipped(255 * values * random.uniform(0.6, 1.2))


def _recompressed(grey: Grey, random: np.random.Generator) -> Grey:
    _, content = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(10, 50))])
    return _grey(cv2.imdecode(content, cv2.IMREAD_GRAYSCALE))


def _screenshot(grey: Grey, random: np.random.Generator) -> Grey:
    height, width = grey.shape
    page = np.full((round(height * 1.8), round(width * 1.3)), int(random.integers(0, 256)), dtype=np.uint8)
    top = int(random.integers(0, page.shape[0] - height + 1))
    left = int(random.integers(0, page.shape[1] - width + 1))
    page[top : top + height, left : left + width] = grey
    return with_same_caption(page, int(random.integers(1000)))


EDITS: Mapping[str, Edit] = {
    "crop": _crop,
    "turn": _turned,
    "quarter turn": lambda grey, random: np.ascontiguousarray(np.rot90(grey)),
    "mirror": lambda grey, random: np.ascontiguousarray(grey[:, ::-1]),
    "mirrored crop": lambda grey, random: np.ascontiguousarray(_crop(grey, random)[:, ::-1]),
    "resize": _resized,
    "stretch": _stretched,
    "tilt": _tilted,
    "blur": _blurred,
    "noise": _noisy,
    "light": _other_light,
    "jpeg": _recompressed,
    "screenshot": _screenshot,
    "caption": lambda grey, random: with_same_caption(grey, int(random.integers(1000))),
    "logo": lambda grey, random: with_same_logo(grey, int(random.integers(1000))),
    "frame": lambda grey, random: with_same_frame(grey, int(random.integers(1000))),
    "crop, light, jpeg": lambda grey, random: _recompressed(_other_light(_crop(grey, random), random), random),
}
"""Edits that make a copy, by name; each takes grey values and a random generator."""


def with_same_caption(grey: Grey, number: int) -> Grey:
    """The picture with a caption across it; equal numbers give equal captions."""
    random = np.random.default_rng(number)
    text = "".join(chr(int(random.integers(65, 91))) for _ in range(9))
    made = grey.copy()
    size = max(0.5, grey.shape[1] / 220)
    bottom = int(grey.shape[0] * random.uniform(0.3, 0.95))
    cv2.putText(made, text, (5, bottom), cv2.FONT_HERSHEY_SIMPLEX, size, 255, max(1, round(2 * size)))
    return made


def with_same_logo(grey: Grey, number: int) -> Grey:
    """The picture with a patch of texture in a corner; equal numbers give equal patches."""
    random = np.random.default_rng(number)
    side = max(8, round(min(grey.shape) * 0.3))
    texture = random.integers(0, 256, (12, 12)).astype(np.uint8)
    made = grey.copy()
    made[-side:, -side:] = cv2.resize(texture, (side, side), interpolation=cv2.INTER_CUBIC)
    return made


def with_same_frame(grey: Grey, number: int) -> Grey:
    """The picture in a broad frame with ornaments; equal numbers give equal frames."""
    random = np.random.default_rng(number)
    width = max(6, round(min(grey.shape) * 0.14))
    height_all, width_all = grey.shape[0] + 2 * width, grey.shape[1] + 2 * width
    texture = random.integers(0, 256, (24, 24)).astype(np.uint8)
    made = _grey(cv2.resize(texture, (width_all, height_all), interpolation=cv2.INTER_CUBIC))
    made[width:-width, width:-width] = grey
    return made


def _clipped(values: Any) -> Grey:
    return _grey(np.clip(np.rint(values), 0, 255))


def _grey(made: Any) -> Grey:
    found: Grey = np.ascontiguousarray(made, dtype=np.uint8)
    return found
