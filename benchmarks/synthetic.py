"""Any number of synthetic near-duplicates in the space of the sample's embeddings; one seed gives the same images.

An original is drawn from a normal distribution with the mean and covariance of the sample's photographs. So originals
are as close to each other as photographs are, and the term index has the same density. A copy is its original plus a
small draw of the same kind. Both embeddings of an image use the same weights, so they agree about what is similar.

An image is an original with probability 1 / `mean_size`. Otherwise it copies the original of an earlier image, drawn
uniformly. So large clusters grow fastest, and cluster sizes are as skewed as in real collections.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

__all__ = ["SyntheticSettings", "Universe", "write_images"]

_CHUNK = 1_000


@dataclass(frozen=True, slots=True)
class SyntheticSettings:
    """What images to make."""

    seed: int = 1
    mean_size: float = 6.0
    """Images per cluster, on average."""
    basis: int = 256
    """The number of photographs that span the space."""
    spread: float = 0.2
    """The largest distance of a copy from its original, relative to the spread of the photographs."""
    first_numbers: tuple[int, int] | None = None
    """Embeddings have so many of the numbers of search and score embeddings, from the first on, and the mean 0: what a
    benchmark takes that needs more images than there is disk for. None: they are whole."""


class Universe:
    """The space of embeddings: mean and spread of the sample's photographs."""

    def __init__(self, sample: Path, settings: SyntheticSettings) -> None:
        """Reads the photographs of the sample (not its edited copies) and picks the basis."""
        table = pq.read_table(sample, columns=["kind", "search", "score"])
        photographs = np.flatnonzero(table.column("kind").to_numpy(zero_copy_only=False) != "edit")
        chosen = np.random.default_rng(settings.seed).permutation(photographs)[: settings.basis]
        self.settings = settings
        self._means = []
        self._spans = []
        for name, first in zip(("search", "score"), settings.first_numbers or (None, None), strict=True):
            vectors = _matrix(table.column(name))[:, :first]
            mean = vectors[photographs].mean(axis=0)
            self._means.append(mean if first is None else np.zeros_like(mean))
            self._spans.append((vectors[chosen] - mean) / np.sqrt(len(chosen)))
        self._rank = len(chosen)

    @property
    def dimensions(self) -> tuple[int, int]:
        """Of search and score embeddings."""
        search, score = self._means
        return len(search), len(score)

    def originals(self, count: int) -> NDArray[np.int64]:
        """The number of each image's original, (count,); an original has its own number."""
        rng = np.random.default_rng((self.settings.seed, 1))
        fresh = rng.random(count) < 1 / self.settings.mean_size
        drawn = rng.random(count)
        of = np.empty(count, dtype=np.int64)
        for image in range(count):
            of[image] = image if fresh[image] or image == 0 else of[int(drawn[image] * image)]
        return of

    def vectors(self, images: NDArray[np.int64], originals: NDArray[np.int64]) -> list[NDArray[np.float16]]:
        """Search and score embeddings, (n, 1280) and (n, 768); a row depends only on its image and original."""
        weights = np.stack([self._weights(image, original) for image, original in zip(images, originals, strict=True)])
        return [(mean + weights @ span).astype(np.float16) for mean, span in zip(self._means, self._spans, strict=True)]

    def _weights(self, image: int, original: int) -> NDArray[np.float32]:
        seed = self.settings.seed
        weights = np.random.default_rng((seed, 2, int(original))).standard_normal(self._rank, dtype=np.float32)
        if image != original:
            rng = np.random.default_rng((seed, 3, int(image)))
            weights += np.float32(rng.random() * self.settings.spread) * rng.standard_normal(
                self._rank, dtype=np.float32
            )
        return weights


def write_images(universe: Universe, path: Path, names: list[str]) -> NDArray[np.int64]:
    """Writes images with these ids to a file for `neardup publish`; returns the numbers of their originals."""
    originals = universe.originals(len(names))
    with pq.ParquetWriter(path, _SCHEMA, compression="none") as writer:
        for batch in _batches(universe, names, originals):
            writer.write_batch(batch)
    return originals


def _batches(universe: Universe, names: list[str], originals: NDArray[np.int64]) -> Iterator[Any]:
    for first in range(0, len(names), _CHUNK):
        images = np.arange(first, min(first + _CHUNK, len(names)))
        search, score = universe.vectors(images, originals[images])
        yield pa.record_batch(
            [
                pa.array(names[first : first + _CHUNK]),
                pa.FixedSizeListArray.from_arrays(pa.array(search.ravel()), search.shape[1]),
                pa.FixedSizeListArray.from_arrays(pa.array(score.ravel()), score.shape[1]),
            ],
            schema=_SCHEMA,
        )


_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("search", pa.list_(pa.float16(), 1280)),
        ("score", pa.list_(pa.float16(), 768)),
    ]
)


def _matrix(column: Any) -> NDArray[np.float32]:
    values: NDArray[Any] = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return values.astype(np.float32).reshape(len(column), -1)
