"""FAISS as the index of a consumer that somebody writes: binary codes, nearest by hamming distance, in memory.

The codes are the bits that our terms are drawn from, so both search the same thing. A graph (HNSW) gets the smallest
effort whose candidates hold at least as many of the true copies as the term index proposes; Flat compares all codes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.pipeline.corpus import Mates

__all__ = ["Kind", "NearestCodes", "choose_effort", "has_faiss"]

Kind = Literal["hnsw", "flat"]

_EFFORTS = (16, 32, 64, 128, 256, 512, 1024)
_LINKS = 16
_BUILD_EFFORT = 40
_SAMPLE = 500


def has_faiss() -> bool:
    """Whether FAISS is installed."""
    return importlib.util.find_spec("faiss") is not None


class NearestCodes:
    """Codes by row, and the rows nearest to a code."""

    def __init__(self, kind: Kind, bits: int) -> None:
        """Makes an empty index for codes of so many bits."""
        import faiss

        if kind == "flat":
            self._index = faiss.IndexBinaryFlat(bits)
        else:
            self._index = faiss.IndexBinaryHNSW(bits, _LINKS)
            self._index.hnsw.efConstruction = _BUILD_EFFORT
        self.kind = kind

    def fill(self, codes: NDArray[np.uint8], kept: Path) -> None:
        """Adds the first codes. A graph of them is kept in a file, for it takes minutes to make."""
        import faiss

        if self.kind == "hnsw" and kept.exists():
            self._index = faiss.read_index_binary(str(kept))
            return
        self.add(codes)
        if self.kind == "hnsw":
            faiss.write_index_binary(self._index, str(kept))

    def set_effort(self, effort: int) -> None:
        """How many nodes of the graph a search keeps in view; Flat has no such setting."""
        if self.kind == "hnsw":
            self._index.hnsw.efSearch = effort

    def add(self, codes: NDArray[np.uint8]) -> None:
        """Adds codes (n, bytes); they get the next rows."""
        self._index.add(codes)

    def nearest(self, codes: NDArray[np.uint8], k: int) -> NDArray[np.int64]:
        """The rows nearest to each of these codes, best first: (n, k), -1 where there are fewer."""
        rows: NDArray[np.int64] = self._index.search(codes, k)[1]
        return rows


def choose_effort(index: Any, codes: NDArray[np.uint8], mates: Mates, k: int, wanted: float) -> tuple[int, float]:
    """Sets the smallest effort that finds the wanted share of copies, else the largest; the effort and its share.

    Args:
        index: Has the codes of all images.
        codes: The codes, by image.
        mates: Which images are copies of one another.
        k: Candidates of a search.
        wanted: The share of copies that an effort must find.
    """
    images = mates.sample(_SAMPLE, k)
    share = 0.0
    for effort in _EFFORTS:
        index.set_effort(effort)
        share = mates.recall(images, _others(index.nearest(codes[images], k + 1), images))
        if share >= wanted:
            break
    return effort, round(share, 4)


def _others(found: NDArray[np.int64], images: Sequence[int]) -> list[list[int]]:
    """The rows found for each image, without itself."""
    return [[row for row in rows.tolist() if row not in (image, -1)] for rows, image in zip(found, images, strict=True)]
