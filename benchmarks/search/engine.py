"""The term index under measurement: built from a corpus, opened in process."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.search.corpus import BITS, Corpus, Shape, terms_of
from search.index.folder import Identity
from search.index.interface import Insert, TermIndex
from search.index.opening import open_term_index
from search.index.settings import DEFAULT_MAX_POSTINGS, IndexSettings
from search.types import ImageId

__all__ = ["LOG_ID", "build", "index_settings", "inserts", "opened"]

LOG_ID = "benchmark"
"""The log that the corpus is said to come from."""

_CHUNK = 1024


def index_settings(
    shape: Shape, k: int = 100, *, sync: bool = False, max_postings: int = DEFAULT_MAX_POSTINGS
) -> IndexSettings:
    """Settings of an index of terms of a shape; folders of other shapes are refused."""
    return IndexSettings(
        groups=shape.groups,
        bits_per_group=shape.bits_per_group,
        min_overlap=1,
        candidates=k,
        code_bytes=BITS // 8,
        identity=Identity(shape.name, "", {}),
        sync=sync,
        max_postings=max_postings,
    )


def inserts(terms: NDArray[np.uint32], codes: NDArray[np.uint8], first: int) -> list[Insert]:
    """Records of consecutive offsets."""
    return [
        Insert(first + row, 0, image_id(first + row), 1, terms[row], codes[row].tobytes()) for row in range(len(terms))
    ]


def image_id(place: int) -> ImageId:
    """The name of a place's image: eleven bytes, as short as real ones get."""
    return ImageId(f"i-{place:09d}")


def build(folder: Path, corpus: Corpus, shape: Shape) -> float:
    """Fills a folder with the corpus, unless that was done before; returns the seconds it took."""
    took = folder / "took.txt"
    if not took.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        started = time.perf_counter()
        _fill(folder / "index", corpus, shape)
        took.write_text(f"{time.perf_counter() - started:.3f}")
    return float(took.read_text())


def _fill(folder: Path, corpus: Corpus, shape: Shape) -> None:
    index = open_term_index(folder, index_settings(shape, k=1))
    try:
        for first in range(0, len(corpus.codes), _CHUNK):
            codes = corpus.codes[first : first + _CHUNK]
            index.insert_and_search(LOG_ID, inserts(terms_of(codes, shape), codes, first))
    finally:
        index.close()


@contextmanager
def opened(folder: Path, settings: IndexSettings) -> Iterator[TermIndex]:
    """A built index, open."""
    index = open_term_index(folder / "index", settings)
    try:
        yield index
    finally:
        index.close()
