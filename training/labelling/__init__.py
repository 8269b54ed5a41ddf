"""Which pictures are near-duplicates by their geometry? The answers are labels for training."""

import os

__all__ = ["MAX_PIXELS"]

MAX_PIXELS = 100_000_000
"""Larger pictures are not read."""

# OpenCV reads this when it is loaded. Then it refuses a larger picture by its header, before it takes the memory.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
