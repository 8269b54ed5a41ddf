"""The images of a run: their file, their ids, and which of them are copies of one original."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.synthetic import SyntheticSettings, Universe, write_images
from manifests.image_files import ImageFile, ImageRow
from stream.demo.sample import SAMPLE
from stream.settings import Settings

__all__ = ["Mates", "image_name", "image_number", "make_images", "open_images", "originals_of", "parts_of"]


def image_name(number: int) -> str:
    """The id of an image."""
    return f"image-{number:08d}"


def image_number(name: str) -> int:
    """The number of an image."""
    return int(name.partition("-")[2])


def open_images(settings: Settings, path: Path) -> ImageFile:
    """The file of the images, of the default signal."""
    _, signal = settings.signal()
    return ImageFile(path, signal.search_embedding.dimension, signal.score_embedding.dimension)


def make_images(settings: Settings, path: Path, count: int, seed: int) -> ImageFile:
    """Writes synthetic images into a file, and the numbers of their originals beside it."""
    universe = Universe(settings.path(SAMPLE), SyntheticSettings(seed=seed))
    originals = write_images(universe, path, [image_name(number) for number in range(count)])
    np.save(path.with_suffix(".npy"), originals)
    return open_images(settings, path)


def originals_of(path: Path) -> NDArray[np.int64]:
    """The number of the original of each image of a file, (images,)."""
    originals: NDArray[np.int64] = np.load(path.with_suffix(".npy"))
    return originals


def parts_of(rows: Iterator[ImageRow], count: int, size: int) -> Iterator[list[ImageRow]]:
    """The next `count` rows, in lists of `size`; the last list may be shorter."""
    while part := list(islice(rows, min(size, count))):
        count -= len(part)
        yield part


class Mates:
    """The mates of each image: the others with its original."""

    def __init__(self, originals: NDArray[np.int64]) -> None:
        """Takes the original of each image, (n,)."""
        self._originals = originals
        self._by_original = np.argsort(originals, kind="stable")
        self._sorted = originals[self._by_original]

    def of(self, image: int) -> NDArray[np.int64]:
        """The numbers of its mates."""
        first, last = np.searchsorted(self._sorted, self._originals[image] + np.array([0, 1]))
        members = self._by_original[first:last]
        return members[members != image]

    def sample(self, count: int, most: int, seed: int = 11) -> list[int]:
        """Images that have mates, but not more than `most`; at most `count` of them."""
        sizes = np.bincount(self._originals)[self._originals]
        eligible = np.flatnonzero((sizes >= 2) & (sizes <= most + 1))
        return [int(each) for each in np.random.default_rng(seed).permutation(eligible)[:count]]

    def recall(self, images: Sequence[int], found: Iterable[Iterable[int]]) -> float:
        """The mean share of their mates that searches for these images found."""
        shares = [
            len(set(self.of(image).tolist()) & set(numbers)) / len(self.of(image))
            for image, numbers in zip(images, found, strict=True)
        ]
        return float(np.mean(shares)) if shares else 0.0
