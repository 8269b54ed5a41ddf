"""What all parts share: the folders that are kept between runs, and the size of the corpus."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.search.corpus import Corpus, CorpusSettings, Shape, make_corpus, terms_of
from benchmarks.search.engine import build

__all__ = ["FEW_LONG", "MANY_SHORT", "Bench"]

FEW_LONG = Shape(64, 16)
"""The shape of the goals."""

MANY_SHORT = Shape(128, 12)
"""The shape that finds most on photographs."""


@dataclass(frozen=True)
class Bench:
    """One run."""

    folder: Path
    """Indexes of ours and of peers stay here for the next run."""
    images: int
    seed: int
    photos: Path
    quick: bool = False

    @cached_property
    def corpus(self) -> Corpus:
        """The ordinary corpus."""
        return self.sized(self.images)

    def sized(self, images: int) -> Corpus:
        """The ordinary corpus at another size."""
        return make_corpus(CorpusSettings(images, seed=self.seed))

    def terms(self, shape: Shape) -> NDArray[np.uint32]:
        """The terms of the ordinary corpus."""
        return _terms(self, shape)

    def place(self, name: str) -> Path:
        """A folder of the cache; its name has size and seed."""
        return self.folder / f"{name}-{self.images}-{self.seed}"

    def index(self, shape: Shape) -> Path:
        """The folder of our index of the ordinary corpus; it is built if it is missing."""
        folder = self.place(f"ours-{shape.name}")
        build(folder, self.corpus, shape)
        return folder

    def seconds(self, full: float) -> float:
        """How long to measure something."""
        return full / 10 if self.quick else full


@cache
def _terms(bench: Bench, shape: Shape) -> NDArray[np.uint32]:
    return terms_of(bench.corpus.codes, shape)
